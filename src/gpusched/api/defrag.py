"""A plan to make room for a gang: of the caller's own jobs, or of everybody's for an operator."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from gpusched.api.visibility import owns, require_owner
from gpusched.domain.check_spec import require_valid
from gpusched.domain.defrag import DefragPlan, JobMove
from gpusched.domain.errors import NotFound, WrongState
from gpusched.domain.identity import Principal
from gpusched.domain.ids import JobId
from gpusched.domain.job import Job
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import JobState
from gpusched.domain.node import WHOLE_MILLI
from gpusched.engine.core import Engine
from gpusched.placement.defrag import Defragmentation, Movable, Move, plan_defragmentation
from gpusched.placement.describe import counted
from gpusched.placement.diagnose import check_feasible

_SECOND_US = 1_000_000


async def plan_defrag(engine: Engine, who: Principal, gang: JobId | JobSpec, now_us: int) -> DefragPlan:
    """Find the fewest jobs to move; nothing is done.

    Args:
        engine: Whose cluster.
        who: Only jobs that this one may end are moved.
        gang: A pending job, or a request as if it were submitted.
        now_us: The time now.

    Raises:
        NotFound: There is no such job, or it has ended.
        NotPermitted: The gang is another user's.
        WrongState: The gang does not wait.
        InvalidSpec, InfeasibleRequest: As a submission of it would.
    """
    spec, jobs_ahead = _gang(engine, who, gang)
    movable = tuple(_movable(engine, who, now_us))
    snapshot = engine.state.snapshot.detached()
    found = await asyncio.to_thread(plan_defragmentation, snapshot, spec, movable)
    if found is None:
        return DefragPlan(message=_no_plan(engine, len(movable)), jobs_ahead=jobs_ahead)
    return DefragPlan(
        message=_message(found),
        gang_nodes=tuple(part.node for part in found.gang.nodes),
        moves=tuple(_job_move(engine.state.jobs[move.job.job_id], move) for move in found.moves),
        is_fewest=found.is_fewest,
        jobs_ahead=jobs_ahead,
    )


def _gang(engine: Engine, who: Principal, gang: JobId | JobSpec) -> tuple[JobSpec, int | None]:
    state = engine.state
    if isinstance(gang, JobSpec):
        require_valid(gang, state.partitions)
        check_feasible(state.snapshot, gang)
        return gang, None
    job = state.jobs.get(gang)
    if job is None:
        raise NotFound(f"no job {gang} waits or runs: see `gpusched ps`")
    require_owner(who, job)
    if job.state is not JobState.PENDING:
        raise WrongState(f"job {gang} is {job.state}: only a pending job can be made room for")
    return job.spec, state.queue.ahead_of(gang)


def _movable(engine: Engine, who: Principal, now_us: int) -> Iterator[Movable]:
    """Running jobs that may run again, and are not ending already."""
    for job_id, entry in engine.state.running.items():
        job = engine.state.jobs[job_id]
        if job.spec.requeue and job.state is JobState.RUNNING and owns(who, job.owner):
            yield Movable(job_id, job.spec, entry.nodes, _lost_gpu_s(job, now_us))


def _lost_gpu_s(job: Job, now_us: int) -> float | None:
    if job.started_at_us is None:
        return None
    return max(0, now_us - job.started_at_us) / _SECOND_US * job.spec.gpu_milli_total / WHOLE_MILLI


def _job_move(job: Job, move: Move) -> JobMove:
    return JobMove(
        job_id=job.job_id,
        name=job.spec.name,
        user=job.owner.user,
        gpus=job.spec.gpu_count,
        from_nodes=tuple(part.node for part in move.job.parts),
        to_nodes=tuple(part.node for part in move.to.nodes),
        lost_gpu_s=move.job.lost_gpu_s,
    )


def _message(found: Defragmentation) -> str:
    if not found.moves:
        return "the gang fits as things are: nothing has to move"
    gpus = sum(move.job.spec.gpu_count for move in found.moves)
    least = "" if found.is_fewest else " (fewer may do: too many jobs to try all sets of them)"
    return f"moving {counted(len(found.moves), 'job')} with {counted(gpus, 'GPU')} makes room{least}"


def _no_plan(engine: Engine, movable: int) -> str:
    fixed = len(engine.state.running) - movable
    others = f"; {counted(fixed, 'other')} may not be moved: not yours, not marked requeue, or ending"
    return f"no plan found: moving {counted(movable, 'job')} makes no room" + (others if fixed else "")
