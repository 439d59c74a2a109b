"""What is learnt from jobs that came near, and what order follows."""

from __future__ import annotations

from math import exp, inf, log1p

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gpusched.policy.prediction import (
    LEVEL_EDGES_S,
    History,
    gittins_rank,
    level_of,
)

LEVELS = len(LEVEL_EDGES_S) - 1
CHANCES = arrays(np.float64, LEVELS, elements=st.floats(0.01, 0.99))
AGES = st.floats(0, 1e7)


def plain_rank(chances: np.ndarray, age_s: float) -> float:
    """The definition, level by level."""
    best, alive, time_s = -inf, 1.0, 0.0
    for level in range(level_of(age_s), LEVELS):
        low, high = LEVEL_EDGES_S[level], LEVEL_EDGES_S[level + 1]
        rate = -log1p(-chances[level]) / (high - low)
        left_s = high - max(low, age_s)
        time_s += alive * (1 - exp(-rate * left_s)) / rate
        alive *= exp(-rate * left_s)
        best = max(best, (1 - alive) / time_s)
    return best


@given(CHANCES, AGES)
def test_rank_is_that_of_the_plain_definition(chances: np.ndarray, age_s: float) -> None:
    np.testing.assert_allclose(
        gittins_rank(chances[None], np.array([age_s])), [plain_rank(chances, age_s)], rtol=1e-6
    )


def test_without_history_the_least_attained_service_goes_first() -> None:
    history = History()
    jobs = [history.add(1) for _ in range(4)]
    ranks = gittins_rank(history.chances(jobs), np.array([0.0, 200.0, 5_000.0, 90_000.0]))
    assert list(np.argsort(-ranks)) == [0, 1, 2, 3]


def test_a_neighbour_of_short_jobs_is_expected_to_be_shorter_than_a_neighbour_of_long_ones() -> None:
    history = History()
    short = [history.add("a") for _ in range(10)]
    for _ in range(30):
        history.add("a")
    long = [history.add("a") for _ in range(10)]
    for job in short[:-1]:
        history.ended(job, 30.0)
    for job in long[:-1]:
        history.ended(job, 100_000.0)
    ranks = gittins_rank(history.chances([short[-1], long[-1]]), np.zeros(2))
    assert ranks[0] > 10 * ranks[1]


def test_jobs_that_only_passed_levels_are_evidence_for_long_ones() -> None:
    history = History()
    jobs = [history.add("a") for _ in range(5)]
    before = history.chances([jobs[0]])[0, 0]
    for job in jobs[1:]:
        assert jobs[0] in history.reached(job, 1_000.0)
    assert history.chances([jobs[0]])[0, 0] < before


def test_one_who_comes_later_has_heard_the_same_as_one_who_was_there() -> None:
    there, later = History(), History()
    for history in (there, later):
        history.add("a")
    there.add("a")
    for history in (there, later):
        history.reached(0, 300.0)
        history.ended(0, 1_000.0)
    later.add("a")
    np.testing.assert_allclose(there.chances([1]), later.chances([1]))


@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 1e6), st.booleans()), max_size=60))
def test_chances_stay_inside_zero_and_one(story: list[tuple[int, float, bool]]) -> None:
    history = History()
    for kind, age_s, has_ended in story:
        job = history.add(kind)
        (history.ended if has_ended else history.reached)(job, age_s)
    last = history.add(0)
    chances = history.chances([last])
    assert np.all((chances > 0) & (chances < 1))
