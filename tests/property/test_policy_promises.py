"""What backfill promises, on random clusters and queues."""

from __future__ import annotations

from dataclasses import replace

from fakes.clusters import H100, SHARES, columns_of, give_all_back, make_node, snapshot_of, take_all
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import PendingReason
from gpusched.placement.fit import fit_empty
from gpusched.placement.gang import could_fit, fits, place
from gpusched.placement.request import node_request
from gpusched.policy.backfill import make_plan
from gpusched.policy.forecast import forecast_start
from gpusched.policy.plan import QueueEntry, RunningEntry

SECOND_US = 1_000_000
NOW_US = 100 * SECOND_US


@st.composite
def node_shares(draw, nodes):
    """A job that asks for up to all of a node's 4 GPUs and 8 CPUs, on some of the nodes.

    Some ask for a share of one GPU, some for what is counted: disk, a generic counter, licences.
    """
    gpus = draw(st.integers(0, 4))
    return JobSpec(
        name="job",
        nodes=draw(st.integers(1, nodes)),
        gpus_per_node=gpus,
        gpu_milli=draw(SHARES) if gpus == 1 else 1000,
        disk_bytes=draw(st.sampled_from([0, 0, 0, 3, 5])),
        gres=draw(st.sampled_from([(), (), (), (("fpga", 1),), (("fpga", 2),)])),
        licenses=draw(st.sampled_from([(), (), (), (("matlab", 2),), (("vcs", 1), ("matlab", 1))])),
        cpus_per_task=draw(st.integers(1, 8)),
        time_limit_s=draw(st.sampled_from([None, 5, 10, 20, 50])),
    )


@st.composite
def situations(draw, *, limited=False):
    """A crowded cluster of two to five nodes, some smaller, and a queue of jobs most of which could run."""
    count = draw(st.integers(2, 5))
    sizes = draw(st.lists(st.sampled_from([4, 4, 2, 0]), min_size=count, max_size=count))
    snapshot = snapshot_of(
        *[
            make_node(
                f"n{i}",
                *[H100] * gpus,
                cpus=8,
                shareable=draw(st.integers(0, 4)),
                disk_bytes=draw(st.sampled_from([5, 6, 10])),
                gres=(("fpga", draw(st.integers(1, 3))),),
            )
            for i, gpus in enumerate(sizes)
        ]
    )
    running = []
    for number, spec in enumerate(draw(st.lists(node_shares(2), min_size=1, max_size=8))):
        if not fits(snapshot, spec):
            continue
        placement = place(snapshot, spec)
        take_all(snapshot, placement)
        ends = st.integers(90, 140)
        ends_s = draw(ends if limited else st.one_of(ends, ends, st.none()))
        ends_by_us = None if ends_s is None else ends_s * SECOND_US
        running.append(RunningEntry(1000 + number, placement.nodes, ends_by_us, placement.licenses))
    queue = draw(st.lists(node_shares(count), min_size=1, max_size=8))
    return snapshot, [QueueEntry(number, spec) for number, spec in enumerate(queue, start=1)], running


def after(snapshot, running, plan, queue):
    """The cluster and what runs on it once the plan is carried out."""
    started, limits = snapshot.copy(), {entry.job_id: entry.spec.time_limit_s for entry in queue}
    entries = list(running)
    for start in plan.starts:
        take_all(started, start.placement)
        limit_s = limits[start.job_id]
        ends_by_us = None if limit_s is None else NOW_US + limit_s * SECOND_US
        held = start.placement
        entries.append(RunningEntry(start.job_id, held.nodes, ends_by_us, held.licenses))
    return started, entries


def head_of(plan, queue):
    return next((entry for entry in queue if plan.reasons.get(entry.job_id) is PendingReason.RESOURCES), None)


def before_the_head(plan, head):
    """The plan without backfill: what started ahead of the head."""
    return replace(plan, starts=tuple(start for start in plan.starts if start.job_id < head.job_id))


@given(situations())
@settings(max_examples=500, deadline=None)
def test_backfill_never_moves_the_forecast_start_of_the_head_later(situation):
    snapshot, queue, running = situation
    plan = make_plan(snapshot, queue, running, NOW_US, depth_max=100)
    head = head_of(plan, queue)
    if head is None or head.job_id not in plan.forecasts:
        return
    promised = forecast_start(*_seen_by_head(snapshot, running, plan, queue, head))
    kept_cluster, kept_running = after(snapshot, running, plan, queue)
    kept = forecast_start(kept_cluster, head.spec, kept_running, NOW_US)
    event(f"backfilled {any(start.job_id > head.job_id for start in plan.starts)}")
    assert promised is not None
    assert kept is not None
    assert plan.forecasts[head.job_id] == promised.start_us
    assert kept.start_us <= promised.start_us


def _seen_by_head(snapshot, running, plan, queue, head):
    cluster, entries = after(snapshot, running, before_the_head(plan, head), queue)
    return cluster, head.spec, entries, NOW_US


@given(situations())
@settings(max_examples=500, deadline=None)
def test_while_the_head_has_no_forecast_no_unlimited_job_joins_nodes_it_could_use(situation):
    snapshot, queue, running = situation
    plan = make_plan(snapshot, queue, running, NOW_US, depth_max=100)
    head = head_of(plan, queue)
    if head is None or head.job_id in plan.forecasts:
        return
    usable = fit_empty(snapshot.inventory, node_request(head.spec))
    specs_by_id = {entry.job_id: entry.spec for entry in queue}
    event("head without forecast")
    for start in plan.starts:
        if start.job_id > head.job_id and specs_by_id[start.job_id].time_limit_s is None:
            assert not any(usable[snapshot.index[part.node]] for part in start.placement.nodes)
            assert not dict(start.placement.licenses).keys() & dict(head.spec.licenses).keys()


@given(situations())
@settings(max_examples=300, deadline=None)
def test_every_start_is_whole_and_the_plan_can_be_carried_out(situation):
    snapshot, queue, running = situation
    before = columns_of(snapshot)
    plan = make_plan(snapshot, queue, running, NOW_US, depth_max=100)
    assert columns_of(snapshot) == before
    after(snapshot, running, plan, queue)  # raises StalePlan if two starts clash
    nodes = {entry.job_id: entry.spec.nodes for entry in queue}
    assert all(len(start.placement.nodes) == nodes[start.job_id] for start in plan.starts)
    assert {start.job_id for start in plan.starts} | set(plan.reasons) == set(nodes)
    assert not {start.job_id for start in plan.starts} & set(plan.reasons)


@given(situations())
@settings(max_examples=200, deadline=None)
def test_jobs_ahead_of_the_head_are_placed_as_if_each_came_alone(situation):
    snapshot, queue, running = situation
    plan = make_plan(snapshot, queue, running, NOW_US, depth_max=100)
    placements = {start.job_id: start.placement for start in plan.starts}
    now = snapshot.copy()
    for entry in queue:
        if plan.reasons.get(entry.job_id) is PendingReason.RESOURCES:
            break
        if plan.reasons.get(entry.job_id) is PendingReason.NODES_UNAVAILABLE:
            continue
        assert placements[entry.job_id] == place(now, entry.spec)
        take_all(now, placements[entry.job_id])


@given(situations(), node_shares(5))
@settings(max_examples=500, deadline=None)
def test_forecast_equals_playing_the_ends_forward_one_by_one(situation, spec):
    snapshot, _, running = situation
    found = forecast_start(snapshot, spec, running, NOW_US)
    later, expected = snapshot.copy(), NOW_US if fits(snapshot, spec) else None
    for entry in sorted((e for e in running if e.ends_by_us is not None), key=lambda e: e.ends_by_us):
        if expected is not None:
            break
        give_all_back(later, entry)
        if fits(later, spec):
            expected = max(NOW_US, entry.ends_by_us)
    assert (None if found is None else found.start_us) == expected
    if found is not None:
        assert fits(found.snapshot, spec)


@given(situations(), st.integers(0, 6))
@settings(max_examples=100, deadline=None)
def test_plan_is_the_same_for_the_same_inputs_and_no_deeper_than_asked(situation, depth):
    snapshot, queue, running = situation
    plan = make_plan(snapshot, queue, running, NOW_US, depth_max=depth)
    assert plan == make_plan(snapshot, queue, running, NOW_US, depth_max=depth)
    assert len(plan.starts) <= depth


@given(situations(limited=True))
@settings(max_examples=200, deadline=None)
def test_a_queue_of_feasible_jobs_always_empties_when_jobs_end_by_their_limits(situation):
    snapshot, queue, running = situation
    queue = [QueueEntry(e.job_id, replace(e.spec, time_limit_s=e.spec.time_limit_s or 30)) for e in queue]
    queue = [e for e in queue if could_fit(snapshot, e.spec)]
    now_us, promised = NOW_US, {}
    while queue:
        plan = make_plan(snapshot, queue, running, now_us, depth_max=100)
        for job_id, start_us in plan.forecasts.items():
            promised[job_id] = min(start_us, promised.get(job_id, start_us))
        for start in plan.starts:
            spec = next(entry.spec for entry in queue if entry.job_id == start.job_id)
            assert now_us <= promised.get(start.job_id, now_us)
            held, ends_by_us = start.placement, now_us + spec.time_limit_s * SECOND_US
            take_all(snapshot, held)
            running = [*running, RunningEntry(start.job_id, held.nodes, ends_by_us, held.licenses)]
        queue = [entry for entry in queue if entry.job_id not in {start.job_id for start in plan.starts}]
        if not queue:
            break
        assert running, "nothing runs, nothing starts, yet feasible jobs wait"
        now_us = max(now_us, min(entry.ends_by_us for entry in running))
        for entry in running:
            if entry.ends_by_us <= now_us:
                give_all_back(snapshot, entry)
        running = [entry for entry in running if entry.ends_by_us > now_us]
