"""``gpusched topology``: how nodes hang together, drawn or written for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import click

from gpusched.cli.as_json import plain
from gpusched.cli.inside import Part, inside_of
from gpusched.cli.screen import Cell, print_json, print_line
from gpusched.cli.session import Session, json_option, pass_session
from gpusched.domain.errors import WrongState
from gpusched.domain.hostlist import fold_hostlist
from gpusched.domain.ids import NodeName
from gpusched.domain.topology import Topology, TopologyLevel
from gpusched.wire.handlers import NodeView


@dataclass(slots=True)
class _Domain:
    """One domain while it is drawn: the domains and nodes right inside it."""

    inside: dict[str, _Domain] = field(default_factory=dict)
    nodes: list[NodeName] = field(default_factory=list)

    def all_nodes(self) -> Iterator[NodeName]:
        yield from self.nodes
        for domain in self.inside.values():
            yield from domain.all_nodes()


@click.group()
def topology() -> None:
    """How nodes hang together in the fabric."""


@topology.command("show")
@click.argument("node", required=False)
@json_option
@pass_session
def show(session: Session, *, node: str | None, as_json: bool) -> None:
    """Draw the tree: domains by level, their nodes, and the GPUs that are free; or what is inside a node."""
    if node is not None:
        _show_node(session, node, as_json=as_json)
        return
    fabric = session.client.nodes.fabric()
    if as_json:
        print_json(plain(fabric))
        return
    views = {view.node.name: view for view in session.client.nodes.list()}
    top = _tree_of(fabric)
    for line in _drawn(fabric, top, views):
        print_line(*line)
    known = set(top.all_nodes())
    if apart := sorted(set(views) - known):
        print_line(f"{fold_hostlist(apart)} ", ("nowhere in the topology", "yellow"))


def _show_node(session: Session, name: str, *, as_json: bool) -> None:
    (facts,) = session.client.nodes.topology(NodeName(name))
    parts = inside_of(facts)
    if as_json:
        print_json({"node": name, "inside": plain(parts)})
        return
    print_line((name, "bold"))
    for line in _drawn_inside(parts, ""):
        print_line(*line)


def _drawn_inside(parts: Sequence[Part], indent: str) -> Iterator[tuple[Cell, ...]]:
    for number, part in enumerate(parts):
        corner, below = ("└─ ", "   ") if number == len(parts) - 1 else ("├─ ", "│  ")
        yield (indent + corner + part.label,)
        yield from _drawn_inside(part.inside, indent + below)


@topology.command("export")
@click.option("--dot", "as_dot", is_flag=True, help="As a graph for Graphviz.")
@click.option("--inside", is_flag=True, help="With what is inside the nodes.")
@pass_session
def export(session: Session, *, as_dot: bool, inside: bool) -> None:
    """Write the tree for other programs: JSON, or with --dot a Graphviz graph."""
    fabric = session.client.nodes.fabric()
    within = {facts.name: inside_of(facts) for facts in session.client.nodes.topology()} if inside else {}
    if as_dot:
        for line in dot_lines(fabric, within):
            print_line(line)
        return
    body = plain(fabric)
    print_json({**body, "inside": plain(within)} if inside else body)


def _tree_of(fabric: Topology) -> _Domain:
    if not fabric.levels:
        raise WrongState("the topology is not described: add [topology] to the head's configuration")
    top = _Domain()
    for place in fabric.nodes:
        at = top
        for name in place.path:
            at = at.inside.setdefault(name, _Domain())
        at.nodes.append(place.node)
    return top


def _drawn(fabric: Topology, top: _Domain, views: Mapping[NodeName, NodeView]) -> Iterator[tuple[Cell, ...]]:
    yield (" > ".join([*map(_level, fabric.levels), "node"]),)
    yield from _branches(fabric, top, views, depth=0, indent="")


def _level(level: TopologyLevel) -> str:
    if level.bandwidth_mb_s is None:
        return level.name
    return f"{level.name} ({level.bandwidth_mb_s / 1000:g} GB/s)"


def _branches(
    fabric: Topology, domain: _Domain, views: Mapping[NodeName, NodeView], *, depth: int, indent: str
) -> Iterator[tuple[Cell, ...]]:
    entries = sorted(domain.inside.items())
    for number, (name, inside) in enumerate(entries):
        is_last = number == len(entries) - 1 and not domain.nodes
        corner, below = ("└─ ", "   ") if is_last else ("├─ ", "│  ")
        yield indent + corner, f"{fabric.levels[depth].name} ", (name, "bold"), f"  {_room(inside, views)}"
        yield from _branches(fabric, inside, views, depth=depth + 1, indent=indent + below)
    if domain.nodes:
        yield indent + "└─ ", (fold_hostlist(sorted(domain.nodes)), "cyan")


def _room(domain: _Domain, views: Mapping[NodeName, NodeView]) -> str:
    names = list(domain.all_nodes())
    known = [views[name] for name in names if name in views]
    gpus = sum(len(view.node.facts.devices) for view in known)
    free = gpus - sum(view.gpus_allocated for view in known)
    absent = "" if len(known) == len(names) else f", {len(names) - len(known)} not here"
    return f"{len(names)} node{'' if len(names) == 1 else 's'}{absent}, {free} of {gpus} GPUs free"


def dot_lines(fabric: Topology, within: Mapping[NodeName, Sequence[Part]]) -> Iterator[str]:
    """Write the tree in Graphviz's DOT language, one vertex per domain, node, and part ``within`` a node."""
    yield "graph topology {"
    yield "  node [shape=box];"
    edges: dict[tuple[str, str], str] = {}
    for place in fabric.nodes:
        above = ""
        for depth, name in enumerate(place.path):
            here = "/".join(place.path[: depth + 1])
            if (above, here) not in edges:
                edges[above, here] = (
                    f"  {_quoted(here)} [label={_quoted(f'{fabric.levels[depth].name} {name}')}];"
                )
                yield edges[above, here]
                if above:
                    yield f"  {_quoted(above)} -- {_quoted(here)};"
            above = here
        yield f"  {_quoted('node ' + place.node)} [label={_quoted(place.node)}, shape=ellipse];"
        yield f"  {_quoted(above)} -- {_quoted('node ' + place.node)};"
    for node in sorted(set(within) - {place.node for place in fabric.nodes}):
        yield f"  {_quoted('node ' + node)} [label={_quoted(node)}, shape=ellipse];"
    for node, parts in sorted(within.items()):
        yield from _dot_inside(f"node {node}", node, parts)
    yield "}"


def _dot_inside(above: str, node: NodeName, parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        here = f"{node}{part.name}" if part.inside else part.name
        yield f"  {_quoted(here)} [label={_quoted(part.label)}];"
        yield f"  {_quoted(above)} -- {_quoted(here)};"
        yield from _dot_inside(here, node, part.inside)


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
