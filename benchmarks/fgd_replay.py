"""The replay of the ATC'23 study: pods arrive one at a time, none leaves, none waits; what it measures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.fgd_trace import Arrivals, Trace
from gpusched.placement.fragmentation import FragmentTables, RequestMix
from gpusched.placement.shared_columns import Packer, Scoring
from gpusched.placement.shared_nodes import Shape, SharedNodes

ALLOCATION_AT = (100, 110, 130)
FRAGMENTATION_AT = (50, 80, 90, 95, 100, 110, 130)

Policy = Callable[[SharedNodes, RequestMix], Scoring]
ByArrival = dict[int, float | None]
Decision = tuple[int, tuple[int, ...]] | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """One order, replayed.

    Attributes:
        seed: Name of the order.
        decisions: Per arrival, the node's index by name and its GPUs; None if rejected.
        allocation: Percent of all GPU milli in use, by arrival percent.
        fragmentation: Percent of idle GPU milli that is fragment, by arrival percent.
        wall_s: Time of all decisions by the wall clock.
        cpu_s: The same, of this process alone: what the wall clock would show on an idle machine.
    """

    seed: str
    decisions: tuple[Decision, ...]
    allocation: ByArrival
    fragmentation: ByArrival
    wall_s: float
    cpu_s: float


def replay(trace: Trace, arrivals: Arrivals, policy: Policy) -> Outcome:
    """Offer every pod to the policy; set-up of the policy is not counted as decision time."""
    pods = [trace.pods[index] for index in arrivals.pod.tolist()]
    nodes = trace.empty_cluster(arrivals)
    mix = RequestMix.of(trace.pods)
    packer = Packer(nodes, policy(nodes, mix))
    wall, cpu = time.perf_counter(), time.process_time()
    rows = [packer.place(pod) for pod in pods]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    allocation, fragmentation = measure(trace.empty_cluster(arrivals), mix, pods, rows)
    order = arrivals.node_order.tolist()
    decisions = tuple(None if at is None else (order[at[0]], at[1]) for at in rows)
    return Outcome(arrivals.seed, decisions, allocation, fragmentation, wall, cpu)


def measure(
    nodes: SharedNodes, mix: RequestMix, pods: Sequence[Shape], decisions: Sequence[Decision]
) -> tuple[ByArrival, ByArrival]:
    """Compute the study's two ratios from what was decided, on ``nodes``, which are empty and filled here.

    Raises:
        StalePlan: A decision takes what is not free.
    """
    capacity = int(nodes.gpu.sum())
    tables = FragmentTables(mix, nodes.models, nodes.gpu.shape[1])
    fragment = np.zeros(len(pods))
    now = tables.of_nodes(nodes.model, nodes.cpu, nodes.gpu)
    for event, (pod, decision) in enumerate(zip(pods, decisions, strict=True)):
        if decision is not None:
            row, devices = decision
            nodes.take(row, pod, devices)
            one = slice(row, row + 1)
            now[row] = tables.of_nodes(nodes.model[one], nodes.cpu[one], nodes.gpu[one])[0]
        fragment[event] = now.sum()
    asked = np.array([pod.total_milli for pod in pods])
    used = np.cumsum(asked * np.array([decision is not None for decision in decisions]))
    percent = np.rint(np.cumsum(asked) / capacity * 100).astype(int)
    allocation = np.round(used / capacity * 100, 2)
    idle = np.maximum(capacity - used, 1)
    fragmentation = np.round(fragment / idle * 100, 2)
    return (
        {at: _mean_at(percent, allocation, at) for at in ALLOCATION_AT},
        {at: _mean_at(percent, fragmentation, at) for at in FRAGMENTATION_AT},
    )


def _mean_at(percent: NDArray[np.int64], values: NDArray[np.float64], at: int) -> float | None:
    events = percent == at
    if not events.any():
        events = np.abs(percent - at) == 1
    return round(float(values[events].mean()), 2) if events.any() else None
