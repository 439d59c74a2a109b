"""What follows from an event: further events (decisions) and commands (orders).

``consequences`` decides, ``react`` orders. Both only look; applying is ``state.apply``.
Both are idempotent: called twice with the same state and event they return the same.
"""

from __future__ import annotations

from collections.abc import Callable

from gpusched.domain.allocation import Allocation
from gpusched.domain.commands import Command, DumpStacks, LaunchTasks, StopTasks
from gpusched.domain.events import (
    AttemptEnded,
    AttemptStopping,
    Event,
    JobAllocated,
    JobEnded,
    JobStalled,
    JobUnderused,
    NodeDrained,
    NodeDrainStarted,
    NodeFaulted,
    RepairStarted,
    TaskFailed,
    TasksEnded,
)
from gpusched.domain.identity import Identity
from gpusched.domain.ids import Epoch, JobId, NodeName
from gpusched.domain.job import Attempt, Job, TaskExit
from gpusched.domain.job_spec import JobSpec, OnUnderuse, StallAction
from gpusched.domain.job_state import INFRASTRUCTURE_REASONS, EndReason, terminal_state
from gpusched.domain.launch_plan import LaunchPlan
from gpusched.domain.node import Schedulability
from gpusched.engine.health import health_consequences, repair_order, repairs
from gpusched.engine.restarts import next_try
from gpusched.engine.state import ClusterState

PlanLaunch = Callable[[JobId, Epoch, JobSpec, Identity, Allocation], LaunchPlan]
"""``make_launch_plan`` for one cluster."""


def react(state: ClusterState, event: Event, plan_launch: PlanLaunch) -> tuple[Command, ...]:
    """The orders that an applied event calls for."""
    match event:
        case JobAllocated():
            job = state.jobs[event.job_id]
            plan = plan_launch(job.job_id, event.epoch, job.spec, job.owner, event.allocation)
            return tuple(
                LaunchTasks(job_id=job.job_id, epoch=event.epoch, node=part.node, launch=part)
                for part in plan.nodes
            )
        case JobStalled():
            attempt = _attempt(state.jobs[event.job_id])
            return tuple(
                DumpStacks(job_id=event.job_id, epoch=event.epoch, node=node)
                for node in attempt.node_names
                if node not in attempt.nodes_ended
            )
        case AttemptStopping():
            job = state.jobs[event.job_id]
            attempt = _attempt(job)
            return tuple(
                StopTasks(
                    job_id=job.job_id,
                    epoch=attempt.epoch,
                    node=node,
                    kill_wait_s=job.spec.kill_wait_s,
                    reason=event.reason.value,
                )
                for node in attempt.node_names
                if node not in attempt.nodes_ended
            )
        case RepairStarted():
            return (repair_order(event.node, event.repair),)
        case _:
            return ()


def consequences(state: ClusterState, event: Event) -> tuple[Event, ...]:
    """The decisions that an applied event calls for, in order."""
    match event:
        case TaskFailed():
            attempt = _attempt(state.jobs[event.job_id])
            detail = _describe(event.exit, event.node, event.last_lines, event.cause)
            reason = event.cause or EndReason.RANK_FAILED
            return _stopping(event, attempt, reason, detail, event.exit.shell_code)
        case TasksEnded():
            return (*_faults(state, event), *_after_tasks_ended(state, event))
        case JobUnderused():
            return _after_underuse(state.jobs[event.job_id], event)
        case JobStalled():
            return _after_stall(state.jobs[event.job_id], event)
        case AttemptEnded():
            job = state.jobs[event.job_id]
            names = _attempt(job).node_names
            return (*_after_attempt(job, event), *(_drained(state, names) or repairs(state, names)))
        case NodeDrainStarted():
            return _drained(state, (event.node,))
        case _:
            return health_consequences(state, event)


def _attempt(job: Job) -> Attempt:
    assert job.attempt is not None, f"job {job.job_id} has no attempt"
    return job.attempt


def _stopping(
    event: TaskFailed | TasksEnded | JobStalled | JobUnderused,
    attempt: Attempt,
    reason: EndReason,
    detail: str | None,
    exit_code: int | None,
) -> tuple[Event, ...]:
    """The decision to end the gang; a rank that the others wait for is held against its node."""
    if attempt.stop_reason is not None:  # the first reason stands
        return ()
    return (
        AttemptStopping(
            job_id=event.job_id,
            epoch=event.epoch,
            reason=reason,
            detail=detail,
            by=None,
            exit_code=exit_code,
            node=event.node if isinstance(event, JobStalled) else None,
        ),
    )


def _faults(state: ClusterState, event: TasksEnded) -> tuple[Event, ...]:
    if event.cause not in INFRASTRUCTURE_REASONS or event.node not in state.nodes:
        return ()
    return (NodeFaulted(node=event.node, job_id=event.job_id, epoch=event.epoch, reason=event.cause),)


def _after_tasks_ended(state: ClusterState, event: TasksEnded) -> tuple[Event, ...]:
    attempt = _attempt(state.jobs[event.job_id])
    failed = next((exit_ for exit_ in event.exits if not exit_.is_success), None)
    if event.cause is not None and event.cause is not EndReason.COMPLETED:
        code = None if failed is None else failed.shell_code
        stopping = _stopping(event, attempt, event.cause, event.detail, code)
    elif failed is not None:
        detail = event.detail or _describe(failed, event.node)
        stopping = _stopping(event, attempt, EndReason.RANK_FAILED, detail, failed.shell_code)
    else:
        stopping = ()
    if not attempt.nodes_ended.issuperset(attempt.node_names):
        return stopping
    first = stopping[0] if stopping else None
    if isinstance(first, AttemptStopping):
        reason, detail_, exit_code = first.reason, first.detail, first.exit_code
    elif attempt.stop_reason is not None:
        reason, detail_, exit_code = attempt.stop_reason, attempt.stop_detail, attempt.exit_code
    else:
        reason, detail_, exit_code = EndReason.COMPLETED, None, 0
    ended = AttemptEnded(
        job_id=event.job_id, epoch=event.epoch, reason=reason, detail=detail_, exit_code=exit_code
    )
    return (ended,)


def _after_stall(job: Job, event: JobStalled) -> tuple[Event, ...]:
    if job.spec.stall_policy.action is not StallAction.REQUEUE:
        return ()
    attempt = _attempt(job)
    if attempt.stop_reason is not None:
        return ()
    return (
        AttemptStopping(
            job_id=event.job_id,
            epoch=event.epoch,
            reason=EndReason.STALLED,
            detail=event.evidence,
            by=None,
            exit_code=None,
            node=event.node,
        ),
    )


def _after_underuse(job: Job, event: JobUnderused) -> tuple[Event, ...]:
    policy = job.spec.utilization
    if policy is None or policy.action is not OnUnderuse.END:
        return ()
    return _stopping(event, _attempt(job), EndReason.UNDERUSED, event.evidence, None)


def _after_attempt(job: Job, event: AttemptEnded) -> tuple[Event, ...]:
    again = next_try(job, event)
    if again:
        return again
    ended = JobEnded(
        job_id=job.job_id,
        state=terminal_state(event.reason),
        reason=event.reason,
        detail=event.detail,
        exit_code=event.exit_code,
    )
    return (ended,)


def _drained(state: ClusterState, nodes: tuple[NodeName, ...]) -> tuple[Event, ...]:
    return tuple(
        NodeDrained(node=name)
        for name in nodes
        if name in state.nodes
        and state.nodes[name].schedulability is Schedulability.DRAINING
        and not state.jobs_on.get(name)
    )


def _describe(
    exit_: TaskExit, node: NodeName, last_lines: tuple[str, ...] = (), cause: EndReason | None = None
) -> str:
    how = (
        f"was killed by signal {exit_.signal}"
        if exit_.signal is not None
        else f"exited with code {exit_.exit_code}"
    )
    if cause is EndReason.OUT_OF_MEMORY:
        how += ": the kernel killed it, or what it had started, for lack of memory"
    said = "".join(f"\n  | {line}" for line in last_lines)
    return f"rank {exit_.global_rank} on {node} {how}" + (f"; its last output:{said}" if said else "")
