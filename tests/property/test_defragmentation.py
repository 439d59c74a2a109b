"""A defragmentation plan moves only what may move, works when it is carried out, and moves the fewest."""

from __future__ import annotations

from itertools import combinations

import pytest
from fakes.clusters import H100, columns_of, make_node, take_all
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gpusched.domain.job_spec import JobSpec
from gpusched.domain.partition import Partitions
from gpusched.domain.topology import NodePath, Topology, TopologyLevel
from gpusched.placement import defrag
from gpusched.placement.defrag import Movable, plan_defragmentation
from gpusched.placement.gang import fits, place
from gpusched.placement.snapshot import ClusterSnapshot

EXAMPLES = settings(max_examples=150, deadline=None)


@st.composite
def crowded(draw, *, topology=True):
    """Two to five nodes of four GPUs, small jobs all over them, and a gang of nearly whole nodes."""
    count = draw(st.integers(2, 5))
    nodes = [make_node(f"n{number}", *[H100] * 4) for number in range(count)]
    places = tuple(NodePath(node.name, (f"l{number % 2}",)) for number, node in enumerate(nodes))
    fabric = Topology((TopologyLevel("leaf"),), places)
    snapshot = ClusterSnapshot.of(nodes, Partitions(), 1, fabric)
    running, fixed = [], []
    for number in range(draw(st.integers(count, 2 * count - 1))):
        # Spread on purpose: fragmentation is what a plan is against.
        where = nodes[number % count].name
        spec = JobSpec(name="small", gpus_per_node=draw(st.sampled_from([1, 1, 2, 3])), nodelist=(where,))
        if not fits(snapshot, spec):
            continue
        placement = place(snapshot, spec)
        take_all(snapshot, placement)
        free_spec = JobSpec(name="small", gpus_per_node=spec.gpus_per_node)
        lost = draw(st.one_of(st.none(), st.integers(0, 99).map(float)))
        job = Movable(number, free_spec, placement.nodes, lost)
        (fixed if draw(st.integers(0, 5)) == 0 else running).append(job)
    required = draw(st.sampled_from([None, None, "leaf"])) if topology else None
    gang = JobSpec(
        name="gang",
        nodes=draw(st.integers(1, max(1, count - 2))),
        gpus_per_node=draw(st.sampled_from([2, 3, 4, 4])),
        topology_required=required,
    )
    return snapshot, gang, running


def replayed(snapshot, plan, gang):
    """Carry a plan out: end the jobs, place the gang as planned, then the jobs as planned."""
    after = snapshot.copy()
    for move in plan.moves:
        for part in move.job.parts:
            after.give_back(part)
    take_all(after, plan.gang)
    assert len(plan.gang.nodes) == gang.nodes
    assert all(len(part.devices) == gang.gpus_per_node for part in plan.gang.nodes)
    for move in plan.moves:
        assert len(move.to.nodes) == move.job.spec.nodes
        take_all(after, move.to)


@given(crowded())
@EXAMPLES
def test_a_plan_works_when_it_is_carried_out_and_moves_only_what_may_move(situation):
    snapshot, gang, movable = situation
    before = columns_of(snapshot)
    plan = plan_defragmentation(snapshot, gang, movable)
    assert columns_of(snapshot) == before
    event("none" if plan is None else f"{len(plan.moves)} moves")
    if plan is None:
        return
    assert {move.job.job_id for move in plan.moves} <= {job.job_id for job in movable}
    assert fits(snapshot, gang) == (plan.moves == ())
    replayed(snapshot, plan, gang)


def room(free, wanted):
    """Whether jobs of so many GPUs on one node each fit: every way of sharing them out."""
    if not wanted:
        return True
    return any(
        room([*free[:at], gpus - wanted[0], *free[at + 1 :]], wanted[1:])
        for at, gpus in enumerate(free)
        if gpus >= wanted[0]
    )


def fewest_by_brute_force(snapshot, gang, movable):
    """Every set of jobs, every choice of nodes for the gang, every way to place the jobs beside it."""
    row = snapshot.index
    for size in range(len(movable) + 1):
        for moving in combinations(movable, size):
            free = snapshot.gpus_free.tolist()
            for job in moving:
                free[row[job.parts[0].node]] += job.spec.gpus_per_node
            for chosen in combinations(range(len(free)), gang.nodes):
                left = [gpus - gang.gpus_per_node * (at in chosen) for at, gpus in enumerate(free)]
                if min(left) >= 0 and room(left, [job.spec.gpus_per_node for job in moving]):
                    return size
    return None


@given(crowded(topology=False))
@EXAMPLES
def test_no_plan_moves_fewer_jobs_and_none_exists_where_none_is_found(situation):
    snapshot, gang, movable = situation
    plan = plan_defragmentation(snapshot, gang, movable)
    fewest = fewest_by_brute_force(snapshot, gang, movable)
    event(f"fewest {fewest}")
    assert (None if plan is None else len(plan.moves)) == fewest
    assert plan is None or plan.is_fewest


@given(situation=crowded())
@EXAMPLES
def test_beyond_the_bound_a_plan_still_works_and_no_job_of_it_can_stay(situation):
    snapshot, gang, movable = situation
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(defrag, "SETS_MAX", 0)
        plan = plan_defragmentation(snapshot, gang, movable)
    if plan is None or not plan.moves:
        return
    assert not plan.is_fewest
    replayed(snapshot, plan, gang)
    for staying in plan.moves:
        after = snapshot.copy()
        for move in plan.moves:
            if move is not staying:
                for part in move.job.parts:
                    after.give_back(part)
        assert not fits(after, gang)


def test_of_equally_many_the_jobs_that_lose_least_move_and_unknown_loss_is_the_worst():
    nodes = [make_node(f"n{number}", *[H100] * 4) for number in range(4)]
    snapshot = ClusterSnapshot.of(nodes, Partitions(), 1)
    jobs = []
    for number, lost in enumerate((5.0, None, 3.0, 9.0)):
        spec = JobSpec(name="j", gpus_per_node=2, nodelist=(f"n{number}",))
        placement = place(snapshot, spec)
        take_all(snapshot, placement)
        jobs.append(Movable(number, JobSpec(name="j", gpus_per_node=2), placement.nodes, lost))
    plan = plan_defragmentation(snapshot, JobSpec(name="g", nodes=2, gpus_per_node=4), jobs)
    assert plan is not None
    assert [move.job.job_id for move in plan.moves] == [0, 2]
