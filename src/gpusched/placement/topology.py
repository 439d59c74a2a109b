"""Gangs on the topology tree: which leaves, in which rank order, and what a ring over them costs."""

from __future__ import annotations

from gpusched.placement.balanced import place_evenly
from gpusched.placement.domains import Fill, GangAsk, Shortfall, place_gang
from gpusched.placement.inventory import IntColumn
from gpusched.placement.tree import Tree


def place_on_tree(tree: Tree, leaf_room: IntColumn, ask: GangAsk) -> IntColumn | Shortfall:
    """Share a gang out over leaves as ``ask`` wants it; see ``place_gang``.

    With ``Fill.EVEN`` evenly where an even share exists, else as with ``Fill.FEWEST``.

    Raises:
        InvalidSpec: The segments can't be kept whatever is free.
    """
    if ask.fill is Fill.EVEN and (even := place_evenly(tree, leaf_room, ask)) is not None:
        return even
    return place_gang(tree, leaf_room, ask)
