"""Segments inside a node are kept, and refused only where no choice of devices keeps them."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from fakes.clusters import H100, make_node, take_all
from hypothesis import event, given, settings
from hypothesis import strategies as st

from gpusched.domain.errors import InfeasibleRequest
from gpusched.domain.inside import InsideLevel, Wire, groups_of
from gpusched.domain.job_spec import JobSpec, Segment
from gpusched.domain.node import PciAncestor
from gpusched.domain.partition import Partitions
from gpusched.domain.topology import NodePath, Topology, TopologyLevel
from gpusched.placement.diagnose import check_feasible, diagnose
from gpusched.placement.fit import constraint_masks, fit_empty, fit_now
from gpusched.placement.gang import fits, place
from gpusched.placement.request import node_request
from gpusched.placement.snapshot import ClusterSnapshot

LEVELS = (InsideLevel.NVLINK, InsideLevel.NUMA)


@st.composite
def situations(draw):
    """Some nodes of eight GPUs in islands and sockets, some GPUs taken, and a gang with segments."""
    nodes = [
        make_node(
            f"n{number}",
            *[H100] * draw(st.sampled_from([8, 8, 6])),
            island=draw(st.sampled_from([2, 3, 4, 8])),
            numa_nodes=draw(st.sampled_from([1, 2])),
        )
        for number in range(draw(st.integers(1, 3)))
    ]
    snapshot = ClusterSnapshot.of(nodes, Partitions(), 1)
    for node in nodes:
        for column in draw(st.sets(st.integers(0, 5), max_size=4)):
            snapshot.milli_free[snapshot.index[node.name], column] = 0
    for row in range(len(nodes)):
        free = int((snapshot.milli_free[row] > 0).sum())
        snapshot.gpus_free[row] = snapshot.gpus_free_by_class[0, row] = free
    snapshot.stamp(np.arange(len(nodes)))
    size = draw(st.sampled_from([2, 2, 3, 4]))
    gpus = size * draw(st.integers(1, 8 // size))
    spec = JobSpec(
        name="job",
        nodes=draw(st.integers(1, 2)),
        gpus_per_node=gpus,
        tasks_per_node=gpus,
        segment=Segment(size, draw(st.sampled_from(LEVELS))),
    )
    return snapshot, spec


def can_keep(groups, free, count, size):
    """Whether so many of the free devices can be cut into segments, each in one group: by trying."""
    if count == 0:
        return True
    return any(
        can_keep(groups, free - set(chosen), count - size, size)
        for group in groups
        for chosen in combinations(sorted(set(group) & free), size)
    )


def groups_in(snapshot, row, level):
    return snapshot.inventory.shapes[row].groups[InsideLevel(level)]


@given(situations())
@settings(max_examples=200, deadline=None)
def test_a_node_fits_exactly_where_some_choice_of_devices_keeps_every_segment(situation):
    snapshot, spec = situation
    mask = fit_now(snapshot, node_request(spec))
    for row in range(len(snapshot.names)):
        free = set(np.flatnonzero(snapshot.milli_free[row] > 0).tolist())
        groups = groups_in(snapshot, row, spec.segment.level)
        assert mask[row] == can_keep(groups, free, spec.gpus_per_node, spec.segment.size)
    request = node_request(spec)
    assert (mask <= fit_empty(snapshot.inventory, request)).all()
    assert (np.logical_and.reduce(list(constraint_masks(snapshot, request).values())) == mask).all()


@given(situations())
@settings(max_examples=200, deadline=None)
def test_every_segment_of_a_placement_is_in_one_island(situation):
    snapshot, spec = situation
    event(f"fits {fits(snapshot, spec)}")
    if not fits(snapshot, spec):
        return
    placement = place(snapshot, spec)
    for part in placement.nodes:
        row = snapshot.index[part.node]
        columns = [snapshot.inventory.uuids[row].index(uuid) for uuid in part.devices]
        assert len(set(columns)) == spec.gpus_per_node
        group_of = {
            c: g for g, group in enumerate(groups_in(snapshot, row, spec.segment.level)) for c in group
        }
        for first in range(0, len(columns), spec.segment.size):
            assert len({group_of[c] for c in columns[first : first + spec.segment.size]}) == 1
    take_all(snapshot, placement)


@given(
    st.integers(1, 7),
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 2)), max_size=12),
    st.lists(st.sampled_from([None, 0, 1]), min_size=7, max_size=7),
)
def test_groups_share_what_they_say_and_unknown_is_shared_with_nobody(size, links, numa):
    numa = numa[:size]
    wires = [Wire(a, b, n, PciAncestor.SYSTEM) for a, b, n in links if a < size and b < size]
    for level in InsideLevel:
        groups = groups_of(level, numa, wires)
        assert sorted(c for group in groups for c in group) == list(range(size))
        assert [group[0] for group in groups] == sorted(group[0] for group in groups)
    island_of = {c: group for group in groups_of(InsideLevel.NVLINK, numa, wires) for c in group}
    for wire in wires:
        if wire.nvlinks:
            assert island_of[wire.source] is island_of[wire.target]
    for group in groups_of(InsideLevel.NUMA, numa, wires):
        assert len({numa[c] for c in group}) == 1
        assert len(group) == 1 or numa[group[0]] is not None
    assert all(len(group) == 1 for group in groups_of(InsideLevel.PCIE, numa, wires))


def snapshot_with(topology=None, **wiring):
    return ClusterSnapshot.of([make_node("n0", *[H100] * 8, **wiring)], Partitions(), 1, topology)


def asking(size, level="nvlink", **changes):
    return JobSpec(name="job", gpus_per_node=8, tasks_per_node=8, segment=Segment(size, level), **changes)


def test_segments_larger_than_any_island_are_refused_for_ever():
    with pytest.raises(InfeasibleRequest, match=r"the largest nvlink of a node .* has 4 GPUs"):
        check_feasible(snapshot_with(island=4), asking(8))


def test_segments_inside_a_node_that_hold_more_ranks_than_one_has_are_refused():
    snapshot = ClusterSnapshot.of(
        [make_node(f"n{i}", *[H100] * 8, island=8) for i in range(2)], Partitions(), 1
    )
    with pytest.raises(InfeasibleRequest, match="more ranks than a node of it has"):
        check_feasible(snapshot, asking(16, nodes=2))


def test_a_level_that_is_neither_of_the_fabric_nor_inside_a_node_is_refused():
    with pytest.raises(InfeasibleRequest, match="level nvlnk"):
        check_feasible(snapshot_with(island=8), asking(4, "nvlnk"))


def test_a_fabric_level_of_that_name_goes_before():
    fabric = Topology((TopologyLevel("nvlink"),), (NodePath("n0", ("d0",)),))
    assert fits(snapshot_with(fabric, island=2), asking(8))
    assert not fits(snapshot_with(island=2), asking(8))


def test_free_gpus_that_are_not_together_are_named_as_the_reason():
    snapshot = snapshot_with(island=4)
    for column in (0, 4):
        uuid = snapshot.inventory.uuids[0][column]
        part = place(snapshot, JobSpec(name="x", gpus_per_node=1)).nodes[0]
        snapshot.take(part.__class__("n0", (uuid,), part.cpu_ids, 0))
    wants = JobSpec(name="job", gpus_per_node=4, tasks_per_node=4, segment=Segment(4, "nvlink"))
    assert "too few free together for segments of 4 GPUs in one nvlink" in diagnose(snapshot, wants).message
