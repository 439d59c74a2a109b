"""Gangs of unlike components: all or nothing, found whenever they can be, and never in the head's way."""

from __future__ import annotations

from itertools import combinations

import pytest
from fakes.clusters import A100, H100, TWO_PARTITIONS, columns_of, make_node, occupy, take_all
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gpusched.domain.allocation import Allocation, GrantedDevice, NodeAllocation
from gpusched.domain.check_spec import check_spec
from gpusched.domain.errors import InfeasibleRequest, InsufficientResources
from gpusched.domain.identity import Identity
from gpusched.domain.job_spec import Component, JobSpec, Segment
from gpusched.domain.topology import NodePath, Topology, TopologyLevel
from gpusched.launch.plan import make_launch_plan
from gpusched.placement.diagnose import check_feasible, diagnose
from gpusched.placement.fit import fit_now
from gpusched.placement.gang import could_fit, fits, place
from gpusched.placement.request import node_request
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.backfill import make_plan
from gpusched.policy.plan import QueueEntry, RunningEntry

EXAMPLES = settings(max_examples=150, deadline=None)
SECOND_US = 1_000_000


def mixed(*components, **changes):
    total = sum(component.nodes for component in components)
    return JobSpec(name="mixed", command=("true",), nodes=total, components=components, **changes)


@st.composite
def components(draw):
    parts = st.builds(
        Component,
        name=st.just("c"),
        nodes=st.integers(1, 2),
        gpus_per_node=st.integers(0, 4),
        cpus_per_task=st.sampled_from([1, 4, 8]),
        gpu_model=st.sampled_from([None, None, "H100", "A100"]),
    )
    drawn = draw(st.lists(parts, min_size=1, max_size=3))
    return tuple(
        Component(
            name=f"c{number}",
            nodes=part.nodes,
            gpus_per_node=part.gpus_per_node,
            cpus_per_task=part.cpus_per_task,
            gpu_model=part.gpu_model if part.gpus_per_node else None,
        )
        for number, part in enumerate(drawn)
    )


@st.composite
def situations(draw):
    models = st.sampled_from([[H100] * 4, [H100] * 2, [A100] * 4, []])
    nodes = [make_node(f"n{i}", *draw(models), cpus=8) for i in range(draw(st.integers(2, 6)))]
    places = tuple(NodePath(node.name, (draw(st.sampled_from("xyz")),)) for node in nodes)
    fabric = Topology((TopologyLevel("leaf"),), places)
    snapshot = ClusterSnapshot.of(nodes, TWO_PARTITIONS, 1, fabric)
    plain = st.builds(
        JobSpec, name=st.just("x"), gpus_per_node=st.integers(0, 3), cpus_per_task=st.integers(1, 4)
    )
    occupy(snapshot, draw(st.lists(plain, max_size=4)), place)
    wish = draw(st.sampled_from([{}, {}, {"topology_required": "leaf"}, {"topology_preferred": "leaf"}]))
    return snapshot, mixed(*draw(components()), **wish), {place.node: place.path for place in places}


def exists(snapshot, spec, path_of):
    """Brute force: every choice of nodes for the first component, then for the next among the rest."""
    masks = [set(fit_now(snapshot, node_request(part)).nonzero()[0].tolist()) for part in spec.parts]

    def can_place(number, allowed):
        if number == len(masks):
            return True
        wanted = spec.components[number].nodes
        return any(
            can_place(number + 1, allowed - set(rows))
            for rows in combinations(sorted(masks[number] & allowed), wanted)
        )

    everywhere = set(range(len(snapshot.names)))
    if spec.topology_required is None:
        return can_place(0, everywhere)
    leaves = {path_of[name] for name in snapshot.names}
    return any(
        can_place(0, {row for row in everywhere if path_of[snapshot.names[row]] == leaf}) for leaf in leaves
    )


@given(situations())
@EXAMPLES
def test_a_mixed_gang_fits_exactly_where_some_choice_of_nodes_does_and_is_placed_whole(situation):
    snapshot, spec, path_of = situation
    assert check_spec(spec, None) == ()
    before = columns_of(snapshot)
    found = fits(snapshot, spec)
    event(f"fits {found}")
    assert found == exists(snapshot, spec, path_of)
    assert not found or could_fit(snapshot, spec)
    if not found:
        with pytest.raises((InfeasibleRequest, InsufficientResources)):
            place(snapshot, spec)
        assert diagnose(snapshot, spec).reason is not None
        return
    placement = place(snapshot, spec)
    assert columns_of(snapshot) == before
    assert diagnose(snapshot, spec).reason is None
    names = [part.node for part in placement.nodes]
    assert len(set(names)) == len(names) == spec.nodes
    if spec.topology_required:
        assert len({path_of[name] for name in names}) == 1
    for part, wanted in zip(placement.nodes, spec.parts_by_node, strict=True):
        assert (len(part.devices), len(part.cpu_ids)) == (wanted.gpus_per_node, wanted.cpus_per_node)
        assert fit_now(snapshot, node_request(wanted))[snapshot.index[part.node]]
    take_all(snapshot, placement)


@given(situations(), st.sampled_from([None, 5, 50]), st.booleans())
@EXAMPLES
def test_beside_mixed_gangs_backfill_never_moves_the_heads_start(situation, limit, is_head_mixed):
    snapshot, spec, _ = situation
    whole = JobSpec(name="r", nodes=1, gpus_per_node=2, time_limit_s=20)
    running = []
    while fits(snapshot, whole) and len(running) < 3:
        placement = place(snapshot, whole)
        take_all(snapshot, placement)
        running.append(RunningEntry(100 + len(running), placement.nodes, 20 * SECOND_US))
    plain = JobSpec(name="p", nodes=2, gpus_per_node=2, time_limit_s=limit)
    queue = [QueueEntry(1, spec if is_head_mixed else plain), QueueEntry(2, plain if is_head_mixed else spec)]
    alone = make_plan(snapshot, queue[:1], running, 0, depth_max=9)
    both = make_plan(snapshot, queue, running, 0, depth_max=9)
    assert both.forecasts == alone.forecasts or 1 not in alone.forecasts
    after = snapshot.copy()
    for start in both.starts:
        take_all(after, start.placement)
    if 1 in alone.forecasts and any(start.job_id == 2 for start in both.starts):
        for entry in running:
            for part in entry.nodes:
                after.give_back(part)
        started = next(start for start in both.starts if start.job_id == 2)
        ends_s = queue[1].spec.time_limit_s
        if ends_s is not None and ends_s * SECOND_US <= alone.forecasts[1]:
            for part in started.placement.nodes:
                after.give_back(part)
        assert fits(after, queue[0].spec)


TRAINERS = Component(name="trainers", nodes=2, gpus_per_node=4, tasks_per_node=2)
SERVER = Component(name="server", cpus_per_task=3, command=("serve",))


def launched(spec):
    nodes = tuple(
        NodeAllocation(
            node=f"n{i}",
            address=f"10.0.0.{i}",
            interface=None,
            devices=tuple(GrantedDevice(f"GPU-{i}-{j}", H100, False) for j in range(part.gpus_per_node)),
            cpu_ids=tuple(range(part.cpus_per_node)),
            cpus_pinnable=True,
            memory_bytes=0,
        )
        for i, part in enumerate(spec.parts_by_node)
    )
    allocation = Allocation(nodes=nodes, master_port=29500, granted_at_us=0)
    return make_launch_plan(7, 1, spec, Identity("ada", 1, 1), allocation, cluster="c")


def test_ranks_are_numbered_over_components_in_order_each_with_its_own_command_and_environment():
    plan = launched(mixed(TRAINERS, SERVER))
    tasks = [task for node in plan.nodes for task in node.tasks]
    assert [task.global_rank for task in tasks] == [0, 1, 2, 3, 4]
    assert [task.local_rank for task in tasks] == [0, 1, 0, 1, 0]
    assert [task.argv for task in tasks] == [("true",)] * 4 + [("serve",)]
    env = [dict(task.env) for task in tasks]
    assert {each["WORLD_SIZE"] for each in env} == {"5"} and {each["GROUP_WORLD_SIZE"] for each in env} == {
        "3"
    }
    assert [each["LOCAL_WORLD_SIZE"] for each in env] == ["2"] * 4 + ["1"]
    assert [each["GPUSCHED_COMPONENT"] for each in env] == ["trainers"] * 4 + ["server"]
    assert {each["SLURM_HET_SIZE"] for each in env} == {"2"}
    assert env[0]["SLURM_JOB_NODELIST_HET_GROUP_0"] == "n[0-1]"
    assert env[0]["SLURM_JOB_NODELIST_HET_GROUP_1"] == "n2"
    assert env[4]["SLURM_TASKS_PER_NODE"] == "2(x2),1" and env[4]["SLURM_NTASKS"] == "5"
    assert env[4]["SLURM_JOB_CPUS_PER_NODE"] == "2(x2),3" and env[4]["SLURM_CPUS_ON_NODE"] == "3"
    assert env[4]["OMP_NUM_THREADS"] == "3" and env[4]["CUDA_VISIBLE_DEVICES"] == ""


def test_every_rank_is_found_on_its_node():
    spec = mixed(TRAINERS, SERVER)
    assert [spec.node_of_rank(rank) for rank in range(5)] == [0, 0, 1, 1, 2]
    assert (spec.world_size, spec.gpu_count) == (5, 8)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (mixed(TRAINERS, SERVER, gpus_per_node=4), "gpus_per_node"),
        (mixed(TRAINERS, SERVER, segment=Segment(1, "leaf")), "segment"),
        (mixed(TRAINERS, TRAINERS), "components"),
        (mixed(*(Component(name=f"c{i}") for i in range(9))), "components"),
        (mixed(Component(name="a b")), "components[0].name"),
        (mixed(Component(name="a", gpus_per_node=3, tasks_per_node=2)), "components[0].gpus_per_node"),
        (mixed(Component(name="a", gpu_model="H100")), "components[0].gpu_model"),
        (JobSpec(name="x", command=("true",), nodes=2, components=(SERVER,)), "nodes"),
    ],
)
def test_what_is_wrong_with_components_is_said_by_field(spec, field):
    assert field in [violation.field for violation in check_spec(spec, None)]


def test_the_component_that_does_not_fit_is_named():
    snapshot = ClusterSnapshot.of([make_node("n0", *[H100] * 4), make_node("n1")], TWO_PARTITIONS, 1)
    with pytest.raises(InfeasibleRequest, match=r"^component trainers: "):
        check_feasible(snapshot, mixed(TRAINERS, SERVER))
    one = Component(name="trainer", gpus_per_node=4)
    take_all(snapshot, place(snapshot, JobSpec(name="x", gpus_per_node=1)))
    assert diagnose(snapshot, mixed(one, SERVER)).message.startswith(
        "component trainer needs 1 node; 0 could"
    )


def test_components_that_fit_alone_but_not_beside_each_other_are_refused_as_that():
    snapshot = ClusterSnapshot.of([make_node("n0", *[H100] * 4), make_node("n1")], TWO_PARTITIONS, 1)
    with pytest.raises(InfeasibleRequest, match="but not all beside each other"):
        check_feasible(
            snapshot, mixed(Component(name="a", gpus_per_node=2), Component(name="b", gpus_per_node=2))
        )
