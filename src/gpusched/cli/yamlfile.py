"""YAML to drafts, with the position of every key and every limit that a hostile file would need.

Scalars stay as written (no 12:00:00 that turns into 43200, no ``no`` that turns into False);
duplicates, tags, anchors and aliases are refused, so no file can unfold into a larger one.
"""

from __future__ import annotations

from typing import Any

import yaml

from gpusched.cli.draft import Draft, Path, Raw, refuse
from gpusched.cli.textfile import decode_text
from gpusched.domain.errors import InvalidSpec

DOCUMENTS_MAX = 10_000
_DEPTH_MAX = 8
_NULLS = {"", "~", "null", "Null", "NULL"}


def read_drafts(data: bytes, name: str) -> list[Draft]:
    """Every document of a YAML file as a draft, in order; empty documents are skipped.

    Raises:
        InvalidSpec: Not YAML, not a mapping, or beyond a limit; names line and column.
    """
    text = decode_text(data, name)
    drafts: list[Draft] = []
    loader = _Loader(text)
    try:
        while loader.check_node():
            if len(drafts) >= DOCUMENTS_MAX:
                raise refuse(name, f"holds more than {DOCUMENTS_MAX} jobs; submit it in parts")
            node = loader.get_node()
            if node is not None and not _is_null(node):
                drafts.append(_draft_of(node, name))
    except yaml.MarkedYAMLError as error:
        raise _syntax_fault(error, name) from None
    except yaml.YAMLError as error:
        raise refuse(name, f"is not YAML: {' '.join(str(error).split())}") from None
    finally:
        loader.dispose()
    if not drafts:
        raise refuse(name, "holds no job")
    return drafts


class _Loader(yaml.SafeLoader):
    """Composes nodes; refuses what a job file has no use for before it is built."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors and aliases are not supported; write the value out",
                problem_mark=event.start_mark,
            )
        if getattr(event, "tag", None) is not None:
            raise yaml.MarkedYAMLError(
                problem=f"tags ({event.tag}) are not supported; remove it", problem_mark=event.start_mark
            )
        if self.depth >= _DEPTH_MAX:
            raise yaml.MarkedYAMLError(problem="is nested too deeply", problem_mark=event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def _syntax_fault(error: yaml.MarkedYAMLError, name: str) -> InvalidSpec:
    mark = error.problem_mark or error.context_mark
    place = name if mark is None else f"{name}:{mark.line + 1}:{mark.column + 1}"
    problem = error.problem or error.context or "is not YAML"
    if "'\\t'" in problem:
        problem = "found a tab; YAML is indented with spaces"
    return refuse(place, problem)


def _draft_of(root: yaml.Node, name: str) -> Draft:
    if not isinstance(root, yaml.MappingNode):
        raise refuse(_at(root, name), "a job is a mapping of fields, such as 'nodes: 2'")
    places: dict[Path, str] = {}
    values: dict[str, Raw] = {}
    for key, value in _entries(root, name):
        places[(key.value,)] = f"{_at(key, name)}: {key.value}"
        values[key.value] = _value(value, (key.value,), places, name)
    return Draft(values, places, _at(root, name))


def _entries(node: yaml.MappingNode, name: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    seen: set[str] = set()
    entries = []
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise refuse(_at(key, name), "a field's name is a word, not a list or mapping")
        if key.value in seen:
            raise refuse(f"{_at(key, name)}: {key.value}", "is given twice; remove one")
        seen.add(key.value)
        entries.append((key, value))
    return entries


def _value(node: yaml.Node, path: Path, places: dict[Path, str], name: str) -> Raw:
    label = ".".join(map(str, path))
    places.setdefault(path, f"{_at(node, name)}: {label}")
    if isinstance(node, yaml.MappingNode):
        entries = _entries(node, name)
        for key, _ in entries:
            places[(*path, key.value)] = f"{_at(key, name)}: {label}.{key.value}"
        return {key.value: _value(value, (*path, key.value), places, name) for key, value in entries}
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, i), places, name) for i, item in enumerate(node.value)]
    return None if _is_null(node) else str(node.value)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULLS


def _at(node: yaml.Node, name: str) -> str:
    return f"{name}:{node.start_mark.line + 1}:{node.start_mark.column + 1}"
