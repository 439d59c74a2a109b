"""How often a job runs again by itself, how long it waits, and what ends that."""

from __future__ import annotations

import pytest
from cluster import ALICE, SECOND_US, Cluster, facts, failed, spec

from gpusched.domain.errors import InfeasibleRequest
from gpusched.domain.events import JobHeld, JobReleased
from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.job_spec import RestartOn
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.partition import Partition, Partitions
from gpusched.engine.core import EngineSettings
from gpusched.engine.inputs import CancelJob, DelayPassed, HoldJob, NodeSilent, ReleaseJob
from gpusched.engine.restarts import DELAY_MAX_S, FORGIVEN_AFTER_S, restart_delay_s

J1 = JobId(1)


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    made.join(facts("n1"), facts("n2"))
    return made


def lose(cluster: Cluster, run_s: int = 0) -> None:
    """Let the job's attempt start, run, and be lost with its node."""
    cluster.cycle()
    cluster.start_all(1)
    cluster.now_us += run_s * SECOND_US
    cluster.end_all(1, exit_code=1, cause=EndReason.NODE_FAIL)


def wait(cluster: Cluster) -> None:
    """Let the job's delay pass."""
    cluster.now_us = cluster.engine.state.delayed[J1]
    cluster.step(facts_=[DelayPassed(J1)])


def delays(cluster: Cluster) -> list[int | None]:
    return [r.event.for_s for r in cluster.log if isinstance(r.event, JobHeld)]


def test_delays_grow_from_nothing_and_stop_growing() -> None:
    assert [restart_delay_s(n) for n in range(9)] == [0, 10, 20, 40, 80, 160, 320, 600, 600]
    assert restart_delay_s(10**6) == DELAY_MAX_S


def test_the_first_restart_comes_at_once(cluster: Cluster) -> None:
    cluster.submit(spec(requeue=True))
    lose(cluster)
    assert cluster.job(1).restarts == 1
    cluster.cycle()
    assert cluster.job(1).state is JobState.CONFIGURING


def test_the_second_one_waits_in_nobodys_way_and_is_released_by_the_head(cluster: Cluster) -> None:
    cluster.submit(spec(requeue=True))
    lose(cluster)
    lose(cluster)
    job = cluster.job(1)
    assert job.is_held and job.held_until_us == cluster.now_us + 10 * SECOND_US
    cluster.cycle()
    assert cluster.job(1).state is JobState.PENDING
    wait(cluster)
    cluster.cycle()
    assert cluster.job(1).state is JobState.CONFIGURING
    assert not cluster.engine.state.delayed


def test_who_has_used_up_the_restarts_is_held_for_good_and_a_release_gives_new_ones(cluster: Cluster) -> None:
    cluster.submit(spec(requeue=True, restarts_max=2))
    lose(cluster)
    lose(cluster)
    wait(cluster)
    lose(cluster)
    job = cluster.job(1)
    assert (job.is_held, job.held_until_us, job.attempt and job.attempt.epoch) == (True, None, 3)
    assert delays(cluster) == [10, None]
    cluster.step([ReleaseJob(who=ALICE, request_id=cluster.request_id(), job_id=J1)])
    assert cluster.job(1).restarts == 0
    lose(cluster)
    assert not cluster.job(1).is_held


def test_an_attempt_that_ran_for_long_forgives_what_came_before(cluster: Cluster) -> None:
    cluster.submit(spec(requeue=True, restarts_max=1))
    for _ in range(5):
        lose(cluster, run_s=FORGIVEN_AFTER_S)
        assert (cluster.job(1).is_held, cluster.job(1).restarts) == (False, 1)


def test_without_restarts_a_lost_job_is_held_at_once(cluster: Cluster) -> None:
    cluster.submit(spec(requeue=True, restarts_max=0))
    lose(cluster)
    assert cluster.job(1).is_held


def test_a_jobs_own_failure_ends_it_unless_it_asked_otherwise(cluster: Cluster) -> None:
    cluster.submit(spec(requeue=True))
    cluster.cycle()
    cluster.start_all(1)
    cluster.end_all(1, exit_code=3)
    assert cluster.job(1).state is JobState.FAILED


def test_with_restart_on_any_it_runs_again_until_its_restarts_are_used_up(cluster: Cluster) -> None:
    cluster.submit(spec(requeue=True, restart_on=RestartOn.ANY, restarts_max=1))
    cluster.cycle()
    cluster.start_all(1)
    cluster.end_all(1, exit_code=3)
    assert cluster.job(1).state is JobState.PENDING
    cluster.cycle()
    cluster.start_all(1)
    cluster.end_all(1, exit_code=3)
    job = cluster.job(1)
    assert (job.state, job.exit_code) == (JobState.FAILED, 3)


@pytest.mark.parametrize("reason", [EndReason.TIME_LIMIT])
def test_a_time_limit_is_no_failure_to_restart_after(cluster: Cluster, reason: EndReason) -> None:
    cluster.submit(spec(requeue=True, restart_on=RestartOn.ANY, time_limit_s=60))
    cluster.cycle()
    cluster.start_all(1)
    cluster.end_all(1, exit_code=1, cause=reason)
    assert cluster.job(1).state is JobState.FAILED


def test_a_hold_by_its_owner_outlives_the_delay(cluster: Cluster) -> None:
    cluster.submit(spec(requeue=True))
    lose(cluster)
    lose(cluster)
    cluster.step([HoldJob(who=ALICE, request_id=cluster.request_id(), job_id=J1)])
    cluster.step(facts_=[DelayPassed(J1)])
    assert cluster.job(1).is_held
    assert not any(isinstance(r.event, JobReleased) for r in cluster.log)


def test_a_job_that_waits_for_its_restart_can_be_cancelled_without_a_trace(
    cluster: Cluster,
) -> None:
    cluster.submit(spec(requeue=True))
    lose(cluster)
    lose(cluster)
    cluster.step([CancelJob(who=ALICE, request_id=cluster.request_id(), job_id=J1)])
    assert cluster.job(1).state is JobState.CANCELLED
    cluster.step(facts_=[DelayPassed(J1)])
    assert not cluster.engine.state.delayed


def test_a_rank_that_fails_restarts_the_whole_gang(cluster: Cluster) -> None:
    cluster.submit(spec(requeue=True, restart_on=RestartOn.ANY, nodes=2, tasks_per_node=2))
    cluster.cycle()
    cluster.start_all(1)
    job = cluster.job(1)
    cluster.report(failed(job, job.attempt.node_names[0], 1, 9))  # type: ignore[union-attr]
    cluster.end_all(1, exit_code=1)
    cluster.cycle()
    attempt = cluster.job(1).attempt
    assert attempt is not None
    assert (attempt.epoch, len(attempt.node_names)) == (2, 2)


@pytest.fixture
def with_spare() -> Cluster:
    """Three nodes, of which n3 is a spare."""
    partition = Partition(name="main", spares=(NodeName("n3"),))
    made = Cluster(EngineSettings(partitions=Partitions((partition,))))
    made.join(facts("n1"), facts("n2"), facts("n3"))
    return made


def test_a_spare_takes_no_first_attempt_and_every_restart(with_spare: Cluster) -> None:
    with_spare.submit(spec(requeue=True, nodes=2, gpus_per_node=4))
    with_spare.submit(spec(gpus_per_node=4))
    with_spare.cycle()
    first = with_spare.job(1).attempt
    assert first is not None and first.node_names == ("n1", "n2")
    assert with_spare.job(2).state is JobState.PENDING
    with_spare.start_all(1)
    with_spare.step(facts_=[NodeSilent(NodeName("n2"), 60.0)])
    with_spare.end_all(1, exit_code=1, cause=EndReason.NODE_FAIL)
    with_spare.cycle()
    again = with_spare.job(1).attempt
    assert again is not None and set(again.node_names) == {"n1", "n3"}
    assert with_spare.job(2).state is JobState.PENDING


def test_a_job_that_would_need_a_spare_from_the_start_is_refused(with_spare: Cluster) -> None:
    with pytest.raises(InfeasibleRequest):
        with_spare.submit(spec(nodes=3))
