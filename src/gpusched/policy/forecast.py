"""When could a job start, if running jobs end by their limits and nothing else starts?

The snapshot is copied and played forward with the very test that places jobs, so whatever placement
respects holds in the forecast too. Jobs without a time limit never end in it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.placement.gang import fits
from gpusched.placement.holdings import Holding, give_back, hold
from gpusched.placement.inventory import IntColumn, Inventory
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.plan import RunningEntry


@dataclass(frozen=True, slots=True)
class Forecast:
    """The earliest start (Mu'alem and Feitelson's shadow time) and the cluster as it will be then."""

    start_us: int
    snapshot: ClusterSnapshot


def forecast_start(
    snapshot: ClusterSnapshot,
    spec: JobSpec,
    running: Sequence[RunningEntry],
    now_us: int,
    *,
    memo: ForecastMemo | None = None,
) -> Forecast | None:
    """Find the earliest time at which ``spec`` fits.

    Steps that double, then bisection over the times at which jobs end: O(k) parts given back in all and
    O(log k) tests of fit where the job fits after k of the running jobs, as more free devices never make a
    job fit less. Where the last forecast still holds, two tests.

    Args:
        snapshot: The cluster now, with ``running`` on it. Stays as it is.
        spec: The job that waits.
        running: What runs, and until when. A job past its limit counts as ending now.
        now_us: The time now.
        memo: What earlier forecasts found; brought up to date. It saves work and changes nothing.

    Returns:
        None if it does not fit even when every job that has a time limit has ended.
    """
    if fits(snapshot, spec):
        return Forecast(now_us, snapshot.copy())
    memo = ForecastMemo() if memo is None else memo
    ends = memo.ends(snapshot.inventory, running, now_us)
    blocked, low, step = snapshot, 0, 1  # does not fit after ``low`` instants
    high = int(np.searchsorted(ends.at_us, memo.last_start_us)) or 1
    while not (high <= len(ends.at_us) and fits(later := ends.played(blocked, low, high), spec)):
        if high >= len(ends.at_us):
            return None
        blocked, low, high, step = later, high, min(high + step, len(ends.at_us)), 2 * step
    found = later
    while high - low > 1:
        middle = (low + high) // 2
        later = ends.played(blocked, low, middle)
        if fits(later, spec):
            high, found = middle, later
        else:
            low, blocked = middle, later
    memo.last_start_us = int(ends.at_us[high - 1])
    return Forecast(memo.last_start_us, found)


@dataclass(frozen=True, slots=True)
class _Ends:
    """The K instants at which running jobs end at the latest, ascending, and what comes free at each."""

    at_us: IntColumn  # (K,)
    stops: IntColumn  # (K,) how many of ``holdings`` are free by then
    holdings: Sequence[Holding]

    def played(self, snapshot: ClusterSnapshot, low: int, high: int) -> ClusterSnapshot:
        """The cluster after ``high`` instants, given what it is after ``low``."""
        later = snapshot.copy()
        give_back(later, self.holdings[self.stops[low - 1] if low else 0 : self.stops[high - 1]])
        return later


class ForecastMemo:
    """What running jobs hold, looked up once per job and inventory, in the order in which they end.

    Attributes:
        last_start_us: What the last forecast said. Where the next search begins, no more.
    """

    def __init__(self) -> None:
        self.last_start_us = 0
        self._inventory: Inventory | None = None
        self._forget(None)

    def _forget(self, inventory: Inventory | None) -> None:
        self._inventory = inventory
        self._entries: dict[JobId, RunningEntry] = {}
        self._order: list[tuple[int, JobId]] = []  # (latest end, job), ascending
        self._held: list[Holding] = []  # beside ``_order``

    def ends(self, inventory: Inventory, running: Sequence[RunningEntry], now_us: int) -> _Ends:
        """Look ahead from what runs; a job without a time limit is not in it."""
        self._follow(inventory, {entry.job_id: entry for entry in running if entry.ends_by_us is not None})
        ends_us = np.array([end_us for end_us, _ in self._order], dtype=np.int64)
        at_us = np.maximum(ends_us, now_us)  # ascending still
        is_last = np.append(at_us[1:] != at_us[:-1], True)[: len(at_us)]  # of those that end together
        stops = np.flatnonzero(is_last) + 1
        return _Ends(at_us[stops - 1], stops, self._held)

    def _follow(self, inventory: Inventory, entries: dict[JobId, RunningEntry]) -> None:
        if inventory is not self._inventory:
            self._forget(inventory)
        known = self._entries
        for job_id in known.keys() - entries.keys():
            self._remove(known.pop(job_id))
        for job_id in entries.keys() - known.keys():
            self._add(entries[job_id], inventory)
            known[job_id] = entries[job_id]
        if known != entries:  # a job started anew since the last time
            self._forget(inventory)
            self._follow(inventory, entries)
        self._entries = entries

    def _add(self, entry: RunningEntry, inventory: Inventory) -> None:
        place = bisect_left(self._order, _key(entry))
        self._order.insert(place, _key(entry))
        self._held.insert(place, hold(inventory, entry.nodes, entry.licenses))

    def _remove(self, entry: RunningEntry) -> None:
        place = bisect_left(self._order, _key(entry))
        del self._order[place], self._held[place]


def _key(entry: RunningEntry) -> tuple[int, JobId]:
    assert entry.ends_by_us is not None
    return entry.ends_by_us, entry.job_id
