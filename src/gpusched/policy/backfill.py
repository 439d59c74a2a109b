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

Jobs that no up and open set of nodes could hold wait for nodes and block nobody; so do jobs whose account
is at its quota (``quota.AccountGate``): they wait for their own account and are nobody's head.

Cost: O(Q) for a queue of Q, a few numpy operations (``memo``), and one O(N) placement for each job up to the
head and for each later one that enough nodes have room for; a request that was refused, and any larger
gang of the same, is not tried again in the cycle. One forecast, for the head, once a job behind it has room.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from gpusched.domain.ids import JobId
from gpusched.domain.job_state import PendingReason
from gpusched.placement.fit import fit_empty
from gpusched.placement.gang import could_fit
from gpusched.placement.inventory import BoolColumn, IntColumn
from gpusched.placement.placement import Placement
from gpusched.placement.request import NodeRequest, node_request
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.forecast import forecast_start
from gpusched.policy.head import Head, HeadForecast, ends_by, take, try_place
from gpusched.policy.memo import CycleMemo
from gpusched.policy.plan import Plan, QueueEntry, RunningEntry, Start
from gpusched.policy.quota import AccountGate, Quotas

_REFUSED_MAX = 16  # refused after a start before the rest is sifted again


def make_plan(
    snapshot: ClusterSnapshot,
    queue: Sequence[QueueEntry],
    running: Sequence[RunningEntry],
    now_us: int,
    *,
    depth_max: int,
    memo: CycleMemo | None = None,
    gate: AccountGate | None = None,
) -> Plan:
    """Decide which jobs start now, and why each other one that was looked at waits.

    Args:
        snapshot: The cluster with ``running`` on it. Stays as it is.
        queue: Jobs that may start, first in line first.
        running: What holds devices now, and until when at the latest.
        now_us: The time now.
        depth_max: How many placements may be tried. Jobs that too few nodes could hold cost none.
        memo: What the last cycle left; brought up to date. It saves work and never changes the plan.
        gate: What the quotas of accounts leave to those that run; used up. None: there are no quotas.

    Returns:
        Starts in queue order; for jobs that wait a reason; for the head its forecast start, if any.
    """
    if not queue:
        return Plan(snapshot.generation)
    cycle = _Cycle(
        snapshot.copy(),
        queue,
        running,
        now_us=now_us,
        depth_max=depth_max,
        memo=memo or CycleMemo(),
        gate=gate or Quotas().gate(()),
    )
    return cycle.plan()


@dataclass(slots=True)
class _Refused:
    """Gangs known not to go: per request, the smallest number of nodes refused in this cycle.

    Free devices only become fewer in a cycle, so what was refused once stays refused.
    """

    nodes: dict[NodeRequest, int] = field(default_factory=dict)

    def holds(self, request: NodeRequest, nodes: int) -> bool:
        smallest = self.nodes.get(request)
        return smallest is not None and nodes >= smallest

    def add(self, request: NodeRequest, nodes: int) -> None:
        self.nodes[request] = min(nodes, self.nodes.get(request, nodes))


class _Cycle:
    """One pass over the queue. ``now`` shrinks with every start."""

    def __init__(
        self,
        now: ClusterSnapshot,
        queue: Sequence[QueueEntry],
        running: Sequence[RunningEntry],
        *,
        now_us: int,
        depth_max: int,
        memo: CycleMemo,
        gate: AccountGate,
    ) -> None:
        self.now, self.queue, self.running, self.now_us = now, queue, list(running), now_us
        self.tries_left, self.memo, self.gate = depth_max, memo, gate
        asked = memo.asked_of(now.inventory, queue)
        self.rows, self.nodes = asked.rows, asked.nodes
        self.available = memo.count_empty()[self.rows] >= self.nodes  # (Q,) enough nodes are up and open
        self.wanting = asked.wants_more  # (Q,) enough nodes may still not be enough
        for position in np.flatnonzero(self.available & self.wanting).tolist():
            self.available[position] = could_fit(now, queue[position].spec)
        self.starts: list[Start] = []

    def plan(self) -> Plan:
        """Start jobs in order up to the head, then those it can spare room for."""
        seen, head_at = self._start_in_order()
        if head_at is None:
            return self._plan(seen, {}, {})
        head = self._make_head(self.queue[head_at])
        seen = self._backfill(head, head_at + 1)
        return self._plan(seen, {head.job_id: PendingReason.RESOURCES}, HeadForecast(head))

    def _start_in_order(self) -> tuple[int, int | None]:
        """Return how many entries were seen, and which of them is the head."""
        for position in np.flatnonzero(self.available).tolist():
            if not self.gate.lets(self.queue[position].spec):
                continue
            if self.tries_left == 0:
                return position, None
            self.tries_left -= 1
            placement = try_place(self.now, self.queue[position].spec)
            if placement is None:
                return position + 1, position
            self._start(position, placement)
        return len(self.queue), None

    def _make_head(self, entry: QueueEntry) -> Head:
        self.gate.charge(entry.spec)  # kept for it: what starts before it leaves its account room for it
        usable = fit_empty(self.now.inventory, node_request(entry.spec))
        # Nothing starts behind the head before this was asked for (``_worth_trying``), so ``now`` and
        # ``running`` are still as they are here.
        forecast = partial(
            forecast_start, self.now, entry.spec, self.running, self.now_us, memo=self.memo.forecast
        )
        return Head(entry, usable, forecast)

    def _backfill(self, head: Head, first: int) -> int:
        """Try the entries from ``first`` on; return how many entries of the queue were seen."""
        no_room, in_the_way = _Refused(), _Refused()
        left = self._worth_trying(head, np.arange(first, len(self.queue)))
        refused, started = 0, len(self.starts)  # since ``left`` was sifted
        while left:
            position = left.popleft()
            spec, nodes = self.queue[position].spec, int(self.nodes[position])
            request = self.memo.request(self.rows[position])
            is_harmless = head.allows_until(ends_by(spec, self.now_us))
            if no_room.holds(request, nodes) or (not is_harmless and in_the_way.holds(request, nodes)):
                continue
            if not self.gate.lets(spec):
                continue
            if self.tries_left == 0:
                return position
            self.tries_left -= 1
            placement = try_place(self.now, spec)
            refusals = no_room if placement is None else in_the_way
            if placement is not None and not is_harmless:
                placement = head.beside(self.now, spec, placement)
            if placement is not None:
                self._start(position, placement)
                continue
            # What a wish or a licence kept out says nothing of a gang without it.
            if not (spec.has_topology_wishes or spec.licenses):
                refusals.add(request, nodes)
            refused += 1
            if refused >= _REFUSED_MAX and len(self.starts) > started:
                left = self._worth_trying(head, np.array(left, dtype=np.int64))
                refused, started = 0, len(self.starts)
        return len(self.queue)

    def _worth_trying(self, head: Head, positions: IntColumn) -> deque[int]:
        """Leave out entries that too few nodes have room for, now or beside the head."""
        enough = self.memo.count_now(self.now)[self.rows] >= self.nodes
        positions = positions[(enough & self.available & self._licensed())[positions]]
        if not len(positions):
            return deque()
        limits = (ends_by(self.queue[position].spec, self.now_us) for position in positions.tolist())
        allowed = np.fromiter((head.allows_until(limit) for limit in limits), dtype=bool)
        if not allowed.all():
            room, spare = head.room_beside(self.now)
            beside = self.memo.count_on(room, self.rows[positions])
            allowed |= beside + spare >= self.nodes[positions]
        return deque(positions[allowed].tolist())

    def _licensed(self) -> BoolColumn:
        """(Q,) entries for which enough licences are free."""
        licensed = np.ones(len(self.queue), dtype=bool)
        for position in np.flatnonzero(self.wanting).tolist():
            licensed[position] = self.now.has_licenses(self.queue[position].spec.licenses)
        return licensed

    def _start(self, position: int, placement: Placement) -> None:
        take(self.now, placement)
        entry = self.queue[position]
        self.gate.charge(entry.spec)
        self.starts.append(Start(entry.job_id, placement))
        ends_by_us = ends_by(entry.spec, self.now_us)
        self.running.append(RunningEntry(entry.job_id, placement.nodes, ends_by_us, placement.licenses))

    def _plan(
        self, seen: int, of_head: Mapping[JobId, PendingReason], forecasts: Mapping[JobId, int]
    ) -> Plan:
        reasons = dict.fromkeys([entry.job_id for entry in self.queue[:seen]], PendingReason.PRIORITY)
        for position in np.flatnonzero(~self.available[:seen]).tolist():
            reasons[self.queue[position].job_id] = PendingReason.NODES_UNAVAILABLE
        for start in self.starts:
            del reasons[start.job_id]
        reasons.update(of_head)
        if self.gate.is_bounded:
            for entry in self.queue[:seen]:
                if reasons.get(entry.job_id) is PendingReason.PRIORITY and not self.gate.lets(entry.spec):
                    reasons[entry.job_id] = PendingReason.QUOTA
        return Plan(self.now.generation, tuple(self.starts), reasons, forecasts)
