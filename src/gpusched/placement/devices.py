"""Which GPUs and CPUs inside a node: near each other, and leaving the rest near each other.

Exact over all subsets for up to 16 candidates, at most C(16, 8) = 12,870 of them; above that (MIG
slices) a subset is grown from every seed and the best kept. Answers are remembered per wiring, so
on a cluster of like nodes a choice costs one look-up.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from gpusched.placement.inventory import DeviceShape

EXACT_MAX = 16
"""Candidates up to which every subset is looked at."""


@lru_cache(maxsize=65536)
def choose_devices(shape: DeviceShape, free: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Choose ``count`` of the ``free`` devices of a node that are wired best to each other.

    First the subset whose slowest pair is fastest (the ring runs at its pace), then the largest
    sum of bandwidths, the fewest NUMA nodes, the shortest PCIe paths; among equals the one that
    leaves the best-wired remainder, so NVLink islands stay whole; then the lowest columns.

    Args:
        shape: The node's wiring.
        free: Columns to choose from, ascending.
        count: How many, at most ``len(free)``.

    Returns:
        (count,) columns in rank order: each next device is the nearest to the one before.
    """
    if count == 0:
        return ()
    candidates = np.array(free)
    if count < len(free):
        subsets = _all_subsets(len(free), count) if len(free) <= EXACT_MAX else _grown(shape, free, count)
        candidates = candidates[subsets[_best_subset(shape, candidates, subsets)]]
    return _rank_order(shape, candidates.tolist())


@lru_cache(maxsize=65536)
def choose_cpus(free: int, near: tuple[int, ...], numa_cpus: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Choose ``count`` free CPUs: each device's share near it, the lowest ids first.

    Without devices, the fullest NUMA node that holds them all, so the emptier ones stay whole.
    Sets of CPUs are integers: bit i stands for CPU i.

    Args:
        free: The free CPUs, at least ``count``.
        near: CPUs near each chosen device, in rank order; 0 where unknown.
        numa_cpus: CPUs of each NUMA node; empty if unknown.
        count: How many.

    Returns:
        (count,) CPU ids, the first device's share first, so that consecutive slices suit consecutive ranks.
    """
    if not near:
        roomy = [free & cpus for cpus in numa_cpus if (free & cpus).bit_count() >= count]
        near = (min(roomy, key=int.bit_count),) if roomy else ()
    picked: list[int] = []
    for position, cpus in enumerate(near):
        share = count * (position + 1) // len(near) - count * position // len(near)
        free = _pick_lowest(free, cpus, share, picked)
    _pick_lowest(free, free, count - len(picked), picked)
    return tuple(picked)


def _pick_lowest(free: int, among: int, count: int, picked: list[int]) -> int:
    candidates = free & among
    while candidates and count > 0:
        lowest = candidates & -candidates
        picked.append(lowest.bit_length() - 1)
        candidates ^= lowest
        free ^= lowest
        count -= 1
    return free


@lru_cache(maxsize=256)
def _all_subsets(size: int, count: int) -> NDArray[np.int64]:
    return np.array(list(combinations(range(size), count)), dtype=np.int64)


def _best_subset(shape: DeviceShape, candidates: NDArray[np.int64], subsets: NDArray[np.int64]) -> int:
    """Rank (S, count) subsets of positions in ``candidates`` (M,); the first best one's row."""
    bandwidth = shape.bandwidth_mb_s[np.ix_(candidates, candidates)]
    distance = shape.distance[np.ix_(candidates, candidates)]
    inside = np.zeros((len(subsets), len(candidates)))
    np.put_along_axis(inside, subsets, 1, axis=1)
    numa = [shape.numa[column] for column in candidates]
    numa_nodes = np.zeros(len(subsets))
    for node in set(numa):
        numa_nodes += inside[:, [other == node for other in numa]].any(axis=1)
    keys = (  # np.lexsort: the last key decides first
        _over_pairs(distance, 1 - inside),
        -_over_pairs(bandwidth, 1 - inside),
        _over_pairs(distance, inside),
        numa_nodes,
        -_over_pairs(bandwidth, inside),
        -_slowest_pair(bandwidth, subsets),
    )
    return int(np.lexsort(np.stack(keys))[0])


def _over_pairs(weight: NDArray[np.float64], inside: NDArray[np.float64]) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = ((inside @ weight) * inside).sum(axis=1)
    return sums


def _slowest_pair(bandwidth: NDArray[np.float64], subsets: NDArray[np.int64]) -> NDArray[np.float64]:
    without_self = bandwidth.copy()
    np.fill_diagonal(without_self, np.inf)
    slowest: NDArray[np.float64] = without_self[subsets[:, :, None], subsets[:, None, :]].min(axis=(1, 2))
    return slowest


def _grown(shape: DeviceShape, free: tuple[int, ...], count: int) -> NDArray[np.int64]:
    """From every seed, add the device with the fastest slowest link, then the largest sum."""
    bandwidth = shape.bandwidth_mb_s[np.ix_(free, free)]
    distance = shape.distance[np.ix_(free, free)]
    subsets = []
    for seed in range(len(free)):
        chosen = [seed]
        slowest, total, far = bandwidth[seed].copy(), bandwidth[seed].copy(), distance[seed].copy()
        while len(chosen) < count:
            order = np.lexsort((far, -total, -slowest))
            newest = next(int(position) for position in order if position not in chosen)
            chosen.append(newest)
            slowest = np.minimum(slowest, bandwidth[newest])
            total += bandwidth[newest]
            far += distance[newest]
        subsets.append(sorted(chosen))
    return np.array(sorted(subsets), dtype=np.int64)


def _rank_order(shape: DeviceShape, columns: Sequence[int]) -> tuple[int, ...]:
    left = sorted(columns)
    order = [left.pop(0)]
    while left:
        last = order[-1]
        nearest = max(left, key=lambda c: (shape.bandwidth_mb_s[last, c], -shape.distance[last, c], -c))
        left.remove(nearest)
        order.append(nearest)
    return tuple(order)
