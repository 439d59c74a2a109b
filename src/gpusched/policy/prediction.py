"""How long jobs may still run, learnt from those that came near them: for order, never killing.

Service time is cut into levels that double (``LEVEL_EDGES_S``). Who reaches a level either ends in it or
passes it, so a level is a coin, and its chance of ending is learnt from the jobs that tossed it before;
jobs that still run count for the levels they have passed, so nothing is biased towards short jobs
(Kaplan and Meier, J. Am. Stat. Assoc. 53, 1958, in steps). The estimate is shrunk twice: a job's
neighbours in the order of submission, nearer ones weighing more, towards its class (jobs of one size),
the class towards all jobs. Neighbours matter because users submit alike jobs in bursts: in the published
traces of Philly, ITP and Muri the logarithms of the run times of two successive jobs correlate at 0.4 to
0.7; size explains a few percent of their variance in most of them.

Where nothing is known yet every level has the same chance, so that the rank falls with every level passed:
least attained service first, a multi-level feedback queue.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVEL_EDGES_S: Floats = np.array([0.0, *(120.0 * 2.0**k for k in range(23))])
"""(24,) Where levels begin; 23 levels, the last one ends after 15 years."""

_LEVELS = len(LEVEL_EDGES_S) - 1
_WIDTHS_S = np.diff(LEVEL_EDGES_S)
_REACH = 12  # neighbours on each side that are heard
_FADING = 0.6  # weight of the next neighbour, against the one before it
_WEIGHT_OF_CLASS = 0.3  # as many tosses as the class counts for against the neighbours'
_WEIGHT_OF_ALL = 3.0
_WEIGHT_OF_NOTHING = 3.0
_CHANCE_UNKNOWN = 0.25  # of ending in a level, before anything was seen
_KERNEL: Floats = _FADING ** np.abs(np.arange(-_REACH, _REACH + 1.0))
_KERNEL[_REACH] = 0.0  # nobody is evidence about itself


def level_of(age_s: float) -> int:
    """The level in which a job of this attained service is."""
    return min(int(np.searchsorted(LEVEL_EDGES_S, age_s, side="right")) - 1, _LEVELS - 1)


def gittins_rank(chances: Floats, age_s: Floats) -> Floats:
    """Rank jobs by the chance of an end per second invested, at the best time to stop investing.

    J. C. Gittins, J. Royal Stat. Soc. B 41, 1979; optimal for mean flow time on one server when service
    times are unknown: S. Aalto, U. Ayesta, R. Righter, Queueing Systems 63, 2009.

    Args:
        chances: (n, levels) of ending in a level once it is reached, each below 1.
        age_s: (n,) attained service.

    Returns:
        (n,) ends per second; higher goes first. O(n levels).
    """
    end, time_s = _futures(chances, age_s)
    rates = np.divide(end, time_s, out=np.zeros_like(end), where=time_s > 0)
    return np.asarray(rates.max(axis=1), dtype=np.float64)


def _done(age_s: Floats) -> Floats:
    """(n, levels): how much of each level is behind a job of this age, from 0 to 1."""
    return np.asarray(np.clip((age_s[:, None] - LEVEL_EDGES_S[:-1]) / _WIDTHS_S, 0.0, 1.0), dtype=np.float64)


def _futures(chances: Floats, age_s: Floats) -> tuple[Floats, Floats]:
    """For every job and level: the chance to have ended by its end, and the mean service until then.

    Inside a level the hazard is constant, so a job half way through it has half of it left.
    """
    hazard = -np.log1p(-chances)
    alive = np.exp(-np.cumsum(hazard * (1.0 - _done(age_s)), axis=1))
    alive_before = np.hstack([np.ones((len(age_s), 1)), alive[:, :-1]])
    time_s = np.cumsum((alive_before - alive) * (_WIDTHS_S / hazard), axis=1)
    return 1.0 - alive, time_s


class History:
    """What was seen of every job that came: levels passed, and where it ended.

    Costs one row of levels per job, and O(neighbours) per toss.
    """

    def __init__(self) -> None:
        self._tries = np.zeros((64, _LEVELS))  # of a job's neighbours, weighted
        self._ends = np.zeros((64, _LEVELS))
        self._class_of: list[int] = []
        self._place_of: list[int] = []
        self._passed: list[int] = []  # levels passed so far
        self._ended_in: list[int | None] = []
        self._classes: dict[Hashable, int] = {}
        self._members: list[list[int]] = []
        self._class_tries = np.zeros((0, _LEVELS))
        self._class_ends = np.zeros((0, _LEVELS))

    def __len__(self) -> int:
        return len(self._class_of)

    def add(self, kind: Hashable) -> int:
        """Note a job that came; returns its number, from 0, by which it goes here."""
        job = len(self)
        if job == len(self._tries):
            self._tries = np.vstack([self._tries, np.zeros_like(self._tries)])
            self._ends = np.vstack([self._ends, np.zeros_like(self._ends)])
        class_ = self._class(kind)
        members = self._members[class_]
        for distance, neighbour in enumerate(reversed(members[-_REACH:]), start=1):
            self._hear(self._tries[job], self._ends[job], neighbour, distance)
        self._class_of.append(class_)
        self._place_of.append(len(members))
        self._passed.append(0)
        self._ended_in.append(None)
        members.append(job)
        return job

    def reached(self, job: int, age_s: float) -> Ints:
        """A job has attained this much and goes on; returns the jobs whose chances this changes."""
        level = level_of(age_s)
        if level == self._passed[job]:
            return np.zeros(0, dtype=np.int64)
        return self._tossed(job, slice(self._passed[job], level), ended_in=None)

    def ended(self, job: int, age_s: float) -> Ints:
        """A job has ended at this age; returns the jobs whose chances this changes."""
        level = level_of(age_s)
        return self._tossed(job, slice(self._passed[job], level + 1), ended_in=level)

    def chances(self, jobs: Ints | Sequence[int]) -> Floats:
        """(n, levels): of each job, the chance to end in a level once it is reached."""
        classes = _shrunk(self._class_ends, self._class_tries, self._chances_of_all(), _WEIGHT_OF_ALL)
        rows = np.asarray(jobs, dtype=np.int64)
        own_class = np.array(self._class_of, dtype=np.int64)[rows]
        return _shrunk(self._ends[rows], self._tries[rows], classes[own_class], _WEIGHT_OF_CLASS)

    def chances_of_next(self, kind: Hashable) -> Floats:
        """(1, levels): what the next job of this kind would have, were it to come now."""
        tries, ends, expected = np.zeros(_LEVELS), np.zeros(_LEVELS), self._chances_of_all()
        class_ = self._classes.get(kind)
        if class_ is not None:
            expected = _shrunk(self._class_ends[class_], self._class_tries[class_], expected, _WEIGHT_OF_ALL)
            for distance, neighbour in enumerate(self._members[class_][: -_REACH - 1 : -1], start=1):
                self._hear(tries, ends, neighbour, distance)
        return _shrunk(ends, tries, expected, _WEIGHT_OF_CLASS)[None, :]

    def _chances_of_all(self) -> Floats:
        ends, tries = self._class_ends.sum(0), self._class_tries.sum(0)
        return _shrunk(ends, tries, _CHANCE_UNKNOWN, _WEIGHT_OF_NOTHING)

    def _class(self, kind: Hashable) -> int:
        class_ = self._classes.setdefault(kind, len(self._classes))
        if class_ == len(self._members):
            self._members.append([])
            self._class_tries = np.vstack([self._class_tries, np.zeros((1, _LEVELS))])
            self._class_ends = np.vstack([self._class_ends, np.zeros((1, _LEVELS))])
        return class_

    def _hear(self, tries: Floats, ends: Floats, neighbour: int, distance: int) -> None:
        weight = _KERNEL[_REACH + distance]
        tries[: self._passed[neighbour]] += weight
        ended_in = self._ended_in[neighbour]
        if ended_in is not None:
            ends[ended_in] += weight

    def _tossed(self, job: int, levels: slice, ended_in: int | None) -> Ints:
        class_, place = self._class_of[job], self._place_of[job]
        first = max(0, place - _REACH)
        near = np.array(self._members[class_][first : place + _REACH + 1], dtype=np.int64)
        weights = _KERNEL[first - place + _REACH :][: len(near)]
        self._tries[near, levels] += weights[:, None]
        self._class_tries[class_, levels] += 1.0
        if ended_in is not None:
            self._ends[near, ended_in] += weights
            self._class_ends[class_, ended_in] += 1.0
        self._passed[job] = levels.stop
        self._ended_in[job] = ended_in
        return near


def _shrunk(ends: Floats, tries: Floats, prior: Floats | float, weight: float) -> Floats:
    """The mean of a beta posterior: ``weight`` tosses that came out as ``prior``, then these."""
    return np.asarray((ends + weight * prior) / (tries + weight), dtype=np.float64)
