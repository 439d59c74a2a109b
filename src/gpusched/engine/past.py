"""What an order of jobs learns from those that ran: a fold over the log, bounded, restored at a start.

``fifo`` learns nothing and has none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

import numpy as np

from gpusched.domain.job import Job
from gpusched.domain.node import WHOLE_MILLI
from gpusched.policy.order import DecayedUse, Order, OrderSettings
from gpusched.policy.prediction import History, gittins_rank

RUNS_KEPT = 8_192
"""Attempts that a restart reads again, and that predictions are learnt from."""

_GROWTH = 1.02  # of the history, until kinds without news are ranked again
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class Work:
    """What the past knows of a job: whose it is, what it is called, and how many GPUs it asks for."""

    user: str
    account: str
    name: str
    gpus: float  # a share of one counts as that share

    @classmethod
    def of(cls, job: Job) -> Work:
        """Reduce a job."""
        return cls(job.owner.user, job.spec.account, job.spec.name, job.spec.gpu_milli_total / WHOLE_MILLI)


@dataclass(frozen=True, slots=True)
class PastRun:
    """An attempt that ended."""

    work: Work
    start_us: int
    end_us: int  # not before its start

    @classmethod
    def of(cls, job: Job, end_us: int) -> PastRun:
        """The attempt of a job that ended now."""
        assert job.attempt is not None
        start_us = job.attempt.allocation.granted_at_us
        return cls(Work.of(job), start_us, max(start_us, end_us))  # the wall clock may have been set back


class Past(Protocol):
    """Learns from each run that ended, and ranks who waits: lower goes first."""

    def note(self, run: PastRun) -> None:
        """Learn from an attempt that ended."""

    def ranks(self, jobs: Sequence[Job], running: Sequence[Job], now_us: int) -> Callable[[Job], float]:
        """Rank jobs that wait, given those that hold GPUs now."""


class UseOfAccounts:
    """``fair_share``: by what a job's account has used, running jobs included."""

    def __init__(self, half_life_s: int) -> None:
        self._use = DecayedUse(half_life_s)

    def note(self, run: PastRun) -> None:
        """Count the GPU-seconds of an attempt."""
        self._use.note(run.work.account, run.work.gpus, run.start_us, run.end_us)

    def ranks(self, jobs: Sequence[Job], running: Sequence[Job], now_us: int) -> Callable[[Job], float]:
        """By account: GPU-seconds, as they count now."""
        use = {account: self._use.of(account, now_us) for account in {job.spec.account for job in jobs}}
        for job in running:
            if job.spec.account in use and job.started_at_us is not None:
                gpus = job.spec.gpu_milli_total / WHOLE_MILLI
                use[job.spec.account] += self._use.counts(gpus, job.started_at_us, now_us, now_us)
        return lambda job: use[job.spec.account]


class LikelyLengths:
    """``shortest_predicted``: by the chance of an end per GPU-second, as jobs of the same kind ended.

    A kind is a user, a name and a number of GPUs. Ranks are renewed for a kind when a run of it ended, and
    for all when the history has grown by 2 %. After twice ``RUNS_KEPT`` runs the older half is forgotten.
    """

    def __init__(self) -> None:
        self._runs: deque[PastRun] = deque(maxlen=RUNS_KEPT)
        self._history = History()
        self._rank: dict[_Kind, float] = {}
        self._renew_at = 0.0

    def note(self, run: PastRun) -> None:
        """Learn how long it ran."""
        self._runs.append(run)
        if len(self._history) < 2 * RUNS_KEPT:
            self._learn(run)
            return
        self._history, self._renew_at = History(), 0.0
        for kept in self._runs:
            self._learn(kept)

    def _learn(self, run: PastRun) -> None:
        kind = _kind(run.work)
        self._history.ended(self._history.add(kind), (run.end_us - run.start_us) / _SECOND_US)
        self._rank.pop(kind, None)

    def ranks(self, jobs: Sequence[Job], running: Sequence[Job], now_us: int) -> Callable[[Job], float]:
        """By kind: the less, the more ends a GPU-second is likely to bring."""
        if len(self._history) >= self._renew_at:
            self._renew_at = len(self._history) * _GROWTH
            self._rank.clear()
        return lambda job: self._rank_of(_kind(Work.of(job)))

    def _rank_of(self, kind: _Kind) -> float:
        if (known := self._rank.get(kind)) is not None:
            return known
        ends_per_s = gittins_rank(self._history.chances_of_next(kind), np.zeros(1))[0]
        self._rank[kind] = rank = -float(ends_per_s) / (kind[2] if kind[2] > 0 else 1)
        return rank


_Kind = tuple[str, str, float]


def _kind(work: Work) -> _Kind:
    return work.user, work.name, work.gpus


def past_of(settings: OrderSettings, runs: Iterable[PastRun]) -> Past | None:
    """What this order must know, given the last runs, oldest first; None if it needs to know nothing."""
    past: Past
    match settings.order:
        case Order.FIFO:
            return None
        case Order.FAIR_SHARE:
            past = UseOfAccounts(settings.half_life_s)
        case Order.SHORTEST_PREDICTED:
            past = LikelyLengths()
        case _:
            assert_never(settings.order)
    for run in runs:
        past.note(run)
    return past
