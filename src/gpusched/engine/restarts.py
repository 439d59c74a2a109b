"""How often a job runs again by itself, and how long it waits in between: rules, and their part of the fold.

Restarts are counted in a row. The first comes at once, as most failures are the only one for hours; then a
job waits 10 s, 20 s, 40 s ... up to 10 minutes, so that one that fails at every start does not keep its nodes
busy failing. An attempt that has run for an hour is no part of a crash loop: what was before is forgotten.
"""

from __future__ import annotations

from dataclasses import replace

from gpusched.domain.events import AttemptEnded, Event, JobHeld, JobReleased, JobRequeued
from gpusched.domain.job import Job
from gpusched.domain.job_state import INFRASTRUCTURE_REASONS, EndReason

DELAY_FIRST_S = 10
DELAY_MAX_S = 600
FORGIVEN_AFTER_S = 3600
"""A gang of 1,024 GPUs fails every 8 hours on sound hardware (arXiv 2410.21680), for as long as it lives."""
_DOUBLINGS_MAX = 16  # far beyond DELAY_MAX_S


def restart_delay_s(restarts: int) -> int:
    """How long a job waits before it is queued again, having restarted so often in a row already."""
    return 0 if restarts == 0 else min(DELAY_FIRST_S << min(restarts - 1, _DOUBLINGS_MAX), DELAY_MAX_S)


def next_try(job: Job, event: AttemptEnded) -> tuple[Event, ...]:
    """What takes the job to its next attempt; nothing if this was the last."""
    requeued = JobRequeued(job_id=job.job_id, epoch=event.epoch)
    if event.reason is EndReason.REQUEUED:
        return (requeued,)
    if not job.spec.may_restart_after(event.reason):
        return ()
    if job.restarts < job.spec.restart_limit:
        delay_s = restart_delay_s(job.restarts)
        waits = JobHeld(job_id=job.job_id, by="gpusched: it failed again", for_s=delay_s)
        return (requeued, waits) if delay_s else (requeued,)
    if event.reason in INFRASTRUCTURE_REASONS:
        return (requeued, JobHeld(job_id=job.job_id, by="gpusched: too many lost attempts"))
    return ()


def held(job: Job, event: JobHeld, at_us: int) -> Job:
    """The job, held; for a time or until somebody releases it."""
    until_us = None if event.for_s is None else at_us + event.for_s * 1_000_000
    return replace(job, is_held=True, held_until_us=until_us)


def released(job: Job, _event: JobReleased) -> Job:
    """The job, free to start. One that was held for good has a new budget: somebody looked at it."""
    restarts = 0 if job.held_until_us is None else job.restarts
    return replace(job, is_held=False, held_until_us=None, restarts=restarts)


def counted(job: Job) -> Job:
    """The job as it goes back to the queue: a restart more, unless somebody asked for it."""
    is_asked = job.attempt is not None and job.attempt.stop_reason is EndReason.REQUEUED
    return job if is_asked else replace(job, restarts=job.restarts + 1)


def forgiven(job: Job, at_us: int) -> Job:
    """The job after an attempt: what came before a long run is forgotten."""
    began_us = None if job.attempt is None else job.attempt.running_at_us
    has_run_long = began_us is not None and at_us - began_us >= FORGIVEN_AFTER_S * 1_000_000
    return replace(job, restarts=0) if has_run_long else job
