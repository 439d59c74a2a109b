"""The fabric as a tree: which switch, rack or NVLink domain a node hangs under, level by level.

    spine > leaf > rack > NVLink domain > node

Levels are named by whoever describes the site; these names are only what they usually are. What is
inside a node (NVLink islands, PCIe, NUMA) is in its ``NodeFacts``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gpusched.domain.errors import ConfigInvalid
from gpusched.domain.ids import NodeName

LEVELS_MAX = 16


@dataclass(frozen=True, slots=True)
class TopologyLevel:
    """One level. The bandwidth is of one domain's links to the level around it, one direction."""

    name: str
    bandwidth_mb_s: float | None = None  # None: not said


@dataclass(frozen=True, slots=True)
class RingCost:
    """What a ring over the nodes of a gang, in rank order, asks of the fabric."""

    links: int  # that it uses: two nodes of one leaf are two links apart, each level not shared adds two
    s_per_gb: (
        float | None
    )  # one GB over each link above the nodes' own, added up; None: a bandwidth is unknown


@dataclass(frozen=True, slots=True)
class NodePath:
    """The domains that a node is in, widest first: one per level."""

    node: NodeName
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Topology:
    """The tree. No levels: nothing is known, all nodes are alike.

    Attributes:
        levels: Widest first.
        nodes: The nodes that are known by name, in the order of their names.
        labels: Instead of ``nodes``, the label of a node that names its domain, one per level.
    """

    levels: tuple[TopologyLevel, ...] = ()
    nodes: tuple[NodePath, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def level_names(self) -> tuple[str, ...]:
        """Names of the levels, widest first."""
        return tuple(level.name for level in self.levels)

    def place(self, labels_of: Mapping[NodeName, Mapping[str, str]]) -> Topology:
        """Turn labels into paths, for these nodes and their labels. Nodes that lack one have no path."""
        if not self.labels:
            return self
        found = (
            NodePath(node, tuple(labels[label] for label in self.labels))
            for node, labels in sorted(labels_of.items())
            if all(label in labels for label in self.labels)
        )
        return Topology(self.levels, tuple(found))


@dataclass(frozen=True, slots=True)
class TopologyDomain:
    """One domain as a file names it: its level, the domain around it, and the nodes right below it."""

    name: str
    level: str
    parent: str | None = None
    nodes: tuple[NodeName, ...] = ()


def build_topology(levels: Sequence[TopologyLevel], domains: Iterable[TopologyDomain]) -> Topology:
    """Hang domains and nodes under each other.

    A domain may skip levels: on those it stands for itself.

    Raises:
        ConfigInvalid: A name is given twice, a parent or level is not there, domains are inside each
            other, a level's bandwidth is no positive number.
    """
    position = _check_levels(levels)
    known: dict[str, TopologyDomain] = {}
    for domain in domains:
        if domain.name in known:
            raise ConfigInvalid(f"topology: two domains are named {domain.name}: rename one")
        if domain.level not in position:
            raise ConfigInvalid(
                f"topology: domain {domain.name} is on level {domain.level}, which is none of "
                f"{', '.join(position) or 'none'}: name one of them or add it"
            )
        known[domain.name] = domain
    paths: dict[NodeName, tuple[str, ...]] = {}
    for domain in known.values():
        path = _path(domain, known, position)
        for node in domain.nodes:
            if node in paths:
                raise ConfigInvalid(f"topology: node {node} is named twice: keep it under one domain")
            paths[node] = path
    return Topology(tuple(levels), tuple(NodePath(node, path) for node, path in sorted(paths.items())))


def topology_by_labels(levels: Sequence[TopologyLevel], labels: Sequence[str]) -> Topology:
    """Let the labels of nodes say where they are.

    Args:
        levels: Widest first.
        labels: The label that names a node's domain, one per level.

    Raises:
        ConfigInvalid: They are not as many as the levels, or a level is wrong.
    """
    _check_levels(levels)
    if len(labels) != len(levels):
        raise ConfigInvalid(f"topology: {len(labels)} labels for {len(levels)} levels: give one per level")
    return Topology(tuple(levels), labels=tuple(labels))


def _check_levels(levels: Sequence[TopologyLevel]) -> dict[str, int]:
    if len(levels) > LEVELS_MAX:
        raise ConfigInvalid(f"topology: {len(levels)} levels, the limit is {LEVELS_MAX}: join some")
    position: dict[str, int] = {}
    for level in levels:
        if level.name in position:
            raise ConfigInvalid(f"topology: two levels are named {level.name}: rename one")
        speed = level.bandwidth_mb_s
        if speed is not None and not (math.isfinite(speed) and speed > 0):
            raise ConfigInvalid(
                f"topology: level {level.name} has a bandwidth of {speed}: give a positive number of MB/s"
            )
        position[level.name] = len(position)
    return position


def _path(
    domain: TopologyDomain, known: Mapping[str, TopologyDomain], position: Mapping[str, int]
) -> tuple[str, ...]:
    line = [domain]
    while (above := line[-1].parent) is not None:
        if above not in known:
            raise ConfigInvalid(
                f"topology: domain {line[-1].name} is inside {above}, which is not there: add it"
            )
        if any(above == below.name for below in line):
            raise ConfigInvalid(f"topology: domain {above} is inside itself: give it another parent")
        if position[known[above].level] >= position[line[-1].level]:
            raise ConfigInvalid(
                f"topology: domain {line[-1].name} on level {line[-1].level} is inside {above} on level "
                f"{known[above].level}, which is no wider: order the levels widest first"
            )
        line.append(known[above])
    if position[line[-1].level] > 0 and any(position[other.level] == 0 for other in known.values()):
        raise ConfigInvalid(
            f"topology: domain {line[-1].name} on level {line[-1].level} is inside none: name its parent"
        )
    path: list[str] = []
    for inner in line:
        # On levels that nobody around it is on, a domain stands for itself.
        widest = position[known[inner.parent].level] + 1 if inner.parent is not None else 0
        path = [inner.name] * (len(position) - len(path) - widest) + path
    return tuple(path)
