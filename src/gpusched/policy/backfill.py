"""EASY backfill, to the single GPU.

A. W. Mu'alem and D. G. Feitelson, "Utilization, Predictability, Workloads, and User Runtime Estimates
in Scheduling the IBM SP2 with Backfilling", IEEE TPDS 12(6), 2001.

Jobs start in priority order until one does not fit: the head. Its *shadow time* is forecast from
the time limits of what runs. A later job starts now only if it ends by the shadow time, or if the
head still fits at the shadow time beside it. Where the head would not, the job is tried once more
away from the nodes the head would take. So no start ever moves the head's forecast later.

Where the head waits for a job without a time limit there is no shadow time. Then a later job starts
only if it has a time limit itself, or if it runs on nodes none of which the head could ever use.
The head cannot starve: jobs without limit never join those on its nodes, so these end at last, and
from then on the jobs before it all have limits, there is a shadow time, and the rule above holds.

Jobs that no up and open set of nodes could hold wait for nodes and block nobody.

Cost: one O(N) placement per distinct request that is tried; a request that was refused, and any larger
gang of the same, is not tried again in the cycle. One forecast, for the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import PendingReason
from gpusched.placement.fit import fit_empty
from gpusched.placement.gang import could_fit, fits, place
from gpusched.placement.inventory import BoolColumn
from gpusched.placement.placement import Placement
from gpusched.placement.request import NodeRequest, node_request
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.forecast import Forecast, forecast_start
from gpusched.policy.plan import Plan, QueueEntry, RunningEntry, Start

_SECOND_US = 1_000_000


def make_plan(
    snapshot: ClusterSnapshot,
    queue: Sequence[QueueEntry],
    running: Sequence[RunningEntry],
    now_us: int,
    *,
    depth_max: int,
) -> Plan:
    """Decide which jobs start now, and why each other one that was looked at waits.

    Args:
        snapshot: The cluster with ``running`` on it. Stays as it is.
        queue: Jobs that may start, first in line first.
        running: What holds devices now, and until when at the latest.
        now_us: The time now.
        depth_max: How many placements may be tried. Jobs equal to one refused before cost none.

    Returns:
        Starts in queue order; for jobs that wait a reason; for the head its forecast start, if any.
    """
    cycle = _Cycle(snapshot.copy(), list(running), now_us, tries_left=depth_max)
    for entry in queue:
        if cycle.tries_left == 0:
            break
        cycle.consider(entry)
    return Plan(snapshot.generation, tuple(cycle.starts), cycle.reasons, cycle.forecasts)


@dataclass(slots=True)
class _Refused:
    """Gangs known not to go: per request, the smallest number of nodes refused in this cycle.

    Free devices only become fewer in a cycle, so what was refused once stays refused.
    """

    nodes: dict[NodeRequest, int] = field(default_factory=dict)

    def holds(self, request: NodeRequest, nodes: int) -> bool:
        smallest = self.nodes.get(request)
        return smallest is not None and nodes >= smallest

    def add(self, spec: JobSpec) -> None:
        # What a topology wish kept out says nothing of a gang without it.
        if not spec.has_topology_wishes:
            request = node_request(spec)
            self.nodes[request] = min(spec.nodes, self.nodes.get(request, spec.nodes))


@dataclass(slots=True)
class _Head:
    """The first job that waits for resources, and what later jobs must leave to it."""

    spec: JobSpec
    forecast: Forecast | None
    usable: BoolColumn  # (N,) nodes it could ever use

    def allows_until(self, ends_by_us: int | None) -> bool:
        """Whether a job that ends by then may start anywhere."""
        if ends_by_us is None:
            return False
        return self.forecast is None or ends_by_us <= self.forecast.start_us

    def place_beside(self, now: ClusterSnapshot, spec: JobSpec) -> Placement | None:
        """Place a job that may outlast the shadow time, and hold it in the forecast; None if it must wait."""
        if self.forecast is None:
            return _place_off(now, spec, self.usable)
        later = self.forecast.snapshot
        placement = place(now, spec)
        _take(later, placement)
        if fits(later, self.spec):
            return placement
        for part in placement.nodes:
            later.give_back(part)
        taken_by_head = np.zeros(len(now.names), dtype=bool)
        taken_by_head[[now.index[part.node] for part in place(later, self.spec).nodes]] = True
        elsewhere = _place_off(now, spec, taken_by_head)
        if elsewhere is not None:
            _take(later, elsewhere)
        return elsewhere


@dataclass(slots=True)
class _Cycle:
    """One pass over the queue. ``now`` shrinks with every start."""

    now: ClusterSnapshot
    running: list[RunningEntry]
    now_us: int
    tries_left: int
    head: _Head | None = None
    no_room: _Refused = field(default_factory=_Refused)
    in_the_way: _Refused = field(default_factory=_Refused)  # would delay the head
    starts: list[Start] = field(default_factory=list)
    reasons: dict[JobId, PendingReason] = field(default_factory=dict)
    forecasts: dict[JobId, int] = field(default_factory=dict)

    def consider(self, entry: QueueEntry) -> None:
        """Start the job or write down why it waits."""
        request, nodes = node_request(entry.spec), entry.spec.nodes
        if not could_fit(self.now, entry.spec):
            self.reasons[entry.job_id] = PendingReason.NODES_UNAVAILABLE
            return
        self.reasons[entry.job_id] = PendingReason.PRIORITY
        if self.no_room.holds(request, nodes):
            return
        ends_by_us = _ends_by(entry.spec, self.now_us)
        is_harmless = self.head is None or self.head.allows_until(ends_by_us)
        if not is_harmless and self.in_the_way.holds(request, nodes):
            return
        self.tries_left -= 1
        if not fits(self.now, entry.spec):
            self.no_room.add(entry.spec)
            if self.head is None:
                self._becomes_head(entry)
        elif self.head is None or is_harmless:
            self._start(entry, place(self.now, entry.spec), ends_by_us)
        elif (placement := self.head.place_beside(self.now, entry.spec)) is not None:
            self._start(entry, placement, ends_by_us)
        else:
            self.in_the_way.add(entry.spec)

    def _becomes_head(self, entry: QueueEntry) -> None:
        forecast = forecast_start(self.now, entry.spec, self.running, self.now_us)
        self.head = _Head(entry.spec, forecast, fit_empty(self.now.inventory, node_request(entry.spec)))
        self.reasons[entry.job_id] = PendingReason.RESOURCES
        if forecast is not None:
            self.forecasts[entry.job_id] = forecast.start_us

    def _start(self, entry: QueueEntry, placement: Placement, ends_by_us: int | None) -> None:
        _take(self.now, placement)
        del self.reasons[entry.job_id]
        self.starts.append(Start(entry.job_id, placement))
        self.running.append(RunningEntry(entry.job_id, placement.nodes, ends_by_us))


def _ends_by(spec: JobSpec, now_us: int) -> int | None:
    return None if spec.time_limit_s is None else now_us + spec.time_limit_s * _SECOND_US


def _take(snapshot: ClusterSnapshot, placement: Placement) -> None:
    for part in placement.nodes:
        snapshot.take(part)


def _place_off(now: ClusterSnapshot, spec: JobSpec, avoid: BoolColumn) -> Placement | None:
    return place(now, spec, avoid=avoid) if fits(now, spec, avoid=avoid) else None
