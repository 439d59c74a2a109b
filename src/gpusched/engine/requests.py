"""Requests into events, or a clear refusal that changes nothing."""

from __future__ import annotations

from typing import assert_never

from gpusched.domain.check_spec import require_valid
from gpusched.domain.errors import NotFound, NotPermitted, OverLimit, WrongState
from gpusched.domain.events import (
    AttemptStopping,
    BreakerReset,
    JobEnded,
    JobHeld,
    JobReleased,
    JobSubmitted,
    NodeCordoned,
    NodeDrainStarted,
    NodeResumed,
    OutagesEnded,
)
from gpusched.domain.health import BY_HEALTH
from gpusched.domain.identity import Principal, Role
from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.job import Job
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.node import WHOLE_MILLI, Node, Schedulability
from gpusched.engine.inputs import (
    CancelJob,
    CordonNode,
    DrainNode,
    HoldJob,
    JobRequest,
    NodeRequest,
    ReleaseJob,
    Request,
    RequeueJob,
    ResetBreaker,
    ResumeNode,
    Submit,
)
from gpusched.engine.state import ClusterState
from gpusched.engine.transaction import Transaction
from gpusched.placement.diagnose import check_feasible

PENDING_MAX = 1_000_000
"""Unfinished jobs a head holds: beyond it submissions are refused rather than memory filled."""


def decide(tx: Transaction, request: Request) -> tuple[JobId, ...]:
    """Carry out one request and return the ids of the jobs it made.

    Raises:
        Rejected: Nothing was recorded; the message says what to change.
    """
    match request:
        case Submit():
            return _submit(tx, request)
        case CancelJob() | HoldJob() | ReleaseJob() | RequeueJob():
            _change_job(tx, request)
        case CordonNode() | DrainNode() | ResumeNode():
            _change_node(tx, request)
        case ResetBreaker():
            _reset_breaker(tx, request)
        case _:
            assert_never(request)
    return ()


def _submit(tx: Transaction, request: Submit) -> tuple[JobId, ...]:
    state = tx.state
    for spec in request.specs:
        require_valid(spec, state.partitions)
        check_feasible(state.snapshot, state.partitions.open_to(spec, restarts=0))
        _check_quota(state, spec)
    if len(state.jobs) + len(request.specs) > PENDING_MAX:
        raise OverLimit(
            f"the queue holds {len(state.jobs)} unfinished jobs and at most {PENDING_MAX}: "
            "wait for jobs to end or cancel some"
        )
    ids = []
    for spec in request.specs:
        job_id = state.next_job_id
        tx.record(JobSubmitted(job_id=job_id, spec=spec, owner=request.who.identity))
        ids.append(job_id)
    return tuple(ids)


def _check_quota(state: ClusterState, spec: JobSpec) -> None:
    gpus_max = state.quotas.gpus_max.get(spec.account)
    wanted = spec.gpu_milli_total / WHOLE_MILLI
    if gpus_max is not None and wanted > gpus_max:
        raise OverLimit(
            f"job wants {wanted:g} GPUs; account {spec.account} may hold {gpus_max} at a time: "
            f"ask for at most {gpus_max}"
        )


def _job_of(state: ClusterState, who: Principal, job_id: JobId) -> Job:
    job = state.jobs.get(job_id)
    if job is None:
        if 0 < job_id < state.next_job_id:
            raise WrongState(f"job {job_id} has ended: see `gpusched job show {job_id}`")
        raise NotFound(f"no job {job_id}: see `gpusched ps`")
    if job.owner.uid != who.identity.uid and Role.OPERATOR not in who.roles:
        raise NotPermitted(
            f"job {job_id} belongs to {job.owner.user}: only its owner or an operator may change it"
        )
    return job


def _change_job(tx: Transaction, request: JobRequest) -> None:
    job, by = _job_of(tx.state, request.who, request.job_id), request.who.identity.user
    match request:
        case CancelJob():
            _cancel(tx, job, by)
        case HoldJob():
            if job.state is not JobState.PENDING:
                raise WrongState(f"job {job.job_id} is {job.state}: only a pending job can be held")
            if not job.is_held or job.held_until_us is not None:
                tx.record(JobHeld(job_id=job.job_id, by=by))
        case ReleaseJob():
            if not job.is_held:
                raise WrongState(f"job {job.job_id} is not held: nothing to release")
            tx.record(JobReleased(job_id=job.job_id, by=by))
        case RequeueJob():
            if job.state not in (JobState.CONFIGURING, JobState.RUNNING):
                raise WrongState(f"job {job.job_id} is {job.state}: only a started job can be requeued")
            _stop(tx, job, EndReason.REQUEUED, by)
            if request.hold and not job.is_held:
                tx.record(JobHeld(job_id=job.job_id, by=by))


def _cancel(tx: Transaction, job: Job, by: str) -> None:
    if job.state is JobState.PENDING:
        tx.record(
            JobEnded(
                job_id=job.job_id,
                state=JobState.CANCELLED,
                reason=EndReason.CANCELLED,
                detail=f"cancelled by {by} while pending",
                exit_code=None,
            )
        )
    elif job.attempt is not None and job.attempt.stop_reason is EndReason.CANCELLED:
        return  # asked before: the first request stands
    else:
        _stop(tx, job, EndReason.CANCELLED, by)


def _stop(tx: Transaction, job: Job, reason: EndReason, by: str) -> None:
    assert job.attempt is not None
    if job.attempt.stop_reason is not None and reason is not EndReason.CANCELLED:
        raise WrongState(f"job {job.job_id} is ending already ({job.attempt.stop_reason})")
    tx.record(
        AttemptStopping(
            job_id=job.job_id,
            epoch=job.attempt.epoch,
            reason=reason,
            detail=f"{reason.value.lower()} by {by}",
            by=by,
            exit_code=None,
        )
    )


def _change_node(tx: Transaction, request: NodeRequest) -> None:
    node, by = _node_of(tx.state, request.node), request.who.identity.user
    match request:
        case CordonNode():
            is_better_known = node.schedulability is Schedulability.CORDONED and node.reason != request.reason
            if node.schedulability is Schedulability.OPEN or node.cordoned_by == BY_HEALTH or is_better_known:
                tx.record(NodeCordoned(node=node.name, by=by, reason=request.reason))
        case DrainNode():
            wait_us = None if request.deadline_s is None else request.deadline_s * 1_000_000
            tx.record(
                NodeDrainStarted(
                    node=node.name,
                    by=by,
                    reason=request.reason,
                    deadline_us=None if wait_us is None else tx.now_us + wait_us,
                )
            )
        case ResumeNode():
            _resume(tx, node, by)


def _resume(tx: Transaction, node: Node, by: str) -> None:
    """Open a node and everything on it, whatever policy thinks."""
    outages = node.health.outages
    if node.schedulability is Schedulability.OPEN and not outages:
        raise WrongState(f"node {node.name} is open for work already")
    if outages:
        tx.record(OutagesEnded(node=node.name, outages=outages, by=by))
    if tx.state.nodes[node.name].schedulability is not Schedulability.OPEN:
        tx.record(NodeResumed(node=node.name, by=by))


def _reset_breaker(tx: Transaction, request: ResetBreaker) -> None:
    nodes = sorted(tx.state.nodes.values(), key=lambda node: node.name)
    marked = [node.name for node in nodes if node.health.breaker_at_us is not None]
    counted = [node.name for node in nodes if node.health.taken_out_at_us is not None]
    if not marked:
        raise WrongState("the breaker has not tripped: there is nothing to reset")
    # The marked last: what was held back is looked at again once no mark is left.
    for name in (*(name for name in counted if name not in marked), *marked):
        tx.record(BreakerReset(node=name, by=request.who.identity.user))


def _node_of(state: ClusterState, name: NodeName) -> Node:
    if name not in state.nodes:
        known = ", ".join(sorted(state.nodes)[:8]) or "none has joined yet"
        raise NotFound(f"no node {name!r}; known nodes: {known}")
    return state.nodes[name]
