"""The nearest smaller requests that would start now, found by asking the very functions that place jobs.

One field at a time first; pairs of fields only where no single one helps. A ladder of up to ``WALKED``
rungs is tried rung by rung, a longer one by bisection on what fits, then rung by rung from there.
At most ``PROBES_MAX`` tests of fit, O(N) each, and ``QUESTIONS_MAX`` questions to ``starts``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import combinations, islice
from typing import Any

from gpusched.domain.check_spec import check_spec
from gpusched.domain.diagnosis import Relaxation
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.partition import Partitions
from gpusched.placement.gang import fits
from gpusched.placement.ladders import Ladder, MakeLadder, Rung, every_ladder
from gpusched.placement.snapshot import ClusterSnapshot

PROBES_MAX = 400
QUESTIONS_MAX = 40
WALKED = 16
PAIRS_OFFERED = 3

Starts = Callable[[JobSpec], bool]


@dataclass(frozen=True, slots=True)
class Relaxed:
    """A relaxation and the request that it makes."""

    spec: JobSpec
    relaxation: Relaxation


def find_relaxations(
    snapshot: ClusterSnapshot,
    spec: JobSpec,
    *,
    partitions: Partitions | None = None,
    starts: Starts | None = None,
    time_limit_max_s: int | None = None,
) -> tuple[Relaxed, ...]:
    """Find how little less a job could ask for and start now.

    Args:
        snapshot: What is free. Stays as it is.
        spec: A job that waits.
        partitions: Whose limits a request must keep; None: as if they had none.
        starts: Whether a request that fits may start, as the cycle's rules have it. None: what fits may.
        time_limit_max_s: With a time limit up to this it would end before the head's start; None: whatever
            its limit, that keeps no job waiting.

    Returns:
        Of each field the nearest that helps, those first that change least of what the job computes; else
        a few pairs of fields. Empty if it starts as it is, or if nothing found helps.
    """
    search = _Search(snapshot, partitions, starts or (lambda _: True))
    if search.helps(spec):
        return ()
    found = []
    makers = every_ladder(snapshot, time_limit_max_s)
    for make in makers:
        if (rung := search.climb(make(snapshot, spec))) is not None:
            found.append(_offer(rung))
    return tuple(found) or tuple(islice(_pairs(search, snapshot, spec, makers), PAIRS_OFFERED))


def _offer(*rungs: Rung) -> Relaxed:
    changes = tuple(change for rung in rungs for change in rung.changes)
    return Relaxed(rungs[-1].spec, Relaxation(" and ".join(rung.text for rung in rungs), changes))


def _pairs(
    search: _Search, snapshot: ClusterSnapshot, spec: JobSpec, makers: tuple[MakeLadder, ...]
) -> Iterator[Relaxed]:
    """All that the first field can give, with as little as helps of the second; then less of the first."""
    for make_first, make_second in combinations(makers, 2):
        first = make_first(snapshot, spec)
        if first.size == 0:
            continue
        most = first.rung(first.size - 1)
        second = search.climb(make_second(snapshot, most.spec))
        if second is None or _fields_of(most) & _fields_of(second):
            continue
        alone = replace(spec, **_differences(most.spec, second.spec))
        nearest = search.climb(make_first(snapshot, alone))
        if nearest is not None:
            yield _offer(second, nearest)


def _fields_of(rung: Rung) -> set[str]:
    return {change.field for change in rung.changes}


def _differences(before: JobSpec, after: JobSpec) -> dict[str, Any]:
    names = (field.name for field in fields(JobSpec))
    return {name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)}


class _Search:
    """Tries requests, and counts how often it asks."""

    def __init__(self, snapshot: ClusterSnapshot, partitions: Partitions | None, starts: Starts) -> None:
        self._snapshot, self._partitions, self._starts = snapshot, partitions, starts
        self._probes_left, self._questions_left = PROBES_MAX, QUESTIONS_MAX

    def climb(self, ladder: Ladder) -> Rung | None:
        """The lowest rung that helps; None if none does, or the bound is reached first."""
        lowest = 0 if ladder.size <= WALKED else self._bisect(ladder)
        for at in range(lowest, min(lowest + WALKED, ladder.size)):
            if self.helps((rung := ladder.rung(at)).spec):
                return rung
        return None

    def helps(self, spec: JobSpec) -> bool:
        """Tell whether this request would start."""
        if not self._fits(spec) or check_spec(spec, self._partitions) or self._questions_left == 0:
            return False
        self._questions_left -= 1
        return self._starts(spec)

    def _bisect(self, ladder: Ladder) -> int:
        """The lowest rung that fits, if each fits wherever the one below it does."""
        low, high = 0, ladder.size
        while low < high:
            middle = (low + high) // 2
            if self._fits(ladder.rung(middle).spec):
                high = middle
            else:
                low = middle + 1
        return low

    def _fits(self, spec: JobSpec) -> bool:
        if self._probes_left == 0:
            return False
        self._probes_left -= 1
        return fits(self._snapshot, spec)
