"""Which of the nodes that fit to take, as far as no mix of requests is needed: the fullest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from gpusched.placement.inventory import IntColumn, Inventory
from gpusched.placement.request import NodeRequest


class FreeColumns(Protocol):
    """What of N nodes is free; ``ClusterSnapshot`` is one.

    Attributes:
        milli_free: (N, G) thousandths of every device.
        gpus_free: (N,) devices that are wholly free.
        cpus_free: (N,)
        stamps: (N,) a number that a row gets anew with every change: equal stamps, equal rows.
    """

    milli_free: IntColumn
    gpus_free: IntColumn
    cpus_free: IntColumn
    stamps: IntColumn


def fullness(inventory: Inventory, free: FreeColumns, request: NodeRequest, rows: IntColumn) -> IntColumn:
    """Order nodes so that the fullest one wins and whole nodes stay whole for wide gangs.

    A GPU job prefers the node with the fewest free GPUs (best fit). A job without GPUs prefers
    nodes that have none, then those with the fewest free. Then the node with the most CPUs in use.

    Args:
        inventory: What the nodes have.
        free: What is free.
        request: What each node must give.
        rows: (M,) nodes.

    Returns:
        (M,) whole numbers, higher is fuller; no two lie ``fullness_span`` apart.
    """
    cost = free.gpus_free[rows]
    if request.gpus == 0:
        cost = cost + (inventory.device_class.shape[1] + 1) * (inventory.gpus_total[rows] > 0)
    cpus_used = inventory.cpus_total[rows] - free.cpus_free[rows]
    score: IntColumn = cpus_used - cost * (inventory.cpus_most + 1)
    return score


def fullness_span(inventory: Inventory) -> int:
    """More than any two values of ``fullness`` differ by."""
    most_gpus: int = inventory.device_class.shape[1]
    return 2 * (most_gpus + 1) * (inventory.cpus_most + 1)


def best(keys: Sequence[IntColumn], count: int) -> IntColumn:
    """Positions of the ``count`` best by the first key, of equal ones by the next; then the lower position.

    Args:
        keys: Each (M,), higher is better.
        count: How many, 1 to M.

    Returns:
        (count,) positions, ascending. O(M) per key, not O(M log M).
    """
    key, *finer = keys
    if count == 1 and not finer:
        return np.array([key.argmax()])
    least = key.max() if count == 1 else np.partition(key, len(key) - count)[len(key) - count]
    above, equal = np.flatnonzero(key > least), np.flatnonzero(key == least)
    wanted = count - len(above)
    if finer and wanted < len(equal):
        equal = equal[best([column[equal] for column in finer], wanted)]
    return np.sort(np.concatenate((above, equal[:wanted])))
