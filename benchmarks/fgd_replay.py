"""The replay of the ATC'23 study: pods arrive one at a time, none leaves, none waits; what it measures."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.fgd_trace import Arrivals, Trace
from gpusched.domain.errors import StalePlan
from gpusched.placement.columns import Scoring
from gpusched.placement.fragmentation import FragmentTables
from gpusched.placement.gang import place_part
from gpusched.placement.mix import RequestMix, shape_of
from gpusched.placement.packing import kinds
from gpusched.placement.placement import NodePlacement
from gpusched.placement.request import NodeRequest
from gpusched.placement.snapshot import ClusterSnapshot

ALLOCATION_AT = (100, 110, 130)
FRAGMENTATION_AT = (50, 80, 90, 95, 100, 110, 130)


class Policy(Scoring, Protocol):
    """Says where pods go; the scheduler's own placement (``gang.place_part``) asks it."""

    def note(self, request: NodeRequest, row: int | None) -> None:
        """Hear of a decision: the node, or None where it was rejected."""
        ...


PolicyFor = Callable[[ClusterSnapshot, RequestMix], Policy]
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


def typical_shapes(pods: Sequence[NodeRequest]) -> RequestMix:
    """Shapes that make up 95 % of the pods, as the study counts them: of equally frequent ones the larger."""
    counts = Counter(map(shape_of, pods))
    larger_first = sorted(counts, key=_size, reverse=True)
    return RequestMix.of({shape: counts[shape] for shape in larger_first})


def _size(shape: NodeRequest) -> tuple[int, int, int, str]:
    return shape.cpus, shape.gpu_milli if shape.gpus else 0, shape.gpus, shape.gpu_model or ""


def replay(trace: Trace, arrivals: Arrivals, policy_for: PolicyFor) -> Outcome:
    """Offer every pod to the policy; set-up of the policy is not counted as decision time."""
    pods = [trace.pods[index] for index in arrivals.pod.tolist()]
    snapshot = trace.empty_cluster(arrivals)
    mix = typical_shapes(trace.pods)
    policy = policy_for(snapshot, mix)
    snapshot.score_by(policy)
    wall, cpu = time.perf_counter(), time.process_time()
    rows = [_place(snapshot, policy, pod) for pod in pods]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    allocation, fragmentation = measure(trace.empty_cluster(arrivals), mix, pods, rows)
    order = arrivals.node_order.tolist()
    decisions = tuple(None if at is None else (order[at[0]], at[1]) for at in rows)
    return Outcome(arrivals.seed, decisions, allocation, fragmentation, wall, cpu)


def _place(snapshot: ClusterSnapshot, policy: Policy, pod: NodeRequest) -> Decision:
    decision = place_part(snapshot, pod)
    if decision is not None:
        hold(snapshot, pod, *decision)
    policy.note(pod, None if decision is None else decision[0])
    return decision


def hold(snapshot: ClusterSnapshot, pod: NodeRequest, row: int, devices: Sequence[int]) -> None:
    """Take what a pod asks for; its thousandths of CPUs have no ids, so they are counted here.

    Raises:
        StalePlan: It is not free.
    """
    if snapshot.cpus_free[row] < pod.cpus or len(set(devices)) != pod.gpus:
        raise StalePlan(f"node {row} has not the CPUs, or not {pod.gpus} GPUs were named: plan again")
    snapshot.cpus_free[row] -= pod.cpus
    uuids = snapshot.inventory.uuids[row]
    snapshot.take(
        NodePlacement(
            node=snapshot.names[row],
            devices=tuple(uuids[device] for device in devices),
            cpu_ids=(),
            memory_bytes=pod.memory_bytes,
            gpu_milli=pod.gpu_milli,
        )
    )


def measure(
    snapshot: ClusterSnapshot, mix: RequestMix, pods: Sequence[NodeRequest], decisions: Sequence[Decision]
) -> tuple[ByArrival, ByArrival]:
    """Compute the study's two ratios from what was decided, on a ``snapshot`` that is empty and filled here.

    Raises:
        StalePlan: A decision takes what is not free.
    """
    capacity = int(snapshot.milli_free.sum())
    tables = FragmentTables(snapshot.inventory, mix)
    fragment = np.zeros(len(pods))
    kind = kinds(snapshot.inventory)
    now = tables.of_nodes(kind, snapshot.cpus_free, snapshot.milli_free)
    for event, (pod, decision) in enumerate(zip(pods, decisions, strict=True)):
        if decision is not None:
            hold(snapshot, pod, *decision)
            one = slice(decision[0], decision[0] + 1)
            now[one] = tables.of_nodes(kind[one], snapshot.cpus_free[one], snapshot.milli_free[one])
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
