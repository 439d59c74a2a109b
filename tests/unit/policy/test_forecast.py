from __future__ import annotations

import pytest
from fakes.clusters import H100, columns_of, make_node, snapshot_of

from gpusched.domain.job_spec import JobSpec
from gpusched.placement.placement import NodePlacement
from gpusched.policy.forecast import ForecastMemo, forecast_start
from gpusched.policy.plan import RunningEntry


def one_gpu_jobs(*ends_by_us: int | None):
    """A node full of one-GPU jobs that end then, and the entries."""
    snapshot = snapshot_of(make_node("n0", *[H100] * len(ends_by_us)))
    running = []
    for number, end_us in enumerate(ends_by_us):
        part = NodePlacement("n0", (f"GPU-n0-{number}",), (number,), 0)
        snapshot.take(part)
        running.append(RunningEntry(number, (part,), end_us))
    return snapshot, running


@pytest.mark.parametrize(
    ("gpus", "start_us"), [(1, 10), (2, 20), (3, 30), (4, 40), (5, 50), (6, 50), (7, 60), (8, None)]
)
def test_start_is_when_enough_jobs_have_ended_in_the_order_of_their_ends(gpus, start_us):
    snapshot, running = one_gpu_jobs(60, 10, 50, 30, 20, None, 40, 50)
    before = columns_of(snapshot)
    found = forecast_start(snapshot, JobSpec(name="j", gpus_per_node=gpus), running, now_us=5)
    assert (None if found is None else found.start_us) == start_us
    assert columns_of(snapshot) == before


def test_jobs_past_their_limit_count_as_ending_now():
    snapshot, running = one_gpu_jobs(10, 20)
    found = forecast_start(snapshot, JobSpec(name="j", gpus_per_node=2), running, now_us=100)
    assert found is not None
    assert found.start_us == 100


def test_jobs_that_end_together_are_all_gone_in_the_forecast_cluster():
    snapshot, running = one_gpu_jobs(10, 10, 10)
    found = forecast_start(snapshot, JobSpec(name="j", gpus_per_node=1), running, now_us=0)
    assert found is not None
    assert found.snapshot.gpus_free.tolist() == [3]


def test_job_on_a_node_that_is_gone_frees_nothing():
    snapshot, running = one_gpu_jobs(10, 20)
    gone = RunningEntry(9, (NodePlacement("n7", ("GPU-n7-0",), (0,), 0),), 5)
    found = forecast_start(snapshot, JobSpec(name="j", gpus_per_node=1), [gone, *running], now_us=0)
    assert found is not None
    assert found.start_us == 10


def test_a_memo_does_not_keep_the_earlier_end_of_a_job_that_started_anew():
    snapshot, running = one_gpu_jobs(10, 20)
    memo = ForecastMemo()
    forecast_start(snapshot, JobSpec(name="j", gpus_per_node=2), running, now_us=0, memo=memo)
    running[1] = RunningEntry(running[1].job_id, running[1].nodes, 90)
    found = forecast_start(snapshot, JobSpec(name="j", gpus_per_node=2), running, now_us=0, memo=memo)
    assert found is not None
    assert found.start_us == 90


@pytest.mark.parametrize("last_start_us", [0, 10, 25, 30, 60, 1_000])
def test_what_an_earlier_forecast_said_decides_nothing(last_start_us):
    snapshot, running = one_gpu_jobs(60, 10, 50, 30, 20, 40)
    memo = ForecastMemo()
    memo.last_start_us = last_start_us
    found = forecast_start(snapshot, JobSpec(name="j", gpus_per_node=3), running, now_us=5, memo=memo)
    assert found is not None
    assert (found.start_us, found.snapshot.gpus_free.tolist()) == (30, [3])
