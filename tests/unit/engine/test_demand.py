"""What the engine learns of what is usually asked for."""

from __future__ import annotations

from cluster import Cluster, facts

from gpusched.domain.job_spec import JobSpec
from gpusched.engine.demand import RECENT, RENEWED_EVERY, WINDOW, Demand
from gpusched.engine.state import ClusterState
from gpusched.placement.gang import place
from gpusched.placement.mix import NOTHING_KNOWN


def spec(gpus, **more):
    return JobSpec(name="job", command=("true",), gpus_per_node=gpus, **more)


def submitted(count):
    """Job ids from 1 and specs that change over time."""
    return [
        (job_id, spec(1 + job_id * 8 // count % 8, memory_bytes=job_id)) for job_id in range(1, count + 1)
    ]


def test_few_submissions_say_nothing():
    assert Demand.of(submitted(RENEWED_EVERY - 1)).mix == NOTHING_KNOWN
    assert Demand.of(submitted(RENEWED_EVERY)).mix != NOTHING_KNOWN


def test_a_gang_of_n_nodes_counts_as_n_requests():
    jobs = [spec(8, nodes=3), spec(1)] * (RENEWED_EVERY // 2)
    mix = Demand.of(enumerate(jobs, start=1)).mix
    assert {shape.gpus: share for shape, share in zip(mix.shapes, mix.shares, strict=True)} == {
        8: 0.75,
        1: 0.25,
    }


def test_what_is_long_past_is_forgotten():
    jobs = [spec(4)] * WINDOW + [spec(2)] * WINDOW
    assert [shape.gpus for shape in Demand.of(enumerate(jobs, start=1)).mix.shapes] == [2]


def test_a_restart_that_knows_the_last_submissions_goes_on_with_the_same_mix():
    for count in (5, WINDOW - 1, WINDOW + RENEWED_EVERY - 1, 3 * WINDOW, 3 * WINDOW + 77):
        log = submitted(count)
        assert Demand.of(log[-RECENT:]) == Demand.of(log)


def test_the_engine_places_by_what_was_submitted_and_goes_on_after_a_restart():
    cluster = Cluster()
    cluster.join(facts("n0", model="NVIDIA A100"), facts("n1", model="NVIDIA L4"))
    jobs = [spec(1, gpu_model="A100"), spec(1)] * (RENEWED_EVERY // 2)
    anywhere = jobs[1]
    assert place(cluster.engine.state.snapshot, anywhere).nodes[0].node == "n0"
    ids = cluster.submit(*jobs)
    assert place(cluster.engine.state.snapshot, anywhere).nodes[0].node == "n1"
    state = cluster.engine.state
    restarted = ClusterState.of(
        state.partitions,
        nodes=state.nodes.values(),
        submitted=zip(ids, jobs, strict=True),
        next_job_id=state.next_job_id,
    )
    assert restarted.demand == state.demand
    assert place(restarted.snapshot, anywhere).nodes[0].node == "n1"
