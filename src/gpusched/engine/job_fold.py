"""What an event makes of a job, and of the queue and the resources that depend on it."""

from __future__ import annotations

from dataclasses import replace

from gpusched.domain.events import (
    AttemptEnded,
    AttemptStopping,
    Event,
    JobAllocated,
    JobEnded,
    JobHeld,
    JobReleased,
    JobRequeued,
    JobSlowed,
    JobStalled,
    JobSubmitted,
    JobUnderused,
    SlownessEnded,
    StallEnded,
    TaskFailed,
    TasksEnded,
    TasksStarted,
)
from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.job import Attempt, Job, Slowness, Stall
from gpusched.domain.job_state import INFRASTRUCTURE_REASONS, JobState, next_state
from gpusched.engine import restarts
from gpusched.engine.state import ClusterState

_Noticed = JobStalled | StallEnded | JobSlowed | SlownessEnded | JobUnderused
_AttemptEvent = TasksStarted | TaskFailed | TasksEnded | AttemptStopping | _Noticed


def submit(state: ClusterState, event: JobSubmitted, at_us: int) -> None:
    """Take a new job in."""
    job = Job(
        job_id=event.job_id,
        spec=event.spec,
        owner=event.owner,
        submitted_at_us=at_us,
        is_held=event.spec.hold,
    )
    state.jobs[job.job_id] = job
    state.next_job_id = JobId(max(state.next_job_id, job.job_id + 1))
    state.demand.note(job.job_id, job.spec)
    if not job.is_held:
        state.line_up(job)
        state.queue_version += 1


def apply_to_job(state: ClusterState, job: Job, event: Event, at_us: int) -> None:
    """Update a known job by one event.

    Raises:
        InvalidTransition: No job can make that move.
    """
    match event:
        case JobHeld():
            state.jobs[job.job_id] = job = restarts.held(job, event, at_us)
            state.note_delay(job)
            _dequeue(state, job)
        case JobReleased():
            state.jobs[job.job_id] = job = restarts.released(job, event)
            state.note_delay(job)
            _enqueue(state, job)
        case JobAllocated():
            _allocate(state, job, event)
        case (
            TasksStarted()
            | TaskFailed()
            | TasksEnded()
            | AttemptStopping()
            | JobStalled()
            | StallEnded()
            | JobUnderused()
            | JobSlowed()
            | SlownessEnded()
        ):
            assert job.attempt is not None
            state.jobs[job.job_id] = _attempt_progress(job, job.attempt, event, at_us)
        case AttemptEnded():
            _end_attempt(state, job, event, at_us)
        case JobRequeued():
            state.jobs[job.job_id] = job = replace(
                restarts.counted(job),
                state=next_state(job.state, JobState.PENDING),
                started_at_us=None,
                ended_at_us=None,
            )
            _enqueue(state, job)
        case JobEnded():
            next_state(job.state, event.state)
            state.delayed.pop(job.job_id, None)
            _dequeue(state, job)
            state.jobs[job.job_id] = replace(
                job,
                state=event.state,
                ended_at_us=at_us,
                end_reason=event.reason,
                end_detail=event.detail,
                exit_code=event.exit_code,
            )
        case _:
            raise AssertionError(f"{type(event).__name__} is not an event of a known job")


def _enqueue(state: ClusterState, job: Job) -> None:
    if job.state is JobState.PENDING and not job.is_held:
        state.line_up(job)
        state.queue_version += 1


def _dequeue(state: ClusterState, job: Job) -> None:
    if state.queue.ahead_of(job.job_id) is not None:
        state.queue.remove(job.job_id)
        state.queue_version += 1  # it may have been the head, which kept others back


def _allocate(state: ClusterState, job: Job, event: JobAllocated) -> None:
    state.queue.remove(job.job_id)
    job = replace(
        job,
        state=next_state(job.state, JobState.CONFIGURING),
        attempt=Attempt(epoch=event.epoch, allocation=event.allocation),
        started_at_us=event.allocation.granted_at_us,
        ended_at_us=None,
    )
    state.jobs[job.job_id] = job
    state.hold_resources(job)


def _attempt_progress(
    job: Job,
    attempt: Attempt,
    event: _AttemptEvent,
    at_us: int,
) -> Job:
    state = job.state
    match event:
        case TaskFailed():
            return job  # what follows from it is AttemptStopping
        case JobStalled() | StallEnded() | JobSlowed() | SlownessEnded() | JobUnderused():
            attempt = _noticed(attempt, event, at_us)
        case AttemptStopping():
            attempt = replace(
                attempt,
                stop_reason=event.reason,
                stop_detail=event.detail,
                stop_by=event.by,
                exit_code=event.exit_code,
            )
            job = _blamed(job, event.node)
            if job.state is not JobState.COMPLETING:
                state = next_state(job.state, JobState.COMPLETING)
        case TasksStarted():
            started, running_at_us = attempt.nodes_started | {event.node}, attempt.running_at_us
            if job.state is JobState.CONFIGURING and started.issuperset(attempt.node_names):
                running_at_us, state = at_us, JobState.RUNNING
            attempt = replace(attempt, nodes_started=started, running_at_us=running_at_us)
        case TasksEnded():
            attempt = replace(attempt, nodes_ended=attempt.nodes_ended | {event.node})
            if event.cause in INFRASTRUCTURE_REASONS:
                job = _blamed(job, event.node)
            if attempt.nodes_ended.issuperset(attempt.node_names) and job.state is not JobState.COMPLETING:
                state = next_state(job.state, JobState.COMPLETING)
    return replace(job, attempt=attempt, state=state)


def _noticed(attempt: Attempt, event: _Noticed, at_us: int) -> Attempt:
    match event:
        case JobStalled():
            stall = Stall(
                global_rank=event.global_rank,
                node=event.node,
                noticed_at_us=at_us,
                evidence=event.evidence,
            )
            return replace(attempt, stall=stall)
        case StallEnded():
            return replace(attempt, stall=None)
        case JobSlowed():
            slowness = Slowness(
                noticed_at_us=at_us,
                evidence=event.evidence,
                global_rank=event.global_rank,
                node=event.node,
            )
            return replace(attempt, slowness=slowness)
        case SlownessEnded():
            return replace(attempt, slowness=None)
        case JobUnderused():
            return replace(attempt, underused=event.evidence)


def _blamed(job: Job, node: NodeName | None) -> Job:
    if node is None or node in job.failed_on:
        return job
    return replace(job, failed_on=(*job.failed_on, node))


def _end_attempt(state: ClusterState, job: Job, event: AttemptEnded, at_us: int) -> None:
    assert job.attempt is not None
    state.free_resources(job)
    state.jobs[job.job_id] = replace(
        restarts.forgiven(job, at_us),
        attempt=replace(
            job.attempt,
            stop_reason=event.reason,
            stop_detail=event.detail,
            exit_code=event.exit_code,
        ),
        ended_at_us=at_us,
    )
