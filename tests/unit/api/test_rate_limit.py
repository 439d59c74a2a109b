"""A bucket per subject: bursts pass, haste is told when to come again, and nobody waits for another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusched.api.rate_limit import Rate, RateLimit
from gpusched.domain.errors import TooManyRequests
from gpusched.domain.identity import Identity, Principal, Role


class SetClock:
    us = 0

    def now_us(self) -> int:
        raise AssertionError("wall clocks are set")

    def monotonic_us(self) -> int:
        return self.us


def limited(rate: Rate) -> tuple[RateLimit, SetClock]:
    clock = SetClock()

    def user(token: str) -> Principal:
        return Principal(Identity(token, int(token), 1), frozenset({Role.USER}))

    return RateLimit(user, rate, clock), clock


def taken(limit: RateLimit, token: str, tries: int) -> int:
    passed = 0
    for _ in range(tries):
        try:
            limit.authenticate(token)
            passed += 1
        except TooManyRequests:
            pass
    return passed


def test_a_burst_passes_and_no_more():
    limit, _ = limited(Rate(10.0, 5))
    assert taken(limit, "1", 50) == 5


def test_who_waits_as_long_as_told_is_taken():
    limit, clock = limited(Rate(10.0, 5))
    taken(limit, "1", 50)
    with pytest.raises(TooManyRequests, match="10 times a second") as refused:
        limit.authenticate("1")
    clock.us += round(refused.value.retry_after_s * 1e6) + 1
    assert taken(limit, "1", 50) == 1


def test_one_users_haste_takes_nothing_from_another():
    limit, _ = limited(Rate(10.0, 5))
    taken(limit, "1", 1_000)
    assert taken(limit, "2", 5) == 5


@given(st.lists(st.integers(0, 2_000_000), min_size=1, max_size=200))
def test_over_any_time_no_more_pass_than_the_rate_and_one_burst(pauses):
    limit, clock = limited(Rate(10.0, 5))
    passed = 0
    for pause_us in pauses:
        clock.us += pause_us
        passed += taken(limit, "1", 3)
    assert passed <= 5 + clock.us * 10 / 1e6 + 1e-6
