"""In which order waiting jobs go: nobody starves, and what was used fades."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusched.domain.identity import Identity
from gpusched.domain.ids import JobId
from gpusched.domain.job import Job
from gpusched.domain.job_spec import JobSpec
from gpusched.engine.past import LikelyLengths, PastRun, UseOfAccounts, Work
from gpusched.policy.order import DecayedUse, arrange

SECOND_US = 1_000_000
NOW_US = 1_000_000 * SECOND_US


def job(number: int, *, age_s: int = 0, user: str = "u", **spec: object) -> Job:
    given = JobSpec(name="train", command=("true",), **spec)  # type: ignore[arg-type]
    owner = Identity(user, 1, 1)
    return Job(job_id=JobId(number), spec=given, owner=owner, submitted_at_us=NOW_US - age_s * SECOND_US)


def ids(jobs: list[Job]) -> list[int]:
    return [each.job_id for each in jobs]


JOBS = st.lists(st.tuples(st.integers(0, 200), st.integers(-1, 1)), max_size=30).map(
    lambda drawn: [
        job(number, age_s=age_s, nice=nice)
        for number, (age_s, nice) in enumerate(sorted(drawn, key=lambda each: -each[0]), start=1)
    ]
)


@given(JOBS, st.randoms(use_true_random=False), st.integers(1, 150))
def test_nobody_of_its_nice_that_came_later_goes_before_a_job_that_has_aged(jobs, dice, ageing_s) -> None:
    rank = {each.job_id: dice.random() for each in jobs}
    ordered = arrange(jobs, lambda each: rank[each.job_id], NOW_US, ageing_s)
    assert sorted(ids(ordered)) == ids(jobs)
    for place, aged in enumerate(ordered):
        if NOW_US - aged.submitted_at_us >= ageing_s * SECOND_US:
            assert all(
                before.spec.nice < aged.spec.nice or before.job_id < aged.job_id for before in ordered[:place]
            )


@given(JOBS)
def test_lower_nice_goes_first_whatever_the_rank(jobs) -> None:
    nices = [each.spec.nice for each in arrange(jobs, lambda each: -each.job_id, NOW_US, 100)]
    assert nices == sorted(nices)


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 1_000), st.integers(0, 500)), max_size=12),
    st.integers(1, 400),
)
def test_use_in_any_order_of_notes_is_the_decayed_sum_of_gpu_seconds(runs, half_life_s) -> None:
    now_s = 2_000
    use = DecayedUse(half_life_s)
    for gpus, start_s, length_s in runs:
        use.note("a", gpus, start_s * SECOND_US, (start_s + length_s) * SECOND_US)
    steps = 20  # a plain twin: each part of a run counts as at its middle
    expected = sum(
        gpus
        * (length_s / steps)
        * 2 ** (-(now_s - (start_s + length_s * (step + 0.5) / steps)) / half_life_s)
        for gpus, start_s, length_s in runs
        for step in range(steps)
    )
    # Per step of d seconds the middle is off by (ln 2 * d / half-life)^2 / 24 of its value.
    error = max(((0.694 * length_s / steps / half_life_s) ** 2 / 20 for _, _, length_s in runs), default=0)
    assert use.of("a", now_s * SECOND_US) == pytest.approx(expected, rel=1e-6 + error, abs=1e-9)


def test_use_counts_half_after_a_half_life() -> None:
    use = DecayedUse(3600)
    use.note("a", 4, 0, 10 * SECOND_US)
    before = use.of("a", 100 * SECOND_US)
    assert use.of("a", 3700 * SECOND_US) == pytest.approx(before / 2)
    assert use.of("b", 100 * SECOND_US) == 0


def test_the_account_that_used_least_goes_first_and_running_jobs_count() -> None:
    past = UseOfAccounts(86_400)
    past.note(PastRun(Work("u", "busy", "train", 8), NOW_US - 5_000 * SECOND_US, NOW_US - 4_000 * SECOND_US))
    waiting = [job(1, account="busy"), job(2, account="idle"), job(3, account="running")]
    held = job(4, account="running", gpus_per_node=8, nodes=4)
    rank = past.ranks(waiting, [held], NOW_US)
    assert ids(arrange(waiting, rank, NOW_US, 86_400)) == [2, 3, 1]


def test_a_user_whose_jobs_were_short_goes_before_one_whose_jobs_were_long() -> None:
    past = LikelyLengths()
    for number in range(6):
        for user, length_s in (("long", 50_000), ("short", 60)):
            start_us = number * SECOND_US
            past.note(PastRun(Work(user, "a", "train", 1), start_us, start_us + length_s * SECOND_US))
    waiting = [job(1, user="long", gpus_per_node=1), job(2, user="short", gpus_per_node=1)]
    rank = past.ranks(waiting, [], NOW_US)
    assert ids(arrange(waiting, rank, NOW_US, 86_400)) == [2, 1]


def test_of_equal_predictions_the_smaller_job_goes_first() -> None:
    waiting = [job(1, gpus_per_node=8), job(2, gpus_per_node=1)]
    rank = LikelyLengths().ranks(waiting, [], NOW_US)
    assert ids(arrange(waiting, rank, NOW_US, 86_400)) == [2, 1]


def test_what_was_learnt_stays_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gpusched.engine.past.RUNS_KEPT", 8)
    past, fresh = LikelyLengths(), LikelyLengths()
    runs = [PastRun(Work("u", "a", "train", 1), 0, (number % 5) * 100 * SECOND_US) for number in range(17)]
    for run in runs:
        past.note(run)
    for run in runs[-8:]:
        fresh.note(run)
    waiting = [job(1, gpus_per_node=1)]
    assert past.ranks(waiting, [], NOW_US)(waiting[0]) == fresh.ranks(waiting, [], NOW_US)(waiting[0])
