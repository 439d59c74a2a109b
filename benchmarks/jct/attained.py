"""Order for jobs whose durations nobody knows: most ends per GPU-second first, by what was seen so far.

The Gittins rank of a job (``prediction``) divided by its GPUs, as Tiresias divides (J. Gu et al., NSDI 2019).
With a history of alike jobs it comes near shortest-remaining-service-first; without one it is a
multi-level feedback queue over attained service.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from gpusched.policy.prediction import LEVEL_EDGES_S, Floats, History, Ints, gittins_rank

_GROWTH = 1.02  # of the history, until ranks of jobs without news are looked at again


class PredictedOrder:
    """Ranks of all jobs that came, renewed where something was learnt.

    Jobs are numbered from 0 in order of coming. Equal histories give equal orders.
    """

    def __init__(self) -> None:
        self._history = History()
        self._gpus = np.zeros(64)
        self._rank = np.zeros(64)
        self._stale = np.ones(64, dtype=bool)
        self._tosses = 0
        self._renew_at = 0.0

    def came(self, gpus: int, kind: Hashable) -> int:
        """Note a job and return its number; ``kind`` is the class it shares with jobs that last alike."""
        job = self._history.add(kind)
        if job == len(self._gpus):
            self._gpus, self._rank = (np.concatenate([old, old]) for old in (self._gpus, self._rank))
            self._stale = np.concatenate([self._stale, np.ones_like(self._stale)])
        self._gpus[job] = gpus
        return job

    def ended(self, job: int, age_s: float) -> None:
        """Learn from an end."""
        self._learnt(self._history.ended(job, age_s))

    def order(self, jobs: Ints, age_s: Floats, running: Ints) -> Ints:
        """Sort ``jobs``, first in line first; ties keep their order.

        Args:
            jobs: Numbers of jobs that have not ended, ascending.
            age_s: Attained service of every job that ever came.
            running: Those whose age has grown since the last call.
        """
        for job in running.tolist():
            self._learnt(self._history.reached(job, float(age_s[job])))
        self._stale[running] = True
        if self._tosses >= self._renew_at:
            self._stale[:] = True
            self._renew_at = self._tosses * _GROWTH
        stale = jobs[self._stale[jobs]]
        if len(stale):
            ranks = gittins_rank(self._history.chances(stale), age_s[stale])
            self._rank[stale] = ranks / self._gpus[stale]
            self._stale[stale] = False
        return jobs[np.argsort(-self._rank[jobs], kind="stable")]

    def _learnt(self, about: Ints) -> None:
        self._stale[about] = True
        self._tosses += bool(len(about))


def next_review_s(age_s: Floats) -> float:
    """How long jobs of these ages may go on before one of them enters a new level."""
    following = LEVEL_EDGES_S[np.searchsorted(LEVEL_EDGES_S, age_s + 1e-3, side="right")]
    return float((following - age_s).min())
