"""What a job could ask for instead and start now, as the engine's next cycle would have it."""

from __future__ import annotations

import asyncio

from gpusched.domain.diagnosis import Relaxation
from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import PendingReason
from gpusched.engine.core import Engine
from gpusched.policy.plan import QueueEntry
from gpusched.policy.what_if import WhatIf

ASKING_LESS_HELPS = frozenset(
    {PendingReason.RESOURCES, PendingReason.PRIORITY, PendingReason.NODES_UNAVAILABLE}
)
"""What a smaller request can help against: room, and the room that the head is kept."""


async def relaxations_of(engine: Engine, job_id: JobId, spec: JobSpec, now_us: int) -> tuple[Relaxation, ...]:
    """Look for the nearest smaller requests, beside the event loop: it may take a fraction of a second."""
    state = engine.state
    what_if = WhatIf(
        snapshot=state.snapshot.detached(),
        partitions=state.partitions,
        running=tuple(state.running.values()),
        now_us=now_us,
        head=_head_before(engine, job_id),
    )
    found = await asyncio.to_thread(what_if.relaxations, job_id, spec)
    return tuple(relaxed.relaxation for relaxed in found)


def _head_before(engine: Engine, job_id: JobId) -> QueueEntry | None:
    """The head of the last cycle, if it still waits and goes before this job."""
    state = engine.state
    for head_id, reason in engine.outlook.reasons.items():
        if reason is PendingReason.RESOURCES and head_id in state.jobs:
            head_place, own_place = engine.ahead_of(head_id), engine.ahead_of(job_id)
            if head_place is not None and (own_place is None or head_place < own_place):
                return QueueEntry(head_id, state.jobs[head_id].spec)
    return None
