"""The topology as integer columns: which domain of each level a node is in, and what a domain has room for.

L levels, widest first; D_l domains on level l, numbered in the order of their paths, so that "the
lower number" is a stable way to break ties. Sums go up the tree by ``numpy.bincount``: O(N + domains).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpusched.domain.errors import InvalidSpec, Violation

_GB_MB = 1_000.0

BoolColumn = NDArray[np.bool_]
IntColumn = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """Where N nodes hang. The last level's domains are the leaves; several nodes may share one."""

    levels: tuple[str, ...]
    paths: tuple[tuple[tuple[str, ...], ...], ...]  # per level, (D_l,) paths from the top
    parents: tuple[IntColumn, ...]  # per level, (D_l,) domain of the level above; zeros on the first
    rows: IntColumn  # (M,) the nodes that take part
    columns: IntColumn  # (M, L) the domain of each on every level
    leaf_of: IntColumn  # (N,) the leaf of each node; the number of leaves where it takes no part
    bandwidths_mb_s: tuple[float | None, ...] = ()  # per level, of a domain's link upwards

    @property
    def depth(self) -> int:
        """The number of levels."""
        return len(self.levels)

    @property
    def leaves(self) -> int:
        """The number of domains on the last level."""
        return len(self.paths[-1]) if self.paths else 0

    def level(self, name: str) -> int:
        """The position of a level.

        Raises:
            InvalidSpec: There is no level of that name.
        """
        if name not in self.levels:
            known = ", ".join(self.levels)
            raise InvalidSpec((Violation("topology", f"there is no level {name}: name one of {known}"),))
        return self.levels.index(name)

    def sum_up(self, level: int, amounts: IntColumn) -> IntColumn:
        """Add (D_level,) amounts per parent: (D_{level-1},)."""
        size = len(self.paths[level - 1])
        return np.bincount(self.parents[level], weights=amounts, minlength=size).astype(np.int64)

    def leaf_room(self, room: IntColumn) -> IntColumn:
        """Add up what N nodes have room for, per leaf: (D_{L-1},)."""
        size = self.leaves
        return np.bincount(self.leaf_of, weights=room, minlength=size + 1)[:size].astype(np.int64)


def build_tree(
    levels: Sequence[str],
    paths: Sequence[tuple[str, ...] | None],
    bandwidths_mb_s: tuple[float | None, ...] = (),
) -> Tree:
    """Lay a topology out as columns.

    Args:
        levels: Names, widest first; none where nothing is known of how nodes hang together.
        paths: (N,) the domain of each node on every level, widest first; None where a node takes no part.
        bandwidths_mb_s: Per level, of one domain's link to the level around it; empty where none is known.
    """
    rows = [row for row, path in enumerate(paths) if path is not None]
    taking = [path for path in paths if path is not None]
    known, parents = [], []
    columns = np.zeros((len(rows), len(levels)), dtype=np.int64)
    above: dict[tuple[str, ...], int] = {(): 0}
    for level in range(len(levels)):
        here = sorted({path[: level + 1] for path in taking})
        numbers = {path: number for number, path in enumerate(here)}
        columns[:, level] = [numbers[path[: level + 1]] for path in taking]
        parents.append(np.array([above[path[:-1]] for path in here], dtype=np.int64))
        known.append(tuple(here))
        above = numbers
    leaf_of = np.full(len(paths), len(known[-1]) if known else 0, dtype=np.int64)
    if known:
        leaf_of[rows] = columns[:, -1]
    return Tree(
        tuple(levels),
        tuple(known),
        tuple(parents),
        np.array(rows, dtype=np.int64),
        columns,
        leaf_of,
        bandwidths_mb_s,
    )


@dataclass(frozen=True, slots=True)
class Segment:
    """Tasks that stay together: each ``size`` of them inside one domain of ``level``."""

    level: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Rooms:
    """What every domain has room for.

    A unit is what may not be cut: an outermost segment, or a task where there are none.
    """

    tasks: tuple[IntColumn, ...]  # per level, (D_l,)
    units: tuple[IntColumn, ...]  # per level down to ``unit_level``, (D_l,)
    unit_level: int
    unit_size: int  # tasks in a unit
    inner_size: tuple[int, ...]  # per level, tasks that may not be cut there: 1 where any number may stay


def measure(tree: Tree, leaf_room: IntColumn, segments: Sequence[Segment]) -> Rooms:
    """Count tasks and whole units that every domain has room for. O(domains).

    A domain whose room is no multiple of an inner segment counts for the multiple below, so what a
    wider domain counts can be handed out.

    Args:
        tree: Where the leaves hang.
        leaf_room: (D_{L-1},) tasks that each leaf could take.
        segments: Widest first, as ``check_segments`` accepts them.
    """
    outer = segments[0] if segments else Segment(tree.depth - 1, 1)
    inner = [1] * tree.depth
    for wider, narrower in pairwise(segments):
        inner[wider.level + 1 : narrower.level + 1] = [narrower.size] * (narrower.level - wider.level)
    tasks = [leaf_room]
    for level in range(tree.depth - 1, 0, -1):
        tasks.insert(0, tree.sum_up(level, tasks[0] // inner[level] * inner[level]))
    units = [tasks[outer.level] // outer.size]
    for level in range(outer.level, 0, -1):
        units.insert(0, tree.sum_up(level, units[0]))
    return Rooms(tuple(tasks), tuple(units), outer.level, outer.size, tuple(inner))


def check_segments(tree: Tree, count: int, segments: Sequence[Segment], widest: int | None) -> None:
    """Refuse segments that can't be kept.

    Args:
        tree: Whose levels they name.
        count: Tasks of the gang.
        segments: Widest first.
        widest: The level inside one domain of which the gang shall stay; None if there is none.

    Raises:
        InvalidSpec: A size is not positive or doesn't divide the one around it, or levels don't narrow.
    """
    size_around, level_around, around = count, -1 if widest is None else widest - 1, "the gang"
    for segment in segments:
        name = tree.levels[segment.level]
        if segment.size < 1 or size_around % segment.size:
            raise _wrong(f"of {segment.size} within {name} does not divide {around} of {size_around} tasks")
        if segment.level <= level_around:
            raise _wrong(f"within {name} is not narrower than {around}: order them widest first")
        size_around, level_around, around = segment.size, segment.level, f"the segment within {name}"


def _wrong(what: str) -> InvalidSpec:
    return InvalidSpec((Violation("segment", what),))


def ring_cost(tree: Tree, rows: Sequence[int]) -> int | None:
    """Count the links that a ring over nodes uses, going round once.

    Two nodes of one leaf are two links apart, up and down; every level that they do not share adds two.

    Args:
        tree: Where the nodes hang.
        rows: The node of each rank, or of each node rank, in rank order.

    Returns:
        The sum over neighbours in the ring, first and last included; None where a node hangs nowhere.
    """
    nodes = np.array(rows, dtype=np.int64)
    apart = _neighbours_apart(tree, nodes)
    return None if apart is None else 2 * (int(np.count_nonzero(nodes != np.roll(nodes, -1))) + sum(apart))


def ring_seconds(tree: Tree, rows: Sequence[int]) -> float | None:
    """Add up how long one GB takes over each link of a ring above the nodes' own.

    The nodes' own links are the same whatever the placement; they are left out.

    Args:
        tree: Where the nodes hang, and what the links between levels carry.
        rows: The node of each node rank, in rank order.

    Returns:
        Seconds; None where a node hangs nowhere, or a link that is used has no known bandwidth.
    """
    apart = _neighbours_apart(tree, np.array(rows, dtype=np.int64))
    if apart is None or not tree.bandwidths_mb_s:
        return None
    seconds = 0.0
    for pairs, bandwidth in zip(apart, tree.bandwidths_mb_s, strict=True):
        if pairs and bandwidth is None:
            return None
        seconds += 2 * pairs * _GB_MB / (bandwidth or 1)
    return seconds


def _neighbours_apart(tree: Tree, nodes: IntColumn) -> list[int] | None:
    """Per level, the neighbours in the ring that are in different domains; None where one is in none."""
    here = tree.leaf_of[nodes]
    if not tree.levels or (here == tree.leaves).any():
        return None
    apart = []
    for level in range(tree.depth - 1, -1, -1):
        apart.append(int(np.count_nonzero(here != np.roll(here, -1))))
        here = tree.parents[level][here]
    return apart[::-1]


def in_rank_order(tree: Tree, rows: IntColumn) -> IntColumn:
    """Order nodes so that consecutive ranks are near: leaf by leaf, in the order of paths.

    No order of these nodes has a lower ``ring_cost``: a walk round a tree uses each link it must twice.
    """
    ordered: IntColumn = rows[np.lexsort((rows, tree.leaf_of[rows]))]
    return ordered
