"""Segments inside a node: every so many consecutive ranks on GPUs of one NVLink island, socket or switch.

A node can give its part if its islands have room for enough whole segments; which islands give how many
is decided as for domains of the fabric: the tightest that holds all, else the largest first.
Cost: O(N·G) a request that has such a segment, nothing for others.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gpusched.placement.devices import choose_devices
from gpusched.placement.domains import Fill, split
from gpusched.placement.inventory import BoolColumn, DeviceShape, IntColumn, Inventory
from gpusched.placement.request import Island, NodeRequest
from gpusched.placement.snapshot import ClusterSnapshot


def wanted_island(inventory: Inventory, request: NodeRequest) -> Island | None:
    """What must be kept inside a node; None where the level is one of the fabric, which holds whole nodes."""
    island = request.island
    return None if island is None or island.level in inventory.tree.levels else island


def fits_islands(inventory: Inventory, request: NodeRequest, usable: NDArray[np.bool_]) -> BoolColumn:
    """Tell on which nodes whole segments find room.

    Args:
        inventory: How the nodes are wired.
        request: What each must give.
        usable: (N, G) devices to count, whatever their class.

    Returns:
        (N,) bool.
    """
    island = wanted_island(inventory, request)
    if island is None:
        return np.ones(len(inventory.names), dtype=bool)
    matching = inventory.matching_classes(request)
    usable = usable & matching[inventory.device_class]
    segments = np.zeros(len(inventory.names), dtype=np.int64)
    for shape, rows in _alike(inventory):
        for group in shape.groups[island.level]:
            segments[rows] += usable[np.ix_(rows, np.array(group))].sum(axis=1) // island.gpus
    return segments * island.gpus >= request.gpus


def fits_free_islands(snapshot: ClusterSnapshot, request: NodeRequest) -> BoolColumn:
    """Tell on which nodes whole segments find room now: (N,) bool."""
    return fits_islands(snapshot.inventory, request, snapshot.milli_free >= request.gpu_milli)


def fits_fitted_islands(inventory: Inventory, request: NodeRequest) -> BoolColumn:
    """Tell on which nodes whole segments would find room if nothing ran: (N,) bool."""
    return fits_islands(inventory, request, inventory.device_class < len(inventory.classes))


def largest_island(inventory: Inventory, request: NodeRequest) -> int:
    """The most GPUs that one island of any node has, of those the request may use."""
    assert request.island is not None
    matching = inventory.matching_classes(request)
    usable = matching[inventory.device_class]
    return max(
        (
            int(usable[np.ix_(rows, np.array(group))].sum(axis=1).max())
            for shape, rows in _alike(inventory)
            for group in shape.groups[request.island.level]
        ),
        default=0,
    )


def choose_in_islands(
    shape: DeviceShape, free: tuple[int, ...], count: int, island: Island
) -> tuple[int, ...]:
    """Choose ``count`` of the ``free`` devices of a node so that every segment is in one island.

    Args:
        shape: The node's wiring.
        free: Columns to choose from, ascending; ``fits_islands`` holds for them.
        count: How many, a multiple of ``island.gpus``.
        island: What must be kept together.

    Returns:
        (count,) columns in rank order, each ``island.gpus`` of them in one island.
    """
    here = [tuple(column for column in group if column in free) for group in shape.groups[island.level]]
    sizes = np.array([len(group) for group in here], dtype=np.int64)
    shares = split(sizes // island.gpus, sizes, count // island.gpus, Fill.FEWEST)
    assert shares is not None, "fits_islands said that there is room"
    chosen: list[int] = []
    for at, segments in sorted(shares):
        chosen += choose_devices(shape, here[at], segments * island.gpus)
    return tuple(chosen)


@lru_cache(maxsize=4)
def _alike(inventory: Inventory) -> tuple[tuple[DeviceShape, IntColumn], ...]:
    """Nodes wired alike: each shape and its rows."""
    rows: dict[DeviceShape, list[int]] = {}
    for row, shape in enumerate(inventory.shapes):
        rows.setdefault(shape, []).append(row)
    return tuple((shape, np.array(each, dtype=np.int64)) for shape, each in rows.items())
