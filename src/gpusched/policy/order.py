"""In which order waiting jobs go.

Lower ``nice`` goes first, whatever the order. Among equals:

- ``fifo``: older first.
- ``fair_share``: jobs of the account that used least come first; what was used counts half after each
  half-life (J. Kay and P. Lauder, "A Fair Share Scheduler", CACM 31(1), 1988).
- ``shortest_predicted``: most ends per GPU-second first, predicted from jobs that ended (``prediction``).
  A prediction orders; it never ends a job.

Nobody starves: a job that has waited ``ageing_s`` goes before all that have not, and those that have go by
age. So once it has waited that long, no job of its ``nice`` that came after it is ordered before it.

Cost: O(Q log Q) for a queue of Q.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from math import exp2, log

from gpusched.domain.job import Job

_SECOND_US = 1_000_000


class Order(StrEnum):
    """The rule by which jobs of equal ``nice`` go."""

    FIFO = "fifo"
    FAIR_SHARE = "fair_share"
    SHORTEST_PREDICTED = "shortest_predicted"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSettings:
    """What an operator can set of the order."""

    order: Order = Order.FIFO
    ageing_s: int = 86_400  # a job that has waited longer goes by age
    half_life_s: int = 604_800  # of what an account has used


def arrange(jobs: Iterable[Job], rank: Callable[[Job], float], now_us: int, ageing_s: int) -> list[Job]:
    """Sort waiting jobs, first in line first.

    Args:
        jobs: In any order.
        rank: Lower goes first, among jobs of equal ``nice`` that have not aged; ties go to the older job.
        now_us: The time now.
        ageing_s: A job submitted longer ago than this goes by age.
    """
    aged_before_us = now_us - ageing_s * _SECOND_US

    def key(job: Job) -> tuple[int, bool, float, int]:
        is_young = job.submitted_at_us > aged_before_us
        return job.spec.nice, is_young, rank(job) if is_young else 0.0, job.job_id

    return sorted(jobs, key=key)


class DecayedUse:
    """GPU-seconds that each account used, each second counting half as much after every half-life."""

    def __init__(self, half_life_s: float) -> None:
        self._half_life_us = half_life_s * _SECOND_US
        self._use: dict[str, tuple[float, int]] = {}  # GPU-seconds, as they count at that time

    def note(self, account: str, gpus: float, start_us: int, end_us: int) -> None:
        """Count GPUs held for a time. Past ends may be noted later than others that follow them."""
        counted, as_of_us = self._use.get(account, (0.0, end_us))
        latest_us = max(as_of_us, end_us)
        self._use[account] = (
            counted * self._left(latest_us - as_of_us) + self.counts(gpus, start_us, end_us, latest_us),
            latest_us,
        )

    def of(self, account: str, now_us: int) -> float:
        """What the account's use counts now, GPU-seconds; 0 if it has used nothing."""
        counted, as_of_us = self._use.get(account, (0.0, now_us))
        return counted * self._left(now_us - as_of_us)

    def counts(self, gpus: float, start_us: int, end_us: int, now_us: int) -> float:
        """What holding GPUs for a time counts now: the integral of GPUs · 2^(-age / half-life)."""
        per_second = gpus * self._half_life_us / _SECOND_US / log(2)
        return per_second * (self._left(now_us - end_us) - self._left(now_us - start_us))

    def _left(self, age_us: int) -> float:
        return exp2(-age_us / self._half_life_us)
