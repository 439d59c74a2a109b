"""What one node says of itself is taken as it comes, up to a bound; beyond it the log does not grow."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpusched.api.change_pace import BURST, FACTS, ChangePace
from gpusched.domain.errors import TooManyRequests
from gpusched.domain.health import Condition, HealthObserved, Sighting, Signal
from gpusched.domain.ids import NodeName


class SetClock:
    us = 0

    def now_us(self) -> int:
        raise AssertionError("wall clocks are set")

    def monotonic_us(self) -> int:
        return self.us


def ill(*codes: int, seen: int = 0) -> HealthObserved:
    conditions = tuple(Condition(signal=Signal.CHECK_FAILED, detail="x", code=code) for code in codes)
    sightings = tuple(
        Sighting(condition=Condition(signal=Signal.XID, detail="x", code=number), observed_us=number)
        for number in range(seen)
    )
    return HealthObserved(
        node=NodeName("n1"), boot_id="b", conditions=conditions, sightings=sightings, is_complete=True
    )


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
def pace(clock) -> ChangePace:
    return ChangePace(clock)


def test_a_picture_that_does_not_change_costs_nothing(pace):
    picture = ill(*range(100))
    assert all(pace.fitted(picture) == picture for _ in range(1_000))


def test_a_node_that_invents_conditions_gets_a_burst_of_them_into_the_log_and_no_more(pace):
    taken = 0
    for number in range(200):
        taken += len(pace.fitted(ill(*range(number * 100, number * 100 + 100))).conditions)
        assert pace.fitted(ill()) == ill()
    assert taken == BURST


def test_what_is_known_and_what_is_over_is_told_after_the_burst_too(pace):
    pace.fitted(ill(1, 2, seen=BURST))
    assert pace.fitted(ill(1, 2, 3)) == ill(1, 2)
    assert pace.fitted(ill(2)) == ill(2)


def test_a_driver_that_says_one_thing_all_the_time_hides_nothing_else(pace):
    for _ in range(1_000):
        pace.fitted(ill(seen=64))
    serious = Sighting(condition=Condition(signal=Signal.XID, detail="x", code=79), observed_us=1_000)
    told = pace.fitted(replace(ill(seen=64), sightings=(*ill(seen=64).sightings, serious)))
    assert serious in told.sightings


def test_what_was_told_longest_ago_is_told_first_again(pace, clock):
    pace.fitted(ill(seen=64))
    clock.us += 1_000_000
    assert len(pace.fitted(ill(seen=32)).sightings) == 32
    clock.us += 1_000_000
    told = {each.observed_us for each in pace.fitted(ill(seen=64)).sightings}
    assert len(told) < 64 and told >= set(range(32, 64))


def test_time_gives_back_what_was_used(pace, clock):
    pace.fitted(ill(seen=BURST))
    assert pace.fitted(ill(1, 2)) == ill()
    clock.us += 1_000_000
    assert pace.fitted(ill(1, 2)) == ill(1)


def test_a_node_whose_machine_changes_all_the_time_is_told_when_to_come_again(pace, clock):
    for _ in range(BURST // FACTS):
        pace.count_facts()
    with pytest.raises(TooManyRequests) as refused:
        pace.count_facts()
    clock.us += round(refused.value.retry_after_s * 1e6) + 1
    pace.count_facts()


def test_too_much_is_said_in_the_log_once(pace, caplog):
    for number in range(10):
        pace.fitted(ill(*range(number * 100, number * 100 + 100)))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
