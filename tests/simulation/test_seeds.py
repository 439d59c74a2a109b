"""Three hundred seeds keep every promise, a seed is its own replay, and planted faults are noticed."""

from __future__ import annotations

import pytest
from simulation.mutations import MUTATIONS
from simulation.run import tail_of
from simulation.world import run_seed

SEEDS = 300
PER_TEST = 10
ENOUGH = 300  # seeds within which a planted fault must be noticed


@pytest.mark.parametrize("first", range(0, SEEDS, PER_TEST))
def test_every_promise_is_kept_under_faults_and_all_work_ends_after_them(first):
    for seed in range(first, first + PER_TEST):
        outcome = run_seed(seed)
        assert not outcome.problems, "\n" + tail_of(outcome)


@pytest.mark.parametrize("seed", [3, 24])  # on the model of the store, and on SQLite
def test_a_seed_always_does_the_same(seed):
    first, again = run_seed(seed), run_seed(seed)
    assert first.trace == again.trace
    assert first.steps == again.steps


def test_the_seeds_meet_what_they_are_for():
    outcomes = [run_seed(seed) for seed in range(PER_TEST)]
    assert sum(outcome.jobs for outcome in outcomes) > 50
    assert sum(outcome.faults for outcome in outcomes) > 50
    assert sum(outcome.executions for outcome in outcomes) > 50


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", MUTATIONS)
def test_a_planted_fault_is_noticed(name):
    for seed in range(ENOUGH):
        with MUTATIONS[name]():
            outcome = run_seed(seed)
        if outcome.problems:
            return
    raise AssertionError(f"{name} stayed unnoticed for {ENOUGH} seeds")
