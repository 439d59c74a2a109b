"""Which of the nodes that fit to take: keys in order of weight, exact integers, ties to the first name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpusched.placement.inventory import IntColumn
from gpusched.placement.request import NodeRequest
from gpusched.placement.snapshot import ClusterSnapshot


def node_keys(snapshot: ClusterSnapshot, request: NodeRequest, candidates: IntColumn) -> list[IntColumn]:
    """Say by what nodes are chosen: what they leave to the usual mix, and among equals the fullest.

    Args:
        snapshot: What is free.
        request: What each node must give.
        candidates: (M,) rows of nodes that fit.

    Returns:
        Keys of (M,) integers, higher is better; a later one decides where all before it are equal.
    """
    growth = snapshot.scores.growth(snapshot, request, candidates)
    return [growth, fullness(snapshot, request, candidates)]


def fullness(snapshot: ClusterSnapshot, request: NodeRequest, candidates: IntColumn) -> IntColumn:
    """Order nodes so that the fullest one wins and whole nodes stay whole for wide gangs.

    A GPU job prefers the node with the fewest free GPUs (best fit). A job without GPUs prefers
    nodes that have none, then those with the fewest free. Then the node with the most CPUs in use.

    Args:
        snapshot: What is free.
        request: What each node must give.
        candidates: (M,) rows of nodes that fit.

    Returns:
        (M,) integers, higher is fuller: no two nodes differ by rounding alone.
    """
    inventory = snapshot.inventory
    gpus_free = snapshot.gpus_free[candidates]
    cpus_total = inventory.cpus_total[candidates]
    cpus_used = cpus_total - snapshot.cpus_free[candidates]
    cost = gpus_free
    if request.gpus == 0:
        most_gpus = inventory.device_class.shape[1]
        cost = gpus_free + (most_gpus + 1) * (inventory.gpus_total[candidates] > 0)
    score: IntColumn = cpus_used - cost * (int(cpus_total.max(initial=0)) + 1)
    return score


def best(keys: Sequence[IntColumn], count: int) -> IntColumn:
    """Positions of the ``count`` best by the first key, of equal ones by the next; then the lower position.

    Args:
        keys: Each (M,), higher is better.
        count: How many, 1 to M.

    Returns:
        (count,) positions, ascending. O(M) per key, not O(M log M).
    """
    key, *finer = keys
    least = key.max() if count == 1 else np.partition(key, len(key) - count)[len(key) - count]
    above, equal = np.flatnonzero(key > least), np.flatnonzero(key == least)
    wanted = count - len(above)
    if finer and wanted < len(equal):
        equal = equal[best([column[equal] for column in finer], wanted)]
    return np.sort(np.concatenate((above, equal[:wanted])))
