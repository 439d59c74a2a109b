"""When could a job start, if running jobs end by their limits and nothing else starts?

The snapshot is copied and played forward with the very test that places jobs, so whatever placement
respects holds in the forecast too. Jobs without a time limit never end in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby

from gpusched.domain.errors import StalePlan
from gpusched.domain.job_spec import JobSpec
from gpusched.placement.gang import fits
from gpusched.placement.placement import NodePlacement
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.plan import RunningEntry


@dataclass(frozen=True, slots=True)
class Forecast:
    """The earliest start (Mu'alem and Feitelson's shadow time) and the cluster as it will be then."""

    start_us: int
    snapshot: ClusterSnapshot


def forecast_start(
    snapshot: ClusterSnapshot, spec: JobSpec, running: Iterable[RunningEntry], now_us: int
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

    Returns:
        None if it does not fit even when every job that has a time limit has ended.
    """
    if fits(snapshot, spec):
        return Forecast(now_us, snapshot.copy())
    releases = _releases(running, now_us)
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


_Release = tuple[int, tuple[NodePlacement, ...]]


def _releases(running: Iterable[RunningEntry], now_us: int) -> list[_Release]:
    ends = sorted(
        ((max(now_us, entry.ends_by_us), entry) for entry in running if entry.ends_by_us is not None),
        key=lambda end: (end[0], end[1].job_id),
    )
    return [
        (time_us, tuple(part for _, entry in group for part in entry.nodes))
        for time_us, group in groupby(ends, key=lambda end: end[0])
    ]


def _played(snapshot: ClusterSnapshot, releases: Sequence[_Release]) -> ClusterSnapshot:
    later = snapshot.copy()
    for _, parts in releases:
        for part in parts:
            # A job may still hold what its node has lost meanwhile: nothing comes free there.
            with suppress(StalePlan):
                later.give_back(part)
    return later
