"""Heads that take turns on one database, without anybody waiting: each has a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

from gpusched.store.database import SqlStore, open_store
from gpusched.store.high_water import Memory
from gpusched.store.leadership import Leadership

LEASE_S = 6.0
_NUMBERS = count(1)


class HandClock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def candidate(
    url: str,
    clock: HandClock,
    *,
    holder: str | None = None,
    lease_s: float = LEASE_S,
    memory: Memory | None = None,
) -> Leadership:
    """A head that may lead; each a holder of its own unless named."""
    holder = holder or f"head {next(_NUMBERS)}"
    return Leadership(url, holder=holder, lease_s=lease_s, memory=memory, clock_s=clock)


@contextmanager
def taken_over(url: str) -> Iterator[SqlStore]:
    """The store, opened by a head that has seen nothing of its leader for an hour."""
    clock = HandClock()
    with candidate(url, clock) as leadership:
        while not leadership.stand("the next"):
            clock.sleep(3600)
        with open_store(url, leadership) as store:
            yield store
