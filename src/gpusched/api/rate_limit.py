"""One user's haste is not another's wait: a token bucket per subject, asked before a request is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gpusched.domain.clock import Clock
from gpusched.domain.errors import TooManyRequests
from gpusched.domain.identity import Principal

SUBJECTS_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Rate:
    """How many requests a subject may make: ``per_s`` in the long run, ``burst`` at once."""

    per_s: float
    burst: int


class RateLimit:
    """Authenticates, and refuses who asks too often.

    Args:
        authenticate: Says who asks.
        rate: Of each subject: a user with all its ranks, or a node.
        clock: Its monotonic time fills the buckets.
    """

    def __init__(self, authenticate: Callable[[str], Principal], rate: Rate, clock: Clock) -> None:
        self._authenticate, self._rate, self._clock = authenticate, rate, clock
        self._buckets: dict[object, tuple[float, int]] = {}  # subject to requests left, and when that was

    def authenticate(self, token: str) -> Principal:
        """Say who shows ``token``.

        Raises:
            Unauthenticated: Nobody.
            TooManyRequests: Somebody who must wait; says how long.
        """
        who = self._authenticate(token)
        subject = who.node if who.node is not None else who.identity.uid
        now_us = self._clock.monotonic_us()
        left, then_us = self._buckets.get(subject, (float(self._rate.burst), now_us))
        left = min(left + (now_us - then_us) * self._rate.per_s / 1e6, float(self._rate.burst))
        if left < 1:
            self._buckets[subject] = (left, now_us)
            wait_s = (1 - left) / self._rate.per_s
            raise TooManyRequests(
                f"{who.identity.user} asks more than {self._rate.per_s:g} times a second: "
                f"try again in {wait_s:.3f} s, or send many jobs in one request",
                retry_after_s=wait_s,
            )
        if len(self._buckets) >= SUBJECTS_MAX:
            self._buckets.clear()  # every bucket full again: a little too generous, never too strict
        self._buckets[subject] = (left - 1, now_us)
        return who
