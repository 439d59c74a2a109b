"""Which of the nodes that fit to take: packing scores, exact integers, ties to the first name."""

from __future__ import annotations

import numpy as np

from gpusched.placement.inventory import IntColumn
from gpusched.placement.request import NodeRequest
from gpusched.placement.snapshot import ClusterSnapshot


def pack_score(snapshot: ClusterSnapshot, request: NodeRequest, candidates: IntColumn) -> IntColumn:
    """Score nodes so that the fullest one wins and whole nodes stay whole for wide gangs.

    A GPU job prefers the node with the fewest free GPUs (best fit). A job without GPUs prefers
    nodes that have none, then those with the fewest free. Then the node with the most CPUs in use.

    Args:
        snapshot: What is free.
        request: What each node must give.
        candidates: (M,) rows of nodes that fit.

    Returns:
        (M,) scores, higher is better. Integers: no two nodes differ by rounding alone.
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


def best(score: IntColumn, count: int) -> IntColumn:
    """Positions of the ``count`` highest scores, ascending; equal scores go to the lower position.

    O(M) in the number of scores, not O(M log M).
    """
    if count == 1:
        return np.array([score.argmax()])
    # Distinct keys: a partition of equal ones would be in no defined order.
    keys = np.arange(len(score)) - score * len(score)
    return np.sort(np.argpartition(keys, count - 1)[:count])
