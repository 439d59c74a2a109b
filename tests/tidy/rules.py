"""The rules of the house, as functions from a source tree to complaints. Standard library only.

A complaint names file, line and remedy. ``test_tidy.py`` runs every rule on this repository and,
so that a rule which no longer sees anything is noticed, on small trees with planted faults.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FLOORS = (  # a package may import only from floors below its own
    {"domain"},
    {"placement", "launch", "wire"},
    {"policy"},
    {"engine"},
    {"store", "backends", "agent", "telemetry"},
    {"registry", "serving"},
    {"api", "web", "cli", "integrations"},
    {"daemon"},
)
FLOOR_OF = {package: floor for floor, packages in enumerate(FLOORS) for package in packages}
EDGE_FLOOR = 4  # from here up, code may touch the world

ONLY = {  # a foreign library is known to these packages and to no other
    "grpc": {"wire"},
    "grpc_health": {"wire"},
    "grpc_reflection": {"wire"},
    "grpc_status": {"wire"},
    "google": {"wire"},
    "gpusched.v1": {"wire"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "psycopg": {"store"},
    "pynvml": {"agent"},
    "pyslurm": {"backends"},
    "submitit": {"backends", "integrations"},
    "numpy": {"placement", "policy", "engine"},
    "pydantic": {"cli", "daemon"},  # the two doors through which files come
    "yaml": {"cli", "daemon"},
    "matplotlib": {"daemon"},
    "pyarrow": {"daemon"},
    "jwt": {"api"},
    "cryptography": {"api", "agent"},  # the CA; and a node's own key, which never leaves it
    "rich": {"cli"},
    "torch": set(),  # the user's, never ours
}
NARROW = {  # separate processes start fast and install light
    "cli": {"domain", "wire"},
    "agent": {"domain", "wire"},
    "integrations": {"domain", "wire"},
}
HANDS = {"subprocess", "socket", "multiprocessing", "threading"}  # what the core has none of
FROM_OUTSIDE = (  # modules that nothing here names
    "gpusched.__main__",  # python -m gpusched
    "gpusched.cli.reference",  # make docs
    "gpusched.daemon.ca_commands",  # these two: entry points of pyproject.toml
    "gpusched.daemon.simulate",
    "gpusched.store.migrations.",  # alembic, by folder
)
CORE = {"domain", "placement", "launch", "policy", "engine"}
CLOCKS = {"time", "random", "secrets"}
CLOCK_CALLS = {("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today"), ("date", "today")}
NAMELESS = {"utils", "util", "helpers", "helper", "manager", "base", "common", "impl", "misc"}
MODULE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One parsed file. ``name`` is dotted and ``package`` its part below ``gpusched``, if it has one."""

    path: Path
    name: str
    text: str
    tree: ast.Module = field(repr=False)

    @property
    def package(self) -> str | None:
        parts = self.name.split(".")
        is_package = self.path.name == "__init__.py"
        return parts[1] if len(parts) > 2 or (len(parts) == 2 and is_package) else None

    def at(self, node: ast.AST | int, remedy: str) -> str:
        line = node if isinstance(node, int) else node.lineno  # type: ignore[attr-defined]
        return f"{self.path}:{line}: {remedy}"


def load(source: Path, name: str = "gpusched") -> tuple[Module, ...]:
    """Parse every file below ``source``, the folder of package ``name``; generated code is left out."""
    modules = []
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        if parts[0] == "v1" or "__pycache__" in parts:
            continue
        dotted = ".".join((name, *parts)).removesuffix(".__init__")
        text = path.read_text(encoding="utf-8")
        modules.append(Module(path, dotted, text, ast.parse(text, str(path))))
    return tuple(modules)


def imports(module: Module, known: frozenset[str]) -> Iterator[tuple[ast.AST, str]]:
    """Every module that ``module`` names, also inside functions, as (node, dotted name)."""
    own = module.name.split(".")
    parent = own if module.path.name == "__init__.py" else own[:-1]
    for node in ast.walk(module.tree):
        match node:
            case ast.Import():
                yield from ((node, alias.name) for alias in node.names)
            case ast.ImportFrom():
                above = parent[: len(parent) - node.level + 1] if node.level else []
                origin = ".".join([*above, *([node.module] if node.module else [])])
                full = (f"{origin}.{alias.name}" for alias in node.names)
                named = {name if name in known or origin == "gpusched" else origin for name in full}
                yield from ((node, name) for name in sorted(named))
            case ast.Call(args=[ast.Constant(value=str(name)), *_]) if _called(node) in {
                "import_module",
                "__import__",
            }:
                yield node, name


def _called(call: ast.Call) -> str:
    return ast.unparse(call.func).split(".")[-1]


def floors(modules: tuple[Module, ...]) -> Iterator[str]:
    """Every package has a floor, imports point down, separate processes stay narrow."""
    known = frozenset(module.name for module in modules)
    packages = {module.package for module in modules}
    for module in modules:
        here = module.package
        if here is None:
            continue
        if here not in FLOOR_OF:
            yield module.at(1, f"package {here} has no floor: give it one in FLOORS, or move it")
            continue
        for node, name in imports(module, known):
            parts = name.split(".")
            if parts[0] != "gpusched" or parts[1:2] in ([], [here], ["v1"]) or parts[1] not in packages:
                continue
            there = parts[1]
            if FLOOR_OF.get(there, 0) >= FLOOR_OF[here]:
                yield module.at(
                    node, f"{here} may not import {there}: imports point down; move what both need to domain"
                )
            elif here in NARROW and there not in NARROW[here]:
                yield module.at(node, f"{here} may import only {' and '.join(sorted(NARROW[here]))}")


def owners(modules: tuple[Module, ...]) -> Iterator[str]:
    """A foreign library is known to its owner only; domain and shim know none but the standard library."""
    known = frozenset(module.name for module in modules)
    for module in modules:
        is_shim = module.name.startswith("gpusched.agent.shim")
        is_plain = is_shim or module.package == "domain"
        own = ("gpusched.agent.shim", "gpusched.domain") if is_shim else ("gpusched.domain",)
        for node, name in imports(module, known):
            for library, allowed in ONLY.items():
                if (name == library or name.startswith(library + ".")) and module.package not in allowed:
                    who = " and ".join(sorted(allowed)) or "no package"
                    yield module.at(
                        node, f"{library} is known to {who} only: ask its owner for a plain value"
                    )
            if is_plain and name.split(".")[0] not in sys.stdlib_module_names and not name.startswith(own):
                yield module.at(node, f"domain and the shim are standard library only: not {name}")


def cycles(modules: tuple[Module, ...]) -> Iterator[str]:
    """No module reaches itself through imports, imports inside functions included."""
    known = frozenset(module.name for module in modules)
    edges = {
        module.name: {name for _, name in imports(module, known) if name in known and name != module.name}
        for module in modules
    }
    for module in modules:
        seen: set[str] = set()
        frontier = set(edges[module.name])
        while frontier - seen:
            seen |= frontier
            frontier = set().union(*(edges[name] for name in frontier))
        if module.name in seen:
            yield module.at(1, "stands in an import cycle: move what both need to a module below")


def orphans(modules: tuple[Module, ...]) -> Iterator[str]:
    """Every module is imported by another, or named in one as a string: ``"gpusched.cli.run:run"``."""
    known = frozenset(module.name for module in modules)
    named: set[str] = set()
    for module in modules:
        found = {name for _, name in imports(module, known)}
        found |= {
            name
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
            for name in re.findall(r"\bgpusched(?:\.\w+)+", node.value)
        }
        named |= found - {module.name}
    for module in modules:
        is_door = module.path.name == "__init__.py"
        if not is_door and module.name not in named and not module.name.startswith(FROM_OUTSIDE):
            yield module.at(1, "nothing in the source uses it: delete it, or move it to who does")


def core(modules: tuple[Module, ...]) -> Iterator[str]:
    """Below the edge there is no clock, no dice, no print; in the core no hands either."""
    known = frozenset(module.name for module in modules)
    for module in modules:
        if module.package is None or FLOOR_OF.get(module.package, EDGE_FLOOR) >= EDGE_FLOOR:
            continue
        for node, name in imports(module, known):
            top = name.split(".")[0]
            if top in CLOCKS:
                yield module.at(
                    node, f"no {top} below the edge: take a Clock, an instant or a seed as argument"
                )
            if top in HANDS and module.package in CORE:
                yield module.at(node, f"the core has no hands: {top} belongs to floor {EDGE_FLOOR} or above")
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call):
                dotted = tuple(ast.unparse(node.func).split(".")[-2:])
                if dotted in CLOCK_CALLS or dotted[-2:] == ("os", "urandom") or "random" in dotted[:-1]:
                    yield module.at(node, f"no {'.'.join(dotted)} below the edge: take it as an argument")
                if dotted == ("print",):
                    yield module.at(node, "no print below the edge: return the value")


def sizes(modules: tuple[Module, ...]) -> Iterator[str]:
    """Modules of at most 500 lines, functions of at most 70, docstring apart."""
    for module in modules:
        lines = module.text.count("\n")
        if lines > MODULE_LINES_MAX:
            yield module.at(1, f"{lines} lines, {MODULE_LINES_MAX} at most: split it by subject")
        for node in ast.walk(module.tree):
            if isinstance(node, Function):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                length = body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]
                if length > FUNCTION_LINES_MAX:
                    yield module.at(
                        node, f"{node.name} has {length} lines, {FUNCTION_LINES_MAX} at most: name its steps"
                    )


def names(modules: tuple[Module, ...]) -> Iterator[str]:
    """No module or package is called by a word that says nothing."""
    for module in modules:
        bad = NAMELESS.intersection(module.name.split("."))
        if bad:
            yield module.at(1, f"{bad.pop()} is not a name: say what is in it")


def doors(modules: tuple[Module, ...]) -> Iterator[str]:
    """A package opens with a docstring: what it is for, what it may import, what to read first."""
    for module in modules:
        if module.path.name != "__init__.py":
            continue
        if not ast.get_docstring(module.tree):
            yield module.at(1, "a package's door needs a docstring: what for, what it imports, read first")
        if module.name.count(".") == 1:
            for node in module.tree.body:
                if isinstance(node, Function | ast.ClassDef):
                    yield module.at(
                        node, "a door holds docstring and public names only: move this to a module"
                    )


def broad(modules: tuple[Module, ...]) -> Iterator[str]:
    """``except Exception`` says beside it why nothing narrower will do."""
    for module in modules:
        lines = module.text.splitlines()
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = "" if node.type is None else ast.unparse(node.type)
            if caught and not re.search(r"\b(Base)?Exception\b", caught):
                continue
            near = lines[max(0, node.lineno - 2) : node.lineno + 1]
            comments = [line.partition("#")[2] for line in near if "#" in line]
            said = [re.sub(r"noqa(: ?[A-Z0-9, ]+)?", "", comment).strip(" #-") for comment in comments]
            if not any(said):
                yield module.at(
                    node, "a broad except needs a comment: why nothing narrower, and who supervises"
                )


def judgement(modules: tuple[Module, ...]) -> Iterator[str]:
    """A test can fail, and waits on conditions rather than on time."""
    for module in modules:
        functions = {n.name: n for n in ast.walk(module.tree) if isinstance(n, Function)}
        for name, node in functions.items():
            if not name.startswith("test"):
                continue
            if not any(_judges(part, functions) for part in ast.walk(node)):
                yield module.at(node, f"{name} asserts nothing, so it cannot fail: assert what it promises")
        for node in _lone_sleeps(module):
            yield module.at(node, "no sleep as synchronisation: wait on a condition with a deadline")


def _judges(node: ast.AST, functions: dict[str, Function]) -> bool:
    """Whether ``node`` can make a test fail, itself or through a function of the same file."""
    if isinstance(node, ast.Assert | ast.Raise):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = _called(node)
    if name in {"raises", "fail"} or name.startswith(("assert_", "check_", "expect", "run_state_machine")):
        return True
    helper = functions.get(name)
    return helper is not None and any(isinstance(n, ast.Assert | ast.Raise) for n in ast.walk(helper))


def _lone_sleeps(module: Module) -> Iterator[ast.Call]:
    """Every ``time.sleep`` outside a loop: a loop that polls has a deadline, a lone sleep has a hope."""
    if not module.path.name.startswith(("test_", "conftest")):
        return  # a stand-in process may well sleep: it is what somebody waits for
    polls = {
        inner
        for loop in ast.walk(module.tree)
        if isinstance(loop, ast.While | ast.For)
        for inner in ast.walk(loop)
    }
    for node in ast.walk(module.tree):
        if (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in {"time.sleep", "sleep"}
            and node not in polls
        ):
            yield node


SOURCE_RULES = (floors, owners, cycles, orphans, core, sizes, names, doors, broad)
TEST_RULES = (judgement, names)
