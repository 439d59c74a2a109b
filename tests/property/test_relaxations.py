"""What is offered to a job that waits would start it, is the least that would, and is offered to no other."""

from __future__ import annotations

from dataclasses import fields, replace

from fakes.clusters import A100, H100, TWO_PARTITIONS, columns_of, make_node, occupy
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gpusched.domain.job_spec import JobSpec, Segment
from gpusched.domain.topology import NodePath, Topology, TopologyLevel
from gpusched.placement.gang import fits, place
from gpusched.placement.ladders import every_ladder
from gpusched.placement.relax import PAIRS_OFFERED, find_relaxations
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.backfill import make_plan
from gpusched.policy.plan import QueueEntry, RunningEntry
from gpusched.policy.what_if import WhatIf

LEVELS = (TopologyLevel("spine"), TopologyLevel("leaf"))
NAMES = {
    "tmp": "disk_bytes",
    "gpu_fraction": "gpu_milli",
    "mem": "memory_bytes",
    "gpu_mem": "gpu_memory_bytes",
    "time_limit": "time_limit_s",
}
SECOND_US = 1_000_000
EXAMPLES = settings(max_examples=200, deadline=None)


GIB = 1 << 30


@st.composite
def wishes(draw, nodes):
    """A request about as large as what is free, with wishes."""
    is_shared = draw(st.integers(0, 5)) == 0
    tasks = 1 if is_shared else draw(st.sampled_from([1, 1, 2]))
    required = draw(st.sampled_from([None, None, "spine", "leaf"]))
    count = draw(st.integers(1, nodes))
    has_segment = required != "leaf" and count % 2 == 0 and draw(st.booleans())
    names = st.lists(st.sampled_from([f"n{number}" for number in range(6)]), max_size=3).map(tuple)
    return JobSpec(
        name="job",
        command=("true",),
        nodes=count,
        tasks_per_node=tasks,
        gpus_per_node=1 if is_shared else draw(st.integers(1, 4 // tasks)) * tasks,
        cpus_per_task=draw(st.sampled_from([1, 1, 2, 4])),
        memory_bytes=draw(st.sampled_from([0, 0, 2 * GIB, 5 * GIB])),
        gpu_model=draw(st.sampled_from([None, None, "H100"])),
        gpu_memory_bytes=draw(st.sampled_from([None, None, 80 * GIB])),
        partition=draw(st.sampled_from([None, None, "odd"])),
        exclude=draw(st.one_of(st.just(()), names)),
        gpu_milli=draw(st.sampled_from([300, 800])) if is_shared else 1000,
        disk_bytes=draw(st.sampled_from([0, 0, 0, 4 * GIB])),
        gres=draw(st.sampled_from([(), (), (), (("fpga", 2),)])),
        licenses=draw(st.sampled_from([(), (), (), (("matlab", 2), ("vcs", 1))])),
        topology_required=required,
        segment=Segment(2 * tasks, draw(st.sampled_from(["spine", "leaf"]))) if has_segment else None,
    )


@st.composite
def waiting(draw):
    """A crowded cluster on a small tree, and a request that mostly does not fit on it now."""
    models = st.sampled_from([[H100] * 4, [H100] * 4, [A100] * 4, [H100] * 2])
    nodes = [
        make_node(
            f"n{number}",
            *draw(models),
            cpus=8,
            memory_bytes=6 * GIB,
            shareable=draw(st.sampled_from([0, 2])),
            disk_bytes=3 * GIB,
            gres=(("fpga", draw(st.integers(0, 2))),),
        )
        for number in range(draw(st.integers(2, 6)))
    ]
    leaves = st.sampled_from([("a", "x"), ("a", "y"), ("b", "z")])
    places = tuple(NodePath(node.name, draw(leaves)) for node in nodes)
    licenses = (("matlab", draw(st.integers(1, 3))), ("vcs", 1))
    snapshot = ClusterSnapshot.of(nodes, TWO_PARTITIONS, 1, Topology(LEVELS, places), licenses=licenses)
    plain = st.builds(
        JobSpec,
        name=st.just("held"),
        gpus_per_node=st.integers(1, 3),
        cpus_per_task=st.integers(1, 4),
        memory_bytes=st.integers(0, 3).map(lambda size: size * GIB),
        licenses=st.sampled_from([(), (("matlab", 1),)]),
    )
    part = st.builds(
        JobSpec, name=st.just("part"), gpus_per_node=st.just(1), gpu_milli=st.sampled_from([400, 600])
    )
    occupy(snapshot, draw(st.lists(plain | part, max_size=6)), place)
    return snapshot, draw(wishes(len(nodes)))


def changed_fields(before, after):
    return {f.name for f in fields(JobSpec) if getattr(before, f.name) != getattr(after, f.name)}


@given(waiting())
@EXAMPLES
def test_every_relaxation_offered_fits_and_changes_only_what_it_says(situation):
    snapshot, spec = situation
    before = columns_of(snapshot)
    offered = find_relaxations(snapshot, spec, partitions=TWO_PARTITIONS)
    event(f"{len(offered)} offered")
    assert columns_of(snapshot) == before
    if fits(snapshot, spec):
        assert offered == ()
    for relaxed in offered:
        assert fits(snapshot, relaxed.spec)
        place(snapshot, relaxed.spec)
        named = {NAMES.get(change.field, change.field) for change in relaxed.relaxation.changes}
        assert changed_fields(spec, relaxed.spec) <= named


@given(waiting())
@EXAMPLES
def test_in_each_field_the_nearest_that_fits_is_offered_if_any_does(situation):
    snapshot, spec = situation
    offered = {relaxed.spec for relaxed in find_relaxations(snapshot, spec)}
    if fits(snapshot, spec):
        return
    nearest = set()
    for make in every_ladder(snapshot, None):
        ladder = make(snapshot, spec)
        rungs = [ladder.rung(at).spec for at in range(ladder.size)]
        nearest |= {next((rung for rung in rungs if fits(snapshot, rung)), spec)} - {spec}
    event("single" if nearest else "pairs or none")
    assert offered == nearest if nearest else len(offered) <= PAIRS_OFFERED


@given(waiting())
@EXAMPLES
def test_of_a_pair_neither_half_can_be_spared_or_made_less(situation):
    snapshot, spec = situation
    makers = every_ladder(snapshot, None)
    alone = {
        each.rung(at).spec for make in makers if (each := make(snapshot, spec)) for at in range(each.size)
    }
    for relaxed in find_relaxations(snapshot, spec):
        changed = changed_fields(spec, relaxed.spec)
        if len(changed) != 2 or relaxed.spec in alone:
            continue
        for name in changed:
            half = replace(relaxed.spec, **{name: getattr(spec, name)})
            assert not fits(snapshot, half)
            for make in makers:
                ladder = make(snapshot, half)
                milder = [ladder.rung(at).spec for at in range(ladder.size)]
                if relaxed.spec in milder:
                    assert not any(fits(snapshot, rung) for rung in milder[: milder.index(relaxed.spec)])


def test_many_steps_are_found_by_bisection_and_the_nearest_is_exact():
    snapshot = ClusterSnapshot.of(
        [make_node(f"n{number:03}", *[H100] * 8) for number in range(100)], TWO_PARTITIONS, 1
    )
    asked = JobSpec(name="job", command=("true",), nodes=300, gpus_per_node=8)
    (relaxed,) = find_relaxations(snapshot, asked)
    assert relaxed.relaxation.text == "100 nodes instead of 300"


def test_a_pair_is_offered_only_where_no_single_change_helps():
    snapshot = ClusterSnapshot.of(
        [make_node(f"n{number}", *[A100] * 4) for number in range(2)], TWO_PARTITIONS, 1
    )
    asked = JobSpec(name="job", command=("true",), nodes=4, gpus_per_node=8)
    (relaxed,) = find_relaxations(snapshot, asked)
    assert relaxed.relaxation.text == "2 nodes instead of 4 and 4 GPUs per node instead of 8"


@st.composite
def behind_a_head(draw):
    """A crowded cluster, a head that waits, and a job behind it that waits too."""
    count = draw(st.integers(2, 4))
    snapshot = ClusterSnapshot.of(
        [make_node(f"n{i}", *[H100] * 4, cpus=8) for i in range(count)], TWO_PARTITIONS, 1
    )
    running = []
    sizes = st.builds(
        JobSpec,
        name=st.just("job"),
        command=st.just(("true",)),
        nodes=st.integers(1, count),
        gpus_per_node=st.integers(1, 4),
        time_limit_s=st.sampled_from([None, 5, 20, 50]),
    )
    for number, spec in enumerate(draw(st.lists(sizes, min_size=1, max_size=5))):
        if fits(snapshot, spec):
            placement = place(snapshot, spec)
            for part in placement.nodes:
                snapshot.take(part)
            limit = spec.time_limit_s
            running.append(RunningEntry(100 + number, placement.nodes, limit and limit * SECOND_US))
    return snapshot, running, QueueEntry(1, draw(sizes)), QueueEntry(2, draw(sizes))


@given(behind_a_head())
@EXAMPLES
def test_what_is_offered_behind_the_head_starts_and_never_delays_it(situation):
    snapshot, running, head, job = situation
    before = make_plan(snapshot, [head, job], running, 0, depth_max=9)
    if any(start.job_id == head.job_id for start in before.starts):
        return
    what_if = WhatIf(snapshot, TWO_PARTITIONS, running, 0, head)
    offered = what_if.relaxations(job.job_id, job.spec)
    if any(start.job_id == job.job_id for start in before.starts):
        assert offered == ()
    event(f"{len(offered)} offered")
    for relaxed in offered:
        plan = make_plan(snapshot, [head, QueueEntry(2, relaxed.spec)], running, 0, depth_max=9)
        assert [start.job_id for start in plan.starts] == [2]
        assert plan.forecasts == before.forecasts


def test_a_job_that_would_outlast_the_head_is_offered_the_time_that_is_left():
    snapshot = ClusterSnapshot.of([make_node(f"n{i}", *[H100] * 4) for i in range(2)], TWO_PARTITIONS, 1)
    long = JobSpec(name="long", command=("true",), gpus_per_node=4)
    part = place(snapshot, long)
    for held in part.nodes:
        snapshot.take(held)
    running = [RunningEntry(9, part.nodes, 7200 * SECOND_US)]
    head = QueueEntry(1, JobSpec(name="head", command=("true",), nodes=2, gpus_per_node=4))
    offered = WhatIf(snapshot, TWO_PARTITIONS, running, 0, head).relaxations(
        2, replace(long, time_limit_s=9000)
    )
    assert [relaxed.relaxation.text for relaxed in offered] == [
        "time_limit ≤ 2h, so that it ends before the head starts (backfill)"
    ]
