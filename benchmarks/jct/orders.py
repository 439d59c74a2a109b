"""The published orders (FIFO, SRTF, SRSF, Tiresias-L), and ours."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, inf

import numpy as np

from benchmarks.jct.attained import PredictedOrder, next_review_s
from benchmarks.jct.replay import Floats, Ints, Progress

TIRESIAS_LIMITS = (3250.0, 7200.0)
"""GPU-seconds at which a job moves down (Gu et al., "Tiresias", NSDI 2019, as set in Muri's simulator)."""


class Fifo:
    """In order of coming; nobody passes a job that does not fit."""

    stops_at_first_refusal = True

    def submitted(self, jobs: Sequence[int]) -> None:
        """Nothing to note."""

    def finished(self, jobs: Ints, progress: Progress) -> None:
        """Nothing to note."""

    def order(self, active: Ints, progress: Progress, running: Ints) -> Ints:
        """Running jobs came first, so they stay."""
        return active

    def patience_s(self, running: Ints, progress: Progress) -> float:
        """The order never changes by itself."""
        return inf


class ShortestRemaining(Fifo):
    """Least remaining time first (SRTF), or remaining time x GPUs (SRSF). Knows the durations."""

    stops_at_first_refusal = False

    def __init__(self, weight: Floats | Ints) -> None:
        self._weight = weight

    def order(self, active: Ints, progress: Progress, running: Ints) -> Ints:
        """Ascending; ties in order of coming."""
        left = progress.left_s[active] * self._weight[active]
        return active[np.argsort(left, kind="stable")]


class Tiresias(Fifo):
    """Three queues by attained GPU-seconds (Tiresias-L).

    After an event the jobs of a queue that wait step behind those that run, both keeping their order.
    Who moves down goes to the end of the next queue, behind those that wait there.
    """

    stops_at_first_refusal = False

    def __init__(self, gpus: Ints) -> None:
        self._limits_s = np.array(TIRESIAS_LIMITS)[:, None] / gpus  # (2, n)
        self._queues: tuple[list[int], ...] = ([], [], [])
        self._queue_of: dict[int, int] = {}

    def submitted(self, jobs: Sequence[int]) -> None:
        """Join the first queue."""
        for job in jobs:
            self._queue_of[job] = 0
            self._queues[0].append(job)

    def finished(self, jobs: Ints, progress: Progress) -> None:
        """Leave."""
        for job in jobs.tolist():
            self._queues[self._queue_of.pop(job)].remove(job)

    def order(self, active: Ints, progress: Progress, running: Ints) -> Ints:
        """Queue by queue."""
        runs = set(running.tolist())
        for queue in self._queues:
            queue.sort(key=lambda job: job not in runs)
        for job in running.tolist():
            if self._left_s(job, progress) <= 0:
                self._queues[self._queue_of[job]].remove(job)
                self._queue_of[job] += 1
                self._queues[self._queue_of[job]].append(job)
        return np.array([job for queue in self._queues for job in queue], dtype=np.int64)

    def patience_s(self, running: Ints, progress: Progress) -> float:
        """Until the first running job reaches its limit, in whole seconds."""
        left_s = min((self._left_s(job, progress) for job in running.tolist()), default=inf)
        return left_s if left_s == inf else float(max(1, ceil(left_s)))

    def _left_s(self, job: int, progress: Progress) -> float:
        queue = self._queue_of[job]
        return (
            inf if queue == len(TIRESIAS_LIMITS) else float(self._limits_s[queue, job] - progress.ran_s[job])
        )


class Ours(Fifo):
    """``benchmarks.jct.attained``: sees sizes, order of coming and what has run; no duration before its end.

    A job's class is its size alone: model and batch size explain nothing in these traces.
    """

    stops_at_first_refusal = False

    def __init__(self, gpus: Ints) -> None:
        self._gpus = gpus
        self._predicted = PredictedOrder()

    def submitted(self, jobs: Sequence[int]) -> None:
        """Both count jobs in order of coming, so the numbers agree."""
        for job in jobs:
            self._predicted.came(int(self._gpus[job]), kind=int(self._gpus[job]))

    def finished(self, jobs: Ints, progress: Progress) -> None:
        """Learn from the ends."""
        for job in jobs.tolist():
            self._predicted.ended(job, float(progress.ran_s[job]))

    def order(self, active: Ints, progress: Progress, running: Ints) -> Ints:
        """By the rank that was learnt."""
        return self._predicted.order(active, progress.ran_s, running)

    def patience_s(self, running: Ints, progress: Progress) -> float:
        """Until a running job enters its next level."""
        return next_review_s(progress.ran_s[running])
