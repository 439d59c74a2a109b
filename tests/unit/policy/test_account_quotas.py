"""Quotas of accounts in the cycle: never passed, and nobody else waits for them."""

from __future__ import annotations

import pytest
from cluster import Cluster, facts, spec
from fakes.clusters import H100, make_node, snapshot_of
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusched.domain.errors import OverLimit
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import JobState, PendingReason
from gpusched.engine.core import EngineSettings
from gpusched.placement.placement import NodePlacement
from gpusched.policy.backfill import make_plan
from gpusched.policy.plan import Plan, QueueEntry, RunningEntry
from gpusched.policy.quota import Quotas

QUOTAS = Quotas({"a": 4, "b": 2})

SPECS = st.builds(
    lambda account, nodes, gpus, limit_s: JobSpec(
        name="j", account=account, nodes=nodes, gpus_per_node=gpus, time_limit_s=limit_s
    ),
    st.sampled_from("abc"),
    st.integers(1, 2),
    st.integers(0, 3),
    st.one_of(st.none(), st.integers(1, 100)),
)
QUEUES = st.lists(SPECS, max_size=14).map(
    lambda specs: [QueueEntry(number, each) for number, each in enumerate(specs, start=1)]
)


def plan_of(queue: list[QueueEntry], quotas: Quotas = QUOTAS, held: tuple[JobSpec, ...] = ()) -> Plan:
    snapshot = snapshot_of(*[make_node(f"n{number}", *[H100] * 3) for number in range(4)])
    return make_plan(snapshot, queue, (), 0, depth_max=100, gate=quotas.gate(held))


def started(plan: Plan) -> list[int]:
    return [start.job_id for start in plan.starts]


@settings(max_examples=150, deadline=None)
@given(QUEUES)
def test_no_plan_passes_a_quota(queue: list[QueueEntry]) -> None:
    starts = set(started(plan_of(queue)))
    for account, most in QUOTAS.gpus_max.items():
        held = (e.spec.gpu_count for e in queue if e.job_id in starts and e.spec.account == account)
        assert sum(held) <= most


@settings(max_examples=150, deadline=None)
@given(QUEUES)
def test_jobs_of_an_account_at_its_quota_change_nothing_for_the_others(queue: list[QueueEntry]) -> None:
    full = (JobSpec(name="held", account="a", gpus_per_node=4),)
    others = [e for e in queue if e.spec.account != "a" or e.spec.gpu_count == 0]
    plan, without = plan_of(queue, held=full), plan_of(others, held=full)
    assert plan.starts == without.starts
    assert plan.forecasts == without.forecasts
    kept_out = {e.job_id for e in queue} - {e.job_id for e in others}
    assert {plan.reasons[job_id] for job_id in kept_out} <= {PendingReason.QUOTA}


@settings(max_examples=150, deadline=None)
@given(QUEUES)
def test_quotas_that_are_never_reached_change_no_plan(queue: list[QueueEntry]) -> None:
    assert plan_of(queue, Quotas({"a": 1_000, "b": 1_000})) == plan_of(queue, Quotas())


@given(QUEUES)
def test_whom_a_quota_keeps_out_no_job_of_its_account_passes_in_turn(queue: list[QueueEntry]) -> None:
    gate, kept_out = QUOTAS.gate(()), set()
    for spec_ in [e.spec for e in queue if e.spec.gpu_count]:
        if not gate.lets(spec_):
            kept_out.add(spec_.account)
            continue
        assert spec_.account not in kept_out
        gate.charge(spec_)


@pytest.mark.parametrize(("quotas", "starts"), [(Quotas(), [2]), (QUOTAS, [])])
def test_the_head_keeps_its_part_of_its_account_s_quota(quotas: Quotas, starts: list[int]) -> None:
    # The head of account a waits for two whole nodes, its whole quota; a short job of a would fit meanwhile.
    snapshot = snapshot_of(make_node("n0", H100, H100), make_node("n1", H100, H100), make_node("n2", H100))
    part = NodePlacement("n0", ("GPU-n0-0",), (0,), 0)
    snapshot.take(part)
    queue = [
        QueueEntry(1, JobSpec(name="head", account="a", nodes=2, gpus_per_node=2)),
        QueueEntry(2, JobSpec(name="short", account="a", gpus_per_node=1, time_limit_s=1)),
    ]
    running = [RunningEntry(9, (part,), 50_000_000)]
    plan = make_plan(snapshot, queue, running, 0, depth_max=9, gate=quotas.gate(()))
    assert started(plan) == starts
    assert plan.reasons[1] is PendingReason.RESOURCES


def test_a_job_larger_than_its_account_s_quota_is_refused_with_the_bound() -> None:
    cluster = Cluster(EngineSettings(quotas=QUOTAS))
    cluster.join(facts("n1", gpus=8))
    with pytest.raises(OverLimit, match="wants 5 GPUs; account a may hold 4 at a time: ask for at most 4"):
        cluster.submit(spec(account="a", gpus_per_node=5))


def test_a_job_that_waits_for_its_quota_starts_when_its_account_gives_some_back() -> None:
    cluster = Cluster(EngineSettings(quotas=QUOTAS))
    cluster.join(facts("n1", gpus=8))
    first, second, other = cluster.submit(
        spec(account="a", gpus_per_node=3), spec(account="a", gpus_per_node=2), spec(gpus_per_node=5)
    )
    cluster.cycle()
    assert [cluster.job(job).state for job in (first, second, other)] == [
        JobState.CONFIGURING,
        JobState.PENDING,
        JobState.CONFIGURING,
    ]
    assert cluster.engine.outlook.reasons == {second: PendingReason.QUOTA}
    assert cluster.engine.state.gpus_held_by("a") == 3
    cluster.start_all(first)
    cluster.end_all(first)
    cluster.cycle()
    assert cluster.job(second).state is JobState.CONFIGURING
