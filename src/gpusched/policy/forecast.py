"""When could a job start, if running jobs end by their limits and nothing else starts?

The snapshot is copied and played forward with the very test that places jobs, so whatever placement
respects holds in the forecast too. Jobs without a time limit never end in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.placement.gang import fits
from gpusched.placement.holdings import Holding, give_back, hold
from gpusched.placement.inventory import Inventory
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
    running: Iterable[RunningEntry],
    now_us: int,
    *,
    memo: HoldingsMemo | None = None,
) -> Forecast | None:
    """Find the earliest time at which ``spec`` fits.

    Doubling, then bisection over the times at which jobs end: O(k) parts given back in all and O(log k)
    tests of fit where the job fits after k of the running jobs, as more free devices never make a job
    fit less.

    Args:
        snapshot: The cluster now, with ``running`` on it. Stays as it is.
        spec: The job that waits.
        running: What runs, and until when. A job past its limit counts as ending now.
        now_us: The time now.
        memo: What earlier forecasts looked up; brought up to date. It saves work and changes nothing.

    Returns:
        None if it does not fit even when every job that has a time limit has ended.
    """
    if fits(snapshot, spec):
        return Forecast(now_us, snapshot.copy())
    releases = _releases(snapshot.inventory, running, now_us, memo or HoldingsMemo())
    blocked, low, high = snapshot, 0, 1  # does not fit after ``low`` releases
    while not fits(later := _played(blocked, releases[low:high]), spec):
        if high >= len(releases):
            return None
        blocked, low, high = later, high, 2 * high
    high = min(high, len(releases))
    found = Forecast(releases[high - 1][0], later)
    while high - low > 1:
        middle = (low + high) // 2
        later = _played(blocked, releases[low:middle])
        if fits(later, spec):
            high, found = middle, Forecast(releases[middle - 1][0], later)
        else:
            low, blocked = middle, later
    return found


class HoldingsMemo:
    """What running jobs hold, looked up once per job and inventory."""

    def __init__(self) -> None:
        self._inventory: Inventory | None = None
        self._held: dict[JobId, tuple[RunningEntry, Holding]] = {}

    def of(self, inventory: Inventory, running: Sequence[RunningEntry]) -> list[Holding]:
        """What each of ``running`` holds, in order; all others are forgotten."""
        earlier = self._held if inventory is self._inventory else {}
        self._inventory, self._held = inventory, {}
        holdings: list[Holding] = []
        for entry in running:
            known, holding = earlier.get(entry.job_id, (None, None))
            if holding is None or known is not entry:
                holding = hold(inventory, entry.nodes, entry.licenses)
            self._held[entry.job_id] = entry, holding
            holdings.append(holding)
        return holdings


_Release = tuple[int, tuple[Holding, ...]]


def _releases(
    inventory: Inventory, running: Iterable[RunningEntry], now_us: int, memo: HoldingsMemo
) -> list[_Release]:
    ending = [entry for entry in running if entry.ends_by_us is not None]
    timed = zip(_ends(ending, now_us), memo.of(inventory, ending), strict=True)
    return [
        (time_us, tuple(holding for _, holding in group))
        for time_us, group in groupby(sorted(timed, key=itemgetter(0)), key=itemgetter(0))
    ]


def _ends(ending: Iterable[RunningEntry], now_us: int) -> Iterator[int]:
    return (max(now_us, entry.ends_by_us) for entry in ending if entry.ends_by_us is not None)


def _played(snapshot: ClusterSnapshot, releases: Sequence[_Release]) -> ClusterSnapshot:
    later = snapshot.copy()
    give_back(later, [holding for _, holdings in releases for holding in holdings])
    return later
