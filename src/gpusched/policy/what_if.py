"""Whether a job would start now if it asked for something else: asked of the cycle itself.

After a cycle nothing else that waits can start, and of all that waits only the head keeps others
back. So the cycle run on the head and the hypothetical job alone decides as the next one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.partition import Partitions
from gpusched.placement.ladders import ANY_LIMIT_S
from gpusched.placement.relax import Relaxed, find_relaxations
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.backfill import make_plan
from gpusched.policy.memo import CycleMemo
from gpusched.policy.plan import Plan, QueueEntry, RunningEntry

_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The cluster at one moment, and the head that must not be delayed (None: none goes before the job)."""

    snapshot: ClusterSnapshot
    partitions: Partitions
    running: Sequence[RunningEntry]
    now_us: int
    head: QueueEntry | None

    def relaxations(self, job_id: JobId, spec: JobSpec) -> tuple[Relaxed, ...]:
        """Find how little less the job could ask for and start now; see ``find_relaxations``.

        Args:
            job_id: Its id, or the one that it would get.
            spec: What it asks for.
        """
        memo = CycleMemo()

        def plan_of(entries: Sequence[QueueEntry]) -> Plan:
            depth = len(entries)
            return make_plan(self.snapshot, entries, self.running, self.now_us, depth_max=depth, memo=memo)

        if self.head is None:
            return find_relaxations(self.snapshot, spec, partitions=self.partitions)
        forecast_us = plan_of([self.head]).forecasts.get(self.head.job_id)
        spare_s = ANY_LIMIT_S if forecast_us is None else (forecast_us - self.now_us) // _SECOND_US

        def starts(changed: JobSpec) -> bool:
            assert self.head is not None
            plan = plan_of([self.head, QueueEntry(job_id, changed)])
            return any(start.job_id == job_id for start in plan.starts)

        return find_relaxations(
            self.snapshot, spec, partitions=self.partitions, starts=starts, time_limit_max_s=spare_s
        )
