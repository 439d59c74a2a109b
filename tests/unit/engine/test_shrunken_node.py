"""A node may come back as less than it was, with jobs on it that hold more than is left."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster import Cluster, facts, spec

from gpusched.domain.ids import NodeName
from gpusched.domain.job_state import JobState
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


def test_a_head_that_restarts_meanwhile_sees_the_same(shrunken: tuple[Cluster, int, int]) -> None:
    cluster, _, _ = shrunken
    state = cluster.engine.state
    again = ClusterState.of(state.partitions, jobs=state.jobs.values(), nodes=state.nodes.values())
    assert int(again.snapshot.memory_free[0]) == free_bytes(cluster) == 0
