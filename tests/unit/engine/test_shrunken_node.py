"""A node may come back as less than it was, with jobs on it that hold more than is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster import Cluster, facts, spec

from gpusched.domain.ids import NodeName
from gpusched.domain.job_state import JobState
from gpusched.engine.core import EngineSettings
from gpusched.engine.state import ClusterState

N1 = NodeName("n1")
GIB = 1 << 30


@pytest.fixture
def shrunken() -> tuple[Cluster, int, int]:
    """Two jobs of 30 GiB on a node of 64 GiB that then comes back with 40."""
    cluster = Cluster()
    cluster.join(facts("n1"))
    first, second = cluster.submit(*(spec(memory_bytes=30 * GIB) for _ in range(2)))
    cluster.cycle()
    cluster.start_all(first)
    cluster.start_all(second)
    attempts = tuple(id_ for job_id in (first, second) if (id_ := cluster.job(job_id).attempt_id))
    cluster.join(replace(facts("n1"), memory_bytes=40 * GIB), attempts=attempts)
    return cluster, first, second


def free_bytes(cluster: Cluster) -> int:
    snapshot = cluster.engine.state.snapshot
    return int(snapshot.memory_free[snapshot.index[N1]])


def test_its_jobs_run_on_and_nothing_more_fits_there(shrunken: tuple[Cluster, int, int]) -> None:
    cluster, first, second = shrunken
    (third,) = cluster.submit(spec(memory_bytes=1 * GIB))
    cluster.cycle()
    assert [cluster.job(i).state for i in (first, second)] == [JobState.RUNNING, JobState.RUNNING]
    assert cluster.job(third).state is JobState.PENDING


def test_what_ends_there_frees_only_what_nobody_else_holds(shrunken: tuple[Cluster, int, int]) -> None:
    cluster, first, second = shrunken
    cluster.end_all(first)
    assert free_bytes(cluster) == 10 * GIB
    cluster.end_all(second)
    assert free_bytes(cluster) == 40 * GIB


def test_a_counter_that_is_gone_is_held_by_nobody_and_free_to_nobody() -> None:
    cluster = Cluster()
    cluster.join(replace(facts("n1"), gres=(("fpga", 2),), disk_bytes=100))
    (job_id,) = cluster.submit(spec(gres=(("fpga", 2),), disk_bytes=80))
    cluster.cycle()
    cluster.start_all(job_id)
    attempt_id = cluster.job(job_id).attempt_id
    assert attempt_id is not None
    cluster.join(replace(facts("n1"), disk_bytes=50), attempts=(attempt_id,))
    assert cluster.engine.state.snapshot.counters_free.tolist() == [[0]]
    cluster.end_all(job_id)
    assert cluster.engine.state.snapshot.counters_free.tolist() == [[50]]


def test_licences_taken_away_by_the_operator_stay_held_until_their_jobs_end() -> None:
    cluster = Cluster(EngineSettings(licenses=(("matlab", 4),)))
    cluster.join(facts("n1"))
    first, second, third = cluster.submit(*(spec(licenses=(("matlab", 2),)) for _ in range(3)))
    cluster.cycle()
    state = cluster.engine.state
    again = ClusterState.of(
        state.partitions, licenses=(("matlab", 2),), jobs=state.jobs.values(), nodes=state.nodes.values()
    )
    assert again.snapshot.licenses_free == {"matlab": -2}
    again.free_resources(again.jobs[first])
    assert again.snapshot.licenses_free == {"matlab": 0}
    again.free_resources(again.jobs[second])
    assert again.snapshot.licenses_free == {"matlab": 2}
    assert cluster.job(third).state is JobState.PENDING


def test_a_share_of_a_gpu_stays_held_when_it_is_no_longer_shareable() -> None:
    cluster = Cluster()
    whole = facts("n1", gpus=1)
    cluster.join(replace(whole, devices=(replace(whole.devices[0], shareable=True),)))
    (job_id,) = cluster.submit(spec(gpus_per_node=1, gpu_milli=400))
    cluster.cycle()
    cluster.start_all(job_id)
    attempt_id = cluster.job(job_id).attempt_id
    assert attempt_id is not None
    cluster.join(whole, attempts=(attempt_id,))
    assert cluster.engine.state.snapshot.milli_free.tolist() == [[600]]
    cluster.end_all(job_id)
    assert cluster.engine.state.snapshot.gpus_free.tolist() == [1]


def test_a_head_that_restarts_meanwhile_sees_the_same(shrunken: tuple[Cluster, int, int]) -> None:
    cluster, _, _ = shrunken
    state = cluster.engine.state
    again = ClusterState.of(state.partitions, jobs=state.jobs.values(), nodes=state.nodes.values())
    assert int(again.snapshot.memory_free[0]) == free_bytes(cluster) == 0
