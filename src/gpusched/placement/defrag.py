"""Which running jobs would have to move so that a gang fits: the fewest, each with somewhere to go at once.

A set of jobs will do if, once they are gone, ``gang.place`` finds a place for the waiting gang and one for
each of them, all beside each other. Two orders are tried: the gang first and then the jobs, the largest
first; and the jobs first, which packs them tightly, and then the gang.

Sets are tried from the smallest size up, all of one size before the next, at most ``SETS_MAX`` in all: a
plan found so moves the fewest jobs, and of equally many those that lose the least work. Beyond the bound
jobs are kept where they are one after the other, for as long as the gang would still fit: no job of such
a plan can be left out, but another plan may move fewer. Cost of a set: O(N·G) and a placement per job.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

from gpusched.domain.errors import InsufficientResources, Rejected, StalePlan
from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.placement.gang import fits, place
from gpusched.placement.holdings import give_back, hold
from gpusched.placement.placement import NodePlacement, Placement
from gpusched.placement.snapshot import ClusterSnapshot

SETS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class Movable:
    """A running job that may be ended and run again."""

    job_id: JobId
    spec: JobSpec
    parts: tuple[NodePlacement, ...]
    lost_gpu_s: float | None  # work that is done again if it ends now; None: not known


@dataclass(frozen=True, slots=True)
class Move:
    """One job and where it would go."""

    job: Movable
    to: Placement


@dataclass(frozen=True, slots=True)
class Defragmentation:
    """Where the gang goes, and who makes room for it. No moves: it fits as things are."""

    gang: Placement
    moves: tuple[Move, ...]
    is_fewest: bool  # no smaller set would do; else only that none of these can stay


def plan_defragmentation(
    snapshot: ClusterSnapshot, spec: JobSpec, movable: Sequence[Movable]
) -> Defragmentation | None:
    """Find the fewest jobs that make room for a gang by moving.

    Args:
        snapshot: What is free, with ``movable`` running. Stays as it is.
        spec: The gang.
        movable: Jobs that may be moved; no others are.

    Returns:
        None if no set of them was found that does.
    """
    if fits(snapshot, spec):
        return Defragmentation(place(snapshot, spec), (), is_fewest=True)
    jobs = sorted(movable, key=lambda job: job.job_id)
    if not fits(_without(snapshot, jobs), spec):
        return None
    tried = 0
    for size in range(1, len(jobs) + 1):
        tried += comb(len(jobs), size)
        if tried > SETS_MAX:
            return _keep_many(snapshot, spec, jobs)
        plans = (_try(snapshot, spec, each, is_fewest=True) for each in combinations(jobs, size))
        found = [plan for plan in plans if plan is not None]
        if found:
            return min(found, key=_loss)
    return None


def _try(
    snapshot: ClusterSnapshot, spec: JobSpec, moving: Sequence[Movable], *, is_fewest: bool
) -> Defragmentation | None:
    """Find a place for the gang and all of ``moving``; None if there is none."""
    free = _without(snapshot, moving)
    if not fits(free, spec):
        return None
    others = sorted(moving, key=lambda job: (-job.spec.gpu_count, job.job_id))
    specs = [job.spec for job in others]
    placed = _place_all(free, [spec, *specs])
    if placed is None and (placed := _place_all(free, [*specs, spec])) is not None:
        placed = [placed[-1], *placed[:-1]]
    if placed is None:
        return None
    moves = [Move(job, to) for job, to in zip(others, placed[1:], strict=True)]
    return Defragmentation(placed[0], tuple(sorted(moves, key=lambda move: move.job.job_id)), is_fewest)


def _place_all(free: ClusterSnapshot, specs: Iterable[JobSpec]) -> list[Placement] | None:
    left, placed = free.copy(), []
    for spec in specs:
        try:
            placement = place(left, spec)
        except (InsufficientResources, Rejected):
            return None
        left.take_licenses(placement.licenses)
        for part in placement.nodes:
            left.take(part)
        placed.append(placement)
    return placed


def _keep_many(snapshot: ClusterSnapshot, spec: JobSpec, jobs: Sequence[Movable]) -> Defragmentation | None:
    """Keep as many as can stay: once the small ones first, so that few large ones move; once the dear."""
    by_size = sorted(jobs, key=lambda job: (job.spec.gpu_count, job.job_id))
    by_loss = sorted(jobs, key=lambda job: (_lost(job), -job.job_id), reverse=True)
    plans = (
        _try(snapshot, spec, _needed(snapshot, spec, order), is_fewest=False) for order in (by_size, by_loss)
    )
    return min((plan for plan in plans if plan is not None), key=_loss, default=None)


def _needed(snapshot: ClusterSnapshot, spec: JobSpec, order: Sequence[Movable]) -> list[Movable]:
    """The jobs for which the gang would not fit if they stayed, with each before them that can stay."""
    free, needed = _without(snapshot, order), []
    for job in order:
        with_it = free.copy()
        try:
            with_it.take_licenses(job.spec.licenses)
            for part in job.parts:
                with_it.take(part)
        except StalePlan:  # a device of it is gone: it is no loss to move it
            needed.append(job)
            continue
        if fits(with_it, spec):
            free = with_it
        else:
            needed.append(job)
    return needed


def _without(snapshot: ClusterSnapshot, jobs: Iterable[Movable]) -> ClusterSnapshot:
    free = snapshot.copy()
    give_back(free, [hold(snapshot.inventory, job.parts, job.spec.licenses) for job in jobs])
    return free


def _lost(job: Movable) -> tuple[bool, float]:
    return job.lost_gpu_s is None, job.lost_gpu_s or 0.0


def _loss(plan: Defragmentation) -> tuple[int, int, float, tuple[JobId, ...]]:
    """Fewest jobs, then fewest of unknown loss, then the least loss, then the lowest ids."""
    lost = [move.job.lost_gpu_s for move in plan.moves]
    known = [seconds for seconds in lost if seconds is not None]
    ids = tuple(move.job.job_id for move in plan.moves)
    return len(lost), len(lost) - len(known), sum(known), ids
