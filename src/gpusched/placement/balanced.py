"""Even shares: no more domains than needed, and the smallest share as large as it can be.

The rule of Kueue's balanced placement (KEP-2724): a gang whose ranks wait for each other runs at the
pace of its most crowded domain, so 11 + 11 beats 20 + 2. Only for gangs with a preferred level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpusched.placement.domains import GangAsk, Share, hand_down
from gpusched.placement.tree import IntColumn, Rooms, Tree, check_segments, measure

SETS_MAX = 1_000_000
"""Steps of the search for the set of domains with the least room; above it the greedy set is taken."""


@dataclass(frozen=True, slots=True, eq=False)
class _Siblings:
    """Domains of one parent that could share the gang, without those too small for an even share."""

    smallest_share: int
    level: int  # of ``domains``
    domains: IntColumn
    units: IntColumn  # as far as their children count
    inner_level: int  # the level on which shares are made even
    inner_units: IntColumn  # (D_inner_level,) zero in domains that don't count
    needed: int  # of ``domains``


def place_evenly(tree: Tree, leaf_room: IntColumn, ask: GangAsk) -> IntColumn | None:
    """Share a gang out evenly among siblings of the preferred level, or among their children.

    Siblings whose smallest share is largest win, then those of which fewer are needed, then the
    lower number. Among sets of equally many domains the one with the least room is taken.

    Returns:
        (D_{L-1},) tasks for each leaf; None where no even share exists (or none was asked for).

    Raises:
        InvalidSpec: The segments can't be kept whatever is free.
    """
    if ask.preferred is None or ask.required is not None:
        return None
    check_segments(tree, ask.count, ask.segments, ask.preferred)
    rooms = measure(tree, leaf_room, ask.segments)
    wanted = ask.count // rooms.unit_size
    best = _best_siblings(tree, rooms, ask.preferred, wanted)
    if best is None:
        return None
    candidates = best.domains
    if best.inner_level > best.level:
        order = np.lexsort((-_evenness(tree, rooms, best), -best.units))
        rows = _smallest_set(best.units, rooms.tasks[best.level][best.domains], wanted, order.tolist())
        candidates = np.flatnonzero(np.isin(tree.parents[best.inner_level], best.domains[rows]))
    units = best.inner_units[candidates]
    tasks = rooms.tasks[best.inner_level][candidates]
    rows = _smallest_set(units, tasks, wanted, range(len(candidates)))
    amounts = _even_amounts(units[rows], tasks[rows], wanted, best.smallest_share)
    if amounts is None:
        return None
    shares = [
        Share(int(domain), int(amount) * rooms.unit_size)
        for domain, amount in zip(candidates[rows], amounts, strict=True)
    ]
    return hand_down(tree, rooms, best.inner_level, shares, fill=ask.fill)


def _best_siblings(tree: Tree, rooms: Rooms, level: int, wanted: int) -> _Siblings | None:
    best: _Siblings | None = None
    inner_level = level + 1 if level < rooms.unit_level else level
    for parent in range(len(tree.paths[level - 1]) if level else 1):
        domains = np.flatnonzero(tree.parents[level] == parent)
        found = _without_small(tree, rooms, domains, (level, inner_level), wanted)
        if found is not None and (
            best is None or (-found.smallest_share, found.needed) < (-best.smallest_share, best.needed)
        ):
            best = found
    return best


def _without_small(
    tree: Tree, rooms: Rooms, domains: IntColumn, levels: tuple[int, int], wanted: int
) -> _Siblings | None:
    level, inner_level = levels
    inner = domains
    if inner_level > level:
        inner = np.flatnonzero(np.isin(tree.parents[inner_level], domains))
    greedy = _largest_first(rooms.units[inner_level][inner], wanted)
    if not greedy:
        return None
    share = min(wanted // len(greedy), greedy[-1])
    if share == 0:
        return None
    counted = np.zeros_like(rooms.units[inner_level])
    counted[inner] = rooms.units[inner_level][inner]
    counted[counted < share] = 0
    units = (tree.sum_up(inner_level, counted) if inner_level > level else counted)[domains]
    needed = len(_largest_first(units, wanted))
    return _Siblings(share, level, domains, units, inner_level, counted, needed) if needed else None


def _largest_first(units: IntColumn, wanted: int) -> list[int]:
    """The rooms of the fewest domains that hold ``wanted`` units, largest first; none if all are too few."""
    rooms = np.sort(units)[::-1]
    count = int(np.searchsorted(np.cumsum(rooms), wanted)) + 1
    return [] if count > len(rooms) else [int(room) for room in rooms[:count]]


def _evenness(tree: Tree, rooms: Rooms, siblings: _Siblings) -> IntColumn:
    """(D,) entropy of the room of each sibling's children, in millionths of a bit."""
    tasks = np.where(siblings.inner_units > 0, rooms.tasks[siblings.inner_level], 0)
    totals = tree.sum_up(siblings.inner_level, tasks)
    part = tasks / np.maximum(totals[tree.parents[siblings.inner_level]], 1)
    bits = np.where(part > 0, -part * np.log2(np.where(part > 0, part, 1)), 0)
    summed = np.bincount(tree.parents[siblings.inner_level], weights=bits, minlength=len(totals))
    micro_bits: IntColumn = np.rint(summed[siblings.domains] * 1e6).astype(np.int64)
    return micro_bits


def _smallest_set(units: IntColumn, tasks: IntColumn, wanted: int, order: Sequence[int]) -> IntColumn:
    """Choose the fewest of M domains that hold ``wanted`` units; of such sets, the one with the least room.

    Exact while M times their number times ``wanted`` is below ``SETS_MAX``.

    Returns:
        Positions in ``units``; of equal sets, the one found first in ``order``.
    """
    size = len(_largest_first(units, wanted))
    if len(units) * size * wanted > SETS_MAX:
        return np.argsort(-units, kind="stable")[:size]
    # sets[k][left]: tasks of room and the k positions that leave ``left`` units to place.
    sets: list[dict[int, tuple[int, tuple[int, ...]]]] = [{} for _ in range(size + 1)]
    sets[0][wanted] = (0, ())
    for position in order:
        if units[position] == 0:
            continue
        for count in range(size, 0, -1):
            for left, (room, chosen) in list(sets[count - 1].items()):
                after = left - int(units[position])
                grown = (room + int(tasks[position]), (*chosen, position))
                if left > 0 and (after not in sets[count] or grown[0] < sets[count][after][0]):
                    sets[count][after] = grown
    least = max(left for left in sets[size] if left <= 0)
    return np.array(sets[size][least][1], dtype=np.int64)


def _even_amounts(units: IntColumn, tasks: IntColumn, wanted: int, share: int) -> IntColumn | None:
    """Give each domain the smallest share and hand what is left to the largest, as far as they have room."""
    extra = wanted - share * len(units)
    if extra < 0:
        return None
    amounts = np.full(len(units), share, dtype=np.int64)
    for position in np.lexsort((tasks, -units)):
        more = min(int(units[position]) - share, extra)
        amounts[position] += more
        extra -= more
    return amounts if extra == 0 else None
