"""``gpusched topology``: how nodes hang together, drawn or written for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import click

from gpusched.cli.as_json import plain
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
@json_option
@pass_session
def show(session: Session, *, as_json: bool) -> None:
    """Draw the tree: domains by level, their nodes, and how many GPUs are free."""
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


@topology.command("export")
@click.option("--dot", "as_dot", is_flag=True, help="As a graph for Graphviz.")
@pass_session
def export(session: Session, *, as_dot: bool) -> None:
    """Write the tree for other programs: JSON, or with --dot a Graphviz graph."""
    fabric = session.client.nodes.fabric()
    if not as_dot:
        print_json(plain(fabric))
        return
    for line in dot_lines(fabric):
        print_line(line)


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


def dot_lines(fabric: Topology) -> Iterator[str]:
    """Write the tree in Graphviz's DOT language, one vertex per domain and node."""
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
    yield "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
