"""From a shim's record to the facts that the head is told. Pure."""

from __future__ import annotations

from gpusched.agent.shim.record import Phase, RankRecord, Record
from gpusched.domain.events import TaskFailed, TasksEnded, TasksStarted
from gpusched.domain.ids import AttemptId, NodeName
from gpusched.domain.job import TaskExit
from gpusched.domain.job_state import EndReason
from gpusched.domain.telemetry import DeviceUse, NodeUse


def tasks_started(attempt_id: AttemptId, node: NodeName, record: Record) -> TasksStarted | None:
    """That all ranks run; None if they (still) do not."""
    if record.started_at_us is None:
        return None
    pids = tuple(rank.pid for rank in record.ranks)
    return TasksStarted(job_id=attempt_id.job_id, epoch=attempt_id.epoch, node=node, pids=pids)


def task_failed(
    attempt_id: AttemptId, node: NodeName, record: Record, last_lines: tuple[str, ...]
) -> TaskFailed | None:
    """That a rank failed by itself, with its last words; None if none did."""
    failed = next((rank for rank in record.ranks if rank.global_rank == record.failed_rank), None)
    if failed is None:
        return None
    return TaskFailed(
        job_id=attempt_id.job_id,
        epoch=attempt_id.epoch,
        node=node,
        exit=_exit(failed),
        last_lines=last_lines,
        cause=EndReason.OUT_OF_MEMORY if record.cause is EndReason.OUT_OF_MEMORY else None,
    )


def tasks_ended(
    attempt_id: AttemptId, node: NodeName, record: Record, devices: tuple[DeviceUse, ...]
) -> TasksEnded:
    """That nothing of it is left on the node. The record must say so."""
    assert record.phase is Phase.ENDED, f"attempt {attempt_id} has not ended"
    is_launched = record.cause is not EndReason.LAUNCH_FAILED
    return TasksEnded(
        job_id=attempt_id.job_id,
        epoch=attempt_id.epoch,
        node=node,
        exits=tuple(_exit(rank) for rank in record.ranks if rank.has_ended and is_launched),
        cause=record.cause,
        detail=record.detail,
        use=NodeUse(
            wall_s=record.wall_s,
            cpu_s=record.cpu_s,
            memory_peak_bytes=record.memory_peak_bytes,
            devices=devices,
        ),
    )


def _exit(rank: RankRecord) -> TaskExit:
    return TaskExit(global_rank=rank.global_rank, exit_code=rank.exit_code, signal=rank.signal)
