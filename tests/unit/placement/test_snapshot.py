from __future__ import annotations

import dataclasses

import pytest
from fakes.clusters import A10, H100, columns_of, make_node, snapshot_of

from gpusched.domain.errors import ConfigInvalid, StalePlan
from gpusched.placement.placement import NodePlacement

PART = NodePlacement("n0", ("GPU-n0-0", "GPU-n0-2"), (0, 5), 1 << 30)


def test_nodes_stand_in_the_order_of_their_names():
    snapshot = snapshot_of(make_node("b"), make_node("a"), make_node("c"))
    assert snapshot.names == ("a", "b", "c")
    assert snapshot.index["b"] == 1


def test_take_moves_every_column():
    snapshot = snapshot_of(make_node("n0", H100, H100, A10), make_node("n1", H100))
    snapshot.take(PART)
    assert snapshot.gpus_free.tolist() == [1, 1]
    assert snapshot.gpus_free_by_class.tolist() == [[1, 1], [0, 0]]
    assert snapshot.cpus_free.tolist() == [14, 16]
    assert snapshot.cpu_bits_free[0] == 0xFFFF & ~0b100001
    assert snapshot.memory_free.tolist() == [63 << 30, 64 << 30]


def test_copy_is_not_changed_by_the_original():
    snapshot = snapshot_of(make_node("n0", H100, H100, H100))
    copied, before = snapshot.copy(), columns_of(snapshot)
    snapshot.take(PART)
    snapshot.generation = 7
    assert columns_of(copied) == before
    assert copied.generation == 1


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"node": "n9"}, "node n9 is gone"),
        ({"devices": ("GPU-n9-0",)}, "device GPU-n9-0 of node n0 is gone"),
        ({"devices": ("GPU-n0-1",)}, "device GPU-n0-1 of node n0 is not free"),
        ({"devices": ("GPU-n0-0", "GPU-n0-0")}, "named twice"),
        ({"cpu_ids": (3, 1)}, "CPU 1 of node n0 is not free"),
        ({"cpu_ids": (3, 99)}, "no CPU 99"),
        ({"cpu_ids": (3, 3)}, "named twice"),
        ({"memory_bytes": 64 << 30}, "memory free"),
    ],
)
def test_stale_take_names_what_is_wrong_and_takes_nothing(change, names):
    snapshot = snapshot_of(make_node("n0", H100, H100, H100))
    snapshot.take(NodePlacement("n0", ("GPU-n0-1",), (1,), 1 << 30))
    before = columns_of(snapshot)
    with pytest.raises(StalePlan, match=names):
        snapshot.take(dataclasses.replace(PART, **change))
    assert columns_of(snapshot) == before


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"devices": ("GPU-n0-0",)}, "device GPU-n0-0 of node n0 is free already"),
        ({"devices": (), "cpu_ids": (5,)}, "CPU 5 of node n0 is free already"),
        ({"devices": (), "cpu_ids": ()}, "never lent"),
    ],
)
def test_giving_back_what_nobody_holds_is_refused_and_changes_nothing(change, names):
    snapshot = snapshot_of(make_node("n0", H100, H100, H100))
    before = columns_of(snapshot)
    with pytest.raises(StalePlan, match=names):
        snapshot.give_back(dataclasses.replace(PART, **change))
    assert columns_of(snapshot) == before


def test_two_nodes_of_one_name_are_refused():
    with pytest.raises(ConfigInvalid, match="two nodes are named n0"):
        snapshot_of(make_node("n0"), make_node("n0"))


def test_two_devices_of_one_uuid_are_refused():
    node = make_node("n0", H100)
    twice = dataclasses.replace(node, facts=dataclasses.replace(node.facts, devices=node.facts.devices * 2))
    with pytest.raises(ConfigInvalid, match="two devices of one UUID"):
        snapshot_of(twice)


def test_nodes_wired_alike_share_one_shape():
    snapshot = snapshot_of(make_node("n0", H100, H100, island=2), make_node("n1", A10, A10, island=2))
    assert snapshot.inventory.shapes[0] is snapshot.inventory.shapes[1]
