"""The published replay protocol: at every event all jobs are placed anew, in the order of a policy.

Semantics of Muri's simulator (Zhao et al., SIGCOMM 2022). Stopping and moving are free, but at *every*
event running job that does not end loses its start overhead of progress, also where it goes on.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import floor, inf
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

SAME = 1e-9  # times that agree to this relative difference are one event

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Work:
    """A trace as columns, in order of coming."""

    ids: tuple[str, ...]
    submit_s: Floats  # (n,)
    service_s: Floats  # (n,) running time needed in total
    gpus: Ints  # (n,)
    overhead_s: Floats  # (n,) lost at every event while running


@dataclass(frozen=True, slots=True)
class Progress:
    """How far every job of the trace is, columns (n,). Only ``ran_s`` can be seen by a scheduler."""

    ran_s: Floats  # time on GPUs, as an outside clock sees it
    left_s: Floats  # time still needed: for policies that know durations


class Policy(Protocol):
    """Who goes first. Told of everything a scheduler would see, and of nothing else."""

    stops_at_first_refusal: bool  # FIFO proper; all others let later jobs pass one that does not fit

    def submitted(self, jobs: Sequence[int]) -> None:
        """These jobs have come."""
        ...

    def finished(self, jobs: Ints, progress: Progress) -> None:
        """These jobs have ended."""
        ...

    def order(self, active: Ints, progress: Progress, running: Ints) -> Ints:
        """All of ``active`` (job numbers, ascending), first in line first.

        Args:
            active: Jobs that have come and not ended.
            progress: How far they are.
            running: Those of them that ran until now.
        """
        ...

    def patience_s(self, running: Ints, progress: Progress) -> float:
        """How long ``running`` may go on before the order has to be looked at again; inf for ever."""
        ...


@dataclass(slots=True)
class Pool:
    """Equal nodes. A gang of at most one node stays in one; a wider one takes whole nodes and a rest."""

    nodes: int
    gpus_per_node: int
    free: list[int] = field(default_factory=list)

    def clear(self) -> None:
        """Empty the cluster."""
        self.free = [self.gpus_per_node] * self.nodes

    @property
    def total(self) -> int:
        """GPUs of the whole cluster."""
        return self.nodes * self.gpus_per_node

    def take(self, gpus: int) -> bool:
        """Place a gang, first node with room first; False, and nothing is taken, if it does not fit."""
        free, size = self.free, self.gpus_per_node
        whole, rest = (0, gpus) if gpus <= size else divmod(gpus, size)
        chosen = [i for i, left in enumerate(free) if left == size][:whole] if whole else []
        if len(chosen) < whole:
            return False
        for node in chosen:
            free[node] = 0
        if not rest:
            return True
        for node, left in enumerate(free):
            if left >= rest:
                free[node] = left - rest
                return True
        for node in chosen:
            free[node] = size
        return False


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came out. ``intervals`` are (job, start, end), in seconds, in order of their ends."""

    finish_s: Floats  # (n,)
    intervals: tuple[tuple[int, float, float], ...]
    events: int

    def jct_s(self, work: Work) -> Floats:
        """(n,) from submission to end."""
        return self.finish_s - work.submit_s

    def p99_s(self, work: Work) -> float:
        """Element floor(0.99 n), counted from 0, of the ascending completion times."""
        return float(np.sort(self.jct_s(work))[floor(0.99 * len(work.ids))])


def replay(work: Work, pool: Pool, policy: Policy, progress: Callable[[int], None]) -> Replayed:
    """Play a trace to its end. Deterministic.

    Args:
        work: The trace.
        pool: The cluster.
        policy: Who goes first.
        progress: Called with the number of jobs ended so far.
    """
    return _Replay(work, pool, policy).run(progress)


class _Replay:
    def __init__(self, work: Work, pool: Pool, policy: Policy) -> None:
        n = len(work.ids)
        self.work, self.pool, self.policy = work, pool, policy
        self.now_s = 0.0
        self.progress = Progress(ran_s=np.zeros(n), left_s=work.service_s.copy())
        self.finish_s = np.full(n, inf)
        self.active = np.zeros(n, dtype=bool)
        self.running = np.zeros(0, dtype=np.int64)
        self.since: dict[int, float] = {}  # start of each running job's present interval
        self.intervals: list[tuple[int, float, float]] = []
        self.next_submit = 0
        self.events = 0

    def run(self, progress: Callable[[int], None]) -> Replayed:
        done = 0
        while done < len(self.work.ids):
            at_s, ended = self._next_event()
            self._advance(at_s, ended)
            self._submit()
            self._place()
            self.events += 1
            done += len(ended)
            progress(done)
        return Replayed(self.finish_s, tuple(self.intervals), self.events)

    def _next_event(self) -> tuple[float, Ints]:
        work, running = self.work, self.running
        submit_s = work.submit_s[self.next_submit] if self.next_submit < len(work.ids) else inf
        if not len(running):
            return float(submit_s), running
        ends_s = self.now_s + self.progress.left_s[running]
        first_s = min(float(ends_s.min()), float(submit_s))
        at_s = min(first_s, self.now_s + self.policy.patience_s(running, self.progress))
        return at_s, running[ends_s <= at_s * (1 + SAME)]

    def _advance(self, at_s: float, ended: Ints) -> None:
        running, progress, passed_s = self.running, self.progress, at_s - self.now_s
        lost_s = np.minimum(passed_s, self.work.overhead_s[running])
        progress.ran_s[running] += passed_s
        progress.left_s[running] -= passed_s - lost_s
        self.now_s = at_s
        if len(ended):
            progress.left_s[ended] = 0.0
            self.finish_s[ended] = at_s
            self.active[ended] = False
            self.policy.finished(ended, progress)

    def _submit(self) -> None:
        work, first = self.work, self.next_submit
        while self.next_submit < len(work.ids) and work.submit_s[self.next_submit] <= self.now_s:
            self.active[self.next_submit] = True
            self.next_submit += 1
        if self.next_submit > first:
            self.policy.submitted(range(first, self.next_submit))

    def _place(self) -> None:
        active = np.flatnonzero(self.active)
        was = self.running[self.active[self.running]]
        order = self.policy.order(active, self.progress, was) if len(active) else active
        chosen = self._fill(order)
        now = set(chosen)
        for job in self.running.tolist():
            if job not in now:
                self._close(job)
        for job in chosen:
            self.since.setdefault(job, self.now_s)
        self.running = np.array(sorted(chosen), dtype=np.int64)

    def _close(self, job: int) -> None:
        start_s = self.since.pop(job)
        if self.now_s > start_s:
            self.intervals.append((job, start_s, self.now_s))

    def _fill(self, order: Ints) -> list[int]:
        """Place in order. Free GPUs only become fewer, so a size refused once is not tried again."""
        self.pool.clear()
        sizes = self.work.gpus[order]
        queues = [(np.flatnonzero(sizes == size), int(size)) for size in np.unique(sizes)]
        heads = [(int(places[0]), 0, which) for which, (places, _) in enumerate(queues)]
        heapq.heapify(heads)
        chosen: list[int] = []
        while heads:
            place, index, which = heapq.heappop(heads)
            places, size = queues[which]
            if not self.pool.take(size):
                if self.policy.stops_at_first_refusal:
                    break
                continue
            chosen.append(int(order[place]))
            if index + 1 < len(places):
                heapq.heappush(heads, (int(places[index + 1]), index + 1, which))
        return chosen
