"""A plan to make room for a gang by moving running jobs, as a value that people can read and judge."""

from __future__ import annotations

from dataclasses import dataclass

from gpusched.domain.ids import JobId, NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMove:
    """One job that would end and start elsewhere at once."""

    job_id: JobId
    name: str
    user: str
    gpus: int
    from_nodes: tuple[NodeName, ...]
    to_nodes: tuple[NodeName, ...]
    lost_gpu_s: float | None  # since its start: done again unless it made checkpoints; None: unknown


@dataclass(frozen=True, slots=True, kw_only=True)
class DefragPlan:
    """What would have to move so that a gang fits now. Nothing is done by making one."""

    message: str  # one sentence
    gang_nodes: tuple[NodeName, ...] = ()  # where the gang would run; empty: no plan was found
    moves: tuple[JobMove, ...] = ()
    is_fewest: bool = True  # False: found by a search that gave up proving it, more than the fewest may move
    jobs_ahead: int | None = None  # in the queue, before the gang; None: it is not queued
