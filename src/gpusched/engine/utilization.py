"""Held and idle GPUs into facts: which jobs hold a GPU that they hardly use. Memory only.

As dstack has it: a job breaks its policy when any of its GPUs was below the minimum for the whole window.
Busy is NVML's, the share of time in which some kernel ran, as of each heartbeat; it is not efficiency.
A GPU that cannot be read (declared, a MIG slice, a sick card) is taken for used.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpusched.domain.ids import AttemptId, DeviceUuid, NodeName
from gpusched.domain.job import Attempt, Job
from gpusched.domain.job_spec import UtilizationPolicy
from gpusched.domain.job_state import JobState
from gpusched.domain.telemetry import NodeSample
from gpusched.engine.inputs import Fact, GpusUnderused


class UtilizationWatch:
    """How busy every device was last, and since when each watched one has been below its minimum."""

    def __init__(self) -> None:
        self._busy: dict[NodeName, dict[DeviceUuid, float | None]] = {}
        self._low_since_us: dict[tuple[AttemptId, NodeName, DeviceUuid], int] = {}

    def heard(self, sample: NodeSample) -> None:
        """Take note of a heartbeat's sample."""
        self._busy[sample.node] = {device.uuid: device.busy_percent for device in sample.devices}

    def check(self, jobs: Iterable[Job], now_us: int) -> tuple[Fact, ...]:
        """Which of the jobs that run break their policy by now, a clock that only goes forward."""
        before, self._low_since_us = self._low_since_us, {}
        facts: list[Fact] = []
        for job in jobs:
            policy, attempt, attempt_id = job.spec.utilization, job.attempt, job.attempt_id
            if policy is None or attempt is None or attempt_id is None or job.state is not JobState.RUNNING:
                continue
            overdue = []
            for node, uuid, busy in self._low(attempt, policy):
                key = (attempt_id, node, uuid)
                since_us = self._low_since_us[key] = before.get(key, now_us)
                if now_us - since_us >= policy.window_s * 1_000_000:
                    overdue.append(_evidence(uuid, node, busy, policy))
            if overdue and attempt.underused is None:
                facts.append(GpusUnderused(attempt_id, overdue[0]))
        return tuple(facts)

    def _low(
        self, attempt: Attempt, policy: UtilizationPolicy
    ) -> Iterable[tuple[NodeName, DeviceUuid, float]]:
        for part in attempt.allocation.nodes:
            busy_of = self._busy.get(part.node, {})
            for device in part.devices:
                busy = busy_of.get(device.uuid)
                if busy is not None and busy < policy.min_percent:
                    yield part.node, device.uuid, busy


def _evidence(uuid: DeviceUuid, node: NodeName, busy: float, policy: UtilizationPolicy) -> str:
    return (
        f"GPU {uuid} on {node} was busy less than {policy.min_percent} % of the time for {policy.window_s} s "
        f"({busy:.0f} % now)"
    )
