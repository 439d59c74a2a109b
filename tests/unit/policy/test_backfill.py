from __future__ import annotations

from fakes.clusters import H100, make_node, snapshot_of

from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import PendingReason
from gpusched.placement.placement import NodePlacement
from gpusched.policy.backfill import make_plan
from gpusched.policy.memo import CycleMemo
from gpusched.policy.plan import QueueEntry, RunningEntry

SECOND_US = 1_000_000


def queue_of(*specs: dict[str, int]) -> list[QueueEntry]:
    return [QueueEntry(number, JobSpec(name=f"j{number}", **spec)) for number, spec in enumerate(specs, 1)]


def started(plan):
    return {start.job_id: tuple(part.node for part in start.placement.nodes) for start in plan.starts}


def hold(snapshot, name, gpus, ends_s):
    parts = NodePlacement(name, tuple(f"GPU-{name}-{column}" for column in range(gpus)), (0,), 0)
    snapshot.take(parts)
    return RunningEntry(
        900 + int.from_bytes(name.encode()), (parts,), None if ends_s is None else ends_s * SECOND_US
    )


def test_what_an_earlier_backfilled_job_took_elsewhere_is_not_promised_to_the_head_again():
    # At 50 s the head could use a, b and b2. Job 2 is moved off b, which the head needs, onto b2 and c;
    # only then is b the head's last choice, and job 3 must not have it.
    snapshot = snapshot_of(
        *[make_node(name, *[H100] * (3 if name == "c" else 4)) for name in ("a", "b", "b2", "c")]
    )
    running = [hold(snapshot, "a", 4, 50), hold(snapshot, "b", 1, 50), hold(snapshot, "b2", 1, 50)]
    queue = queue_of({"nodes": 2, "gpus_per_node": 4}, {"nodes": 2, "gpus_per_node": 3}, {"gpus_per_node": 3})
    plan = make_plan(snapshot, queue, running, 0, depth_max=9)
    assert started(plan) == {2: ("b2", "c")}
    assert plan.reasons == {1: PendingReason.RESOURCES, 3: PendingReason.PRIORITY}
    assert plan.forecasts == {1: 50 * SECOND_US}


def test_the_head_is_forecast_only_when_somebody_asks_and_then_as_the_cluster_was():
    snapshot, memo = snapshot_of(make_node("a", H100, H100)), CycleMemo()
    running = [hold(snapshot, "a", 2, 50)]
    plan = make_plan(snapshot, queue_of(*[{"gpus_per_node": 2}] * 2), running, 0, depth_max=9, memo=memo)
    assert memo.forecast.last_start_us == 0  # nothing behind the head has room
    snapshot.give_back(running.pop().nodes[0])
    make_plan(snapshot, queue_of({"gpus_per_node": 2}), running, 20 * SECOND_US, depth_max=9, memo=memo)
    assert plan.forecasts == {1: 50 * SECOND_US}
    assert plan.forecasts.get(2) is None


def test_requests_refused_before_cost_no_depth():
    snapshot = snapshot_of(make_node("a", H100, H100))
    running = [hold(snapshot, "a", 1, 50)]
    queue = queue_of(*[{"gpus_per_node": 2}] * 50, {"gpus_per_node": 1, "time_limit_s": 10})
    plan = make_plan(snapshot, queue, running, 0, depth_max=2)
    assert started(plan) == {51: ("a",)}


def test_jobs_past_the_depth_are_neither_started_nor_given_a_reason():
    snapshot = snapshot_of(make_node("a", H100, H100))
    plan = make_plan(snapshot, queue_of({"gpus_per_node": 1}, {"gpus_per_node": 1}), [], 0, depth_max=1)
    assert started(plan) == {1: ("a",)}
    assert plan.reasons == {}


def test_ten_thousand_startable_jobs_do_not_exhaust_the_stack():
    snapshot = snapshot_of(make_node("a", cpus=10_000))
    plan = make_plan(snapshot, queue_of(*[{}] * 10_000), [], 0, depth_max=20_000)
    assert len(plan.starts) == 10_000


def test_plan_carries_the_generation_it_was_made_on():
    snapshot = snapshot_of(make_node("a"))
    snapshot.generation = 42
    assert make_plan(snapshot, [], [], 0, depth_max=1).generation == 42
