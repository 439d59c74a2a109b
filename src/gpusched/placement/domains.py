"""Which domains a gang takes: the narrowest that holds it, else the fewest; tightly, so others stay whole.

Best fit on a tree, as Kubernetes Kueue's topology-aware scheduling defines it (KEP-2724): choose on
the level asked for, then go down one level at a time, each time into as few domains as possible,
the largest first and the last as tight as possible. Cost: O(D log D) per level in its D candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from gpusched.placement.tree import IntColumn, Rooms, Segment, Tree, check_segments, measure


class Fill(StrEnum):
    """How domains share a gang that needs several."""

    FEWEST = "fewest"  # the largest first, the last as tight as possible
    SMALLEST_FIRST = "smallest_first"  # leftovers first: many domains, and large ones stay whole
    EVEN = "even"  # as few as with FEWEST, and the smallest share as large as possible; see ``balanced``


@dataclass(frozen=True, slots=True, kw_only=True)
class GangAsk:
    """A gang of equal tasks and how near to each other they have to be. Levels are positions in the tree."""

    count: int
    required: int | None = None  # all inside one domain of this level
    preferred: int | None = None  # or of the next wider that holds them, or of several of the widest
    segments: tuple[Segment, ...] = ()  # widest first
    fill: Fill = Fill.FEWEST


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why there is no room: ``fits`` of ``of`` units is the best that any admissible domain has."""

    fits: int
    of: int


@dataclass(frozen=True, slots=True)
class Share:
    """What one domain takes of a gang."""

    domain: int
    tasks: int


def place_gang(tree: Tree, leaf_room: IntColumn, ask: GangAsk) -> IntColumn | Shortfall:
    """Share a gang out over leaves, all or nothing.

    With ``required`` or ``preferred``, the domain of that level with the least room that holds the
    gang; the next wider level where none does and it is only preferred; several domains of the
    widest level at last. Without either, leaves wherever they are. Ties go to the lower number.

    Args:
        tree: Where the leaves hang.
        leaf_room: (D_{L-1},) tasks that each leaf could take.
        ask: The gang.

    Returns:
        (D_{L-1},) tasks for each leaf, or what is missing.

    Raises:
        InvalidSpec: The segments can't be kept whatever is free.
    """
    check_segments(tree, ask.count, ask.segments, _nearest(ask))
    rooms = measure(tree, leaf_room, ask.segments)
    start = _start(tree, rooms, ask)
    return start if isinstance(start, Shortfall) else descend(tree, rooms, *start, fill=ask.fill)


def _nearest(ask: GangAsk) -> int | None:
    return ask.required if ask.preferred is None else ask.preferred


def _start(tree: Tree, rooms: Rooms, ask: GangAsk) -> tuple[int, list[Share]] | Shortfall:
    """The level to begin on and the domains of it that share the gang."""
    units = ask.count // rooms.unit_size
    first, widest = _search_levels(rooms, ask)
    for level in range(first, widest - 1, -1):
        if (domain := tightest(rooms.units[level], rooms.tasks[level], units)) is not None:
            return level, [Share(domain, ask.count)]
    best = int(rooms.units[widest].max(initial=0))
    if ask.required is not None:
        return Shortfall(best, units)
    everywhere = np.arange(len(rooms.units[widest]))
    shares = share_out(rooms, widest, everywhere, units, ask.fill)
    return Shortfall(int(rooms.units[widest].sum()), units) if shares is None else (widest, shares)


def _search_levels(rooms: Rooms, ask: GangAsk) -> tuple[int, int]:
    """The first level on which one domain shall hold the gang, and the widest on which it may."""
    near = _nearest(ask)
    if near is None:
        # Segments are whole on every level down to theirs, so a gang of them starts at the top.
        level = 0 if ask.segments else rooms.unit_level
        return level, level
    return near, 0 if ask.required is None else ask.required


def tightest(units: IntColumn, tasks: IntColumn, wanted: int) -> int | None:
    """The domain with the least room for ``wanted`` units, by units and then tasks; None if none has it."""
    able = np.flatnonzero(units >= wanted)
    if not len(able):
        return None
    return int(able[np.lexsort((tasks[able], units[able]))[0]])


def share_out(rooms: Rooms, level: int, candidates: IntColumn, wanted: int, fill: Fill) -> list[Share] | None:
    """Share units over domains of a level at or above that of the units; None if their room is short."""
    amounts = split(rooms.units[level][candidates], rooms.tasks[level][candidates], wanted, fill)
    if amounts is None:
        return None
    return [Share(int(candidates[at]), amount * rooms.unit_size) for at, amount in amounts]


def split(units: IntColumn, tasks: IntColumn, wanted: int, fill: Fill) -> list[tuple[int, int]] | None:
    """Choose among M domains and say what each takes. O(M log M).

    Args:
        units: (M,) room in units.
        tasks: (M,) room in tasks: the less is left over of it, the better.
        wanted: Units to share out.
        fill: Which domains first.

    Returns:
        (position, units) of each that takes some, in the order of choice; None if the room is short.
        ``Fill.FEWEST`` takes the fewest domains that any choice could.
    """
    order = np.lexsort((tasks, units if fill is Fill.SMALLEST_FIRST else -units))
    upto = np.cumsum(units[order])
    last = int(np.searchsorted(upto, wanted))
    if last == len(order):
        return None if wanted > 0 else []
    chosen = [(int(at), int(units[at])) for at in order[:last] if units[at] > 0]
    rest = wanted - (int(upto[last - 1]) if last else 0)
    if rest == 0:
        return chosen
    final = order[last]
    if fill is not Fill.SMALLEST_FIRST:
        left = np.sort(order[last:])
        position = tightest(units[left], tasks[left], rest)
        final = left[position] if position is not None else final
    return [*chosen, (int(final), rest)]


def descend(tree: Tree, rooms: Rooms, level: int, shares: list[Share], *, fill: Fill) -> IntColumn:
    """Hand shares of one level down to the leaves, into as few domains as possible on each level.

    Above the level of the units the children of all chosen domains together are candidates, so fewer
    racks come before fewer nodes; at and below it every domain hands on what it took.
    """
    total = sum(share.tasks for share in shares)
    while level < rooms.unit_level:
        level += 1
        children = np.flatnonzero(np.isin(tree.parents[level], [share.domain for share in shares]))
        shares = share_out(rooms, level, children, total // rooms.unit_size, fill) or []
    return hand_down(tree, rooms, level, shares, fill=fill)


def hand_down(tree: Tree, rooms: Rooms, level: int, shares: Sequence[Share], *, fill: Fill) -> IntColumn:
    """Hand each domain's share to its own children, level by level, down to the leaves: (D_{L-1},) tasks."""
    while level < tree.depth - 1:
        level += 1
        shares = [child for share in shares for child in _children(tree, rooms, level, share, fill)]
    counts = np.zeros(len(tree.paths[-1]), dtype=np.int64)
    for share in shares:
        counts[share.domain] += share.tasks
    return counts


def _children(tree: Tree, rooms: Rooms, level: int, share: Share, fill: Fill) -> list[Share]:
    children = np.flatnonzero(tree.parents[level] == share.domain)
    size = rooms.unit_size if level <= rooms.unit_level else rooms.inner_size[level]
    tasks = rooms.tasks[level][children]
    units = rooms.units[level][children] if level <= rooms.unit_level else tasks // size
    amounts = split(units, tasks, share.tasks // size, fill) or []
    return [Share(int(children[at]), amount * size) for at, amount in amounts]
