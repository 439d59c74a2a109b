"""Which ranks count as stragglers, which gangs as slow, and what is told of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from cluster import Cluster, facts, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusched.domain.events import JobSlowed, SlownessEnded
from gpusched.domain.health import Condition, HealthObserved, Signal
from gpusched.domain.ids import AttemptId, Epoch, JobId, NodeName
from gpusched.domain.job_spec import JobSpec, SlowPolicy
from gpusched.domain.job_state import JobState
from gpusched.domain.pulse import RankPace
from gpusched.engine.inputs import Fact, GangRecovered, GangSlowed, Reported
from gpusched.engine.state import ClusterState
from gpusched.engine.straggler import FIRST_WINDOWS, LOOKS, StragglerWatch, median_of_others

N1, N2 = NodeName("n1"), NodeName("n2")
FIRST = AttemptId(JobId(1), Epoch(1))
WAIT_S = 0.1  # of all ranks in the collective
Work = Callable[[int], Sequence[float]]
"""Seconds of each rank's own work in a step, by its number."""


def gang(**changes: object) -> JobSpec:
    """Two nodes of two ranks."""
    return spec(**{"nodes": 2, "tasks_per_node": 2, "slow": SlowPolicy(20, LOOKS), **changes})


class Watched:
    """A gang that trains in step, and the watch over it; the clocks of its nodes have nothing in common."""

    def __init__(self, wanted: JobSpec | None = None) -> None:
        self.cluster = Cluster()
        self.cluster.join(facts("n1", cpus=64), facts("n2", cpus=64))
        self.cluster.submit(wanted or gang())
        self.cluster.cycle()
        self.cluster.start_all(1)
        self.watch = StragglerWatch()
        self.ranks = (wanted or gang()).world_size
        self.writes_own = True
        self.step, self.at_s, self.own_s = 0, 0.0, [0.0] * self.ranks

    def look(self) -> tuple[Fact, ...]:
        """What the watch finds now that both nodes have said how far their ranks are."""
        half = self.ranks // 2
        for node, ranks, boot_s in ((N1, range(half), 5e3), (N2, range(half, self.ranks), 7e6)):
            self.watch.heard(node, [self._pace(rank, boot_s) for rank in ranks])
        state = self.cluster.engine.state
        return self.watch.check(state.jobs[job_id] for job_id in state.running)

    def _pace(self, rank: int, boot_s: float) -> RankPace:
        return RankPace(
            attempt_id=FIRST,
            global_rank=rank,
            step=self.step,
            at_s=boot_s + self.at_s,
            own_s=self.own_s[rank] if self.writes_own else None,
        )

    def train(self, steps: int, work: Work, per_look: int = 1) -> list[Fact]:
        """Make so many steps together, and hand what is found to the engine as the loop does."""
        found: list[Fact] = []
        for _ in range(steps):
            took = work(self.step)
            self.step += 1
            self.at_s += max(took) + WAIT_S
            self.own_s = [before + now for before, now in zip(self.own_s, took, strict=True)]
            if self.step % per_look == 0 and (facts := self.look()):
                self.cluster.step(facts_=facts)
                found += facts
        return found


def even(step: int) -> Sequence[float]:
    """All four ranks alike, no two steps alike."""
    return [1.0 + 0.1 * ((7 * step + 3 * rank) % 5) / 5 for rank in range(4)]


def slow(rank: int, times: float = 2.0) -> Work:
    return lambda step: [s * times if r == rank else s for r, s in enumerate(even(step))]


@pytest.fixture
def watched() -> Watched:
    return Watched()


def slowed(found: Sequence[Fact]) -> list[tuple[int | None, NodeName | None]]:
    return [(fact.global_rank, fact.node) for fact in found if isinstance(fact, GangSlowed)]


def test_a_rank_whose_own_work_takes_longer_is_named_with_its_node_once(watched: Watched) -> None:
    found = watched.train(10 * LOOKS, slow(2))
    assert slowed(found) == [(2, N2)]
    assert sum(isinstance(r.event, JobSlowed) for r in watched.cluster.log) == 1
    attempt = watched.cluster.job(1).attempt
    assert attempt is not None and attempt.slowness is not None
    assert "rank 2 on n2 takes 2." in attempt.slowness.evidence
    assert f"the last {LOOKS} of them" in attempt.slowness.evidence
    assert watched.cluster.job(1).state is JobState.RUNNING


def test_it_is_named_after_as_many_looks_as_the_rule_wants_and_not_before(watched: Watched) -> None:
    assert watched.train(LOOKS, slow(1)) == []  # the first look only begins the first window
    assert slowed(watched.train(1, slow(1))) == [(1, N1)]


def test_the_policy_can_ask_for_more_steps_than_looks() -> None:
    watched = Watched(gang(slow=SlowPolicy(20, 5 * LOOKS)))
    assert watched.train(5 * LOOKS, slow(1)) == []
    assert slowed(watched.train(1, slow(1))) == [(1, N1)]


def test_a_rank_that_recovers_is_told_and_may_become_slow_again(watched: Watched) -> None:
    watched.train(2 * LOOKS, slow(2))
    assert watched.train(3 * LOOKS, even) == [GangRecovered(FIRST)]
    assert isinstance(watched.cluster.log[-1].event, SlownessEnded)
    attempt = watched.cluster.job(1).attempt
    assert attempt is not None and attempt.slowness is None
    assert slowed(watched.train(2 * LOOKS, slow(0))) == [(0, N1)]


def test_a_rank_that_stays_slow_at_the_edge_does_not_flicker(watched: Watched) -> None:
    watched.train(2 * LOOKS, slow(2))
    assert watched.train(10 * LOOKS, slow(2, 1.25)) == []


def test_all_ranks_of_a_slow_node_are_named() -> None:
    watched = Watched(gang(tasks_per_node=4))
    (found,) = watched.train(2 * LOOKS, lambda step: [1.0] * 4 + [1.5, 1.6, 1.5, 1.5])
    assert isinstance(found, GangSlowed)
    assert (found.global_rank, found.node) == (5, N2)
    assert "slow too: rank 4 on n2, rank 6 on n2, rank 7 on n2" in found.evidence


def test_work_that_hardly_lengthens_the_step_accuses_nobody() -> None:
    watched = Watched()
    assert watched.train(5 * LOOKS, lambda step: [0.01, 0.02, 0.01, 0.01]) == []


def test_a_rank_that_writes_a_checkpoint_now_and_then_is_no_straggler(watched: Watched) -> None:
    """It is a little slower in every step, and ten times as slow in every tenth."""

    def saves(step: int) -> Sequence[float]:
        return [10.0 if step % 10 == 0 else 1.05, 1.0, 1.0, 1.0]

    assert watched.train(20 * LOOKS, saves) == []


def test_ranks_that_write_no_times_and_wait_for_each_other_are_not_told_apart(watched: Watched) -> None:
    watched.writes_own = False
    assert watched.train(10 * LOOKS, slow(2)) == []


def test_ranks_that_write_no_times_and_do_not_wait_are_told_apart_by_their_steps() -> None:
    watched = Watched()
    found: list[Fact] = []
    for look in range(1, 3 * LOOKS):
        for node, ranks in ((N1, (0, 1)), (N2, (2, 3))):
            paces = [
                RankPace(attempt_id=FIRST, global_rank=r, step=look * (5 if r == 3 else 10), at_s=look)
                for r in ranks
            ]
            watched.watch.heard(node, paces)
        state = watched.cluster.engine.state
        found += watched.watch.check(state.jobs[job_id] for job_id in state.running)
    assert slowed(found)[0] == (3, N2)


def test_a_gang_that_becomes_slower_than_it_was_is_told_without_a_rank(watched: Watched) -> None:
    assert watched.train(FIRST_WINDOWS + LOOKS, even) == []
    found = watched.train(2 * LOOKS, lambda step: [1.5 * s for s in even(step)])
    assert slowed(found) == [(None, None)]
    attempt = watched.cluster.job(1).attempt
    assert attempt is not None and attempt.slowness is not None
    assert "No rank stands out" in attempt.slowness.evidence
    assert watched.train(3 * LOOKS, even) == [GangRecovered(FIRST)]


def test_a_gang_that_is_slow_for_one_rank_names_it(watched: Watched) -> None:
    watched.train(FIRST_WINDOWS + LOOKS, even)
    assert slowed(watched.train(2 * LOOKS, slow(3))) == [(3, N2)]


def test_a_gang_whose_first_steps_were_the_slow_ones_is_not_slow(watched: Watched) -> None:
    watched.train(FIRST_WINDOWS + LOOKS, lambda step: [2 * s for s in even(step)])
    assert watched.train(5 * LOOKS, even) == []


def test_nothing_is_said_while_a_rank_writes_nothing(watched: Watched) -> None:
    watched.ranks = 3
    watched.own_s = [0.0] * 3
    assert watched.train(5 * LOOKS, lambda step: [1.0, 1.0, 9.0]) == []


def test_ranks_that_count_anew_are_judged_anew(watched: Watched) -> None:
    watched.train(LOOKS - 1, slow(2))
    watched.step, watched.own_s = 0, [0.0] * 4
    assert watched.train(LOOKS, slow(2)) == []
    assert slowed(watched.train(1, slow(2))) == [(2, N2)]


def test_never_is_never() -> None:
    watched = Watched(gang(slow=SlowPolicy(over_percent=None)))
    assert watched.train(5 * LOOKS, slow(2)) == []


def test_a_single_rank_is_watched_only_if_asked_for() -> None:
    assert spec().slow_policy.over_percent is None
    assert spec(tasks_per_node=2).slow_policy == SlowPolicy(20, 60)


def test_a_head_that_has_just_started_ends_no_episode_that_goes_on(watched: Watched) -> None:
    watched.train(2 * LOOKS, slow(2))
    watched.watch = StragglerWatch()
    assert watched.train(5 * LOOKS, slow(2)) == []
    assert watched.train(5 * LOOKS, even) == [GangRecovered(FIRST)]


def test_facts_that_come_twice_change_nothing_the_second_time(watched: Watched) -> None:
    told = GangSlowed(FIRST, "it is slow", 2, N2)
    watched.cluster.step(facts_=[told, told])
    watched.cluster.step(facts_=[GangRecovered(FIRST), GangRecovered(FIRST)])
    kinds = [type(r.event) for r in watched.cluster.log]
    assert (kinds.count(JobSlowed), kinds.count(SlownessEnded)) == (1, 1)


def test_a_slow_attempt_is_as_it_was_after_a_restart(watched: Watched) -> None:
    watched.train(2 * LOOKS, slow(2))
    state = watched.cluster.engine.state
    restored = ClusterState.of(state.partitions, jobs=state.jobs.values(), nodes=state.nodes.values())
    assert restored.jobs == state.jobs


def test_what_ails_the_node_of_a_slow_rank_is_told_with_it(watched: Watched) -> None:
    hot = Condition(signal=Signal.THERMAL_SLOWDOWN, detail="GPU 0 slows down for heat")
    seen = HealthObserved(node=N2, boot_id="boot-n2", conditions=(hot,), sightings=(), is_complete=True)
    watched.cluster.step(facts_=[Reported(N2, seen)])
    watched.train(2 * LOOKS, slow(2))
    attempt = watched.cluster.job(1).attempt
    assert attempt is not None and attempt.slowness is not None
    assert attempt.slowness.evidence.endswith(". n2 shows ThermalSlowdown")


SPREADS: dict[str, Callable[[random.Random], float]] = {
    "even": lambda dice: dice.uniform(0.5, 1.5),
    "normal": lambda dice: max(0.0, dice.gauss(1.0, 0.3)),
    "exponential": lambda dice: dice.expovariate(1.0),
    "heavy": lambda dice: dice.paretovariate(1.2),  # its variance is infinite
}


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    spread=st.sampled_from(sorted(SPREADS)),
    ranks=st.integers(1, 8),
    per_look=st.integers(1, 5),
)
def test_ranks_whose_times_are_spread_alike_are_never_told_as_slow(
    seed: int, spread: str, ranks: int, per_look: int
) -> None:
    dice, watched = random.Random(seed), Watched(gang(tasks_per_node=ranks))
    found = watched.train(
        400, lambda step: [SPREADS[spread](dice) for _ in range(2 * ranks)], per_look=per_look
    )
    assert found == []


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    ranks=st.integers(1, 8),
    times=st.floats(1.8, 20.0),
    per_look=st.integers(1, 5),
    data=st.data(),
)
def test_a_rank_that_is_so_many_times_slower_is_always_the_one_named(
    seed: int, ranks: int, times: float, per_look: int, data: st.DataObject
) -> None:
    dice, watched = random.Random(seed), Watched(gang(tasks_per_node=ranks))
    culprit = data.draw(st.integers(0, 2 * ranks - 1))

    def work(step: int) -> Sequence[float]:
        return [dice.uniform(0.9, 1.1) * (times if rank == culprit else 1.0) for rank in range(2 * ranks)]

    found = watched.train((LOOKS + 1) * per_look, work, per_look=per_look)
    assert slowed(found) == [(culprit, N1 if culprit < ranks else N2)]


@given(
    times=st.lists(st.integers(0, 9), min_size=2, max_size=9).map(lambda row: np.array([row], dtype=float))
)
def test_the_median_of_the_others_is_that_of_all_without_the_one(times: np.ndarray) -> None:
    plain = [float(np.median(np.delete(times[0], at))) for at in range(times.shape[1])]
    assert median_of_others(times)[0].tolist() == plain
