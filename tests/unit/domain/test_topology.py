from __future__ import annotations

import math

import pytest

from gpusched.domain.errors import ConfigInvalid
from gpusched.domain.topology import (
    NodePath,
    Topology,
    TopologyDomain,
    TopologyLevel,
    build_topology,
    topology_by_labels,
)

SPINE, LEAF = TopologyLevel("spine", 400_000.0), TopologyLevel("leaf")
LEVELS = (SPINE, LEAF)


def test_nodes_get_the_path_from_the_widest_domain_down():
    domains = [
        TopologyDomain("l1", "leaf", "s1", ("n2", "n1")),
        TopologyDomain("s1", "spine"),
        TopologyDomain("l2", "leaf", "s1", ("n3",)),
    ]
    found = build_topology(LEVELS, domains)
    assert found.nodes == (
        NodePath("n1", ("s1", "l1")),
        NodePath("n2", ("s1", "l1")),
        NodePath("n3", ("s1", "l2")),
    )
    assert found.level_names == ("spine", "leaf")


def test_a_domain_that_skips_levels_stands_for_itself_there():
    levels = (SPINE, LEAF, TopologyLevel("rack"))
    domains = [
        TopologyDomain("s1", "spine", nodes=("n1",)),
        TopologyDomain("r1", "rack", "s1", ("n2",)),
        TopologyDomain("r2", "rack", "s1", ("n3",)),
    ]
    assert [place.path for place in build_topology(levels, domains).nodes] == [
        ("s1", "s1", "s1"),
        ("s1", "r1", "r1"),
        ("s1", "r2", "r2"),
    ]


@pytest.mark.parametrize(
    ("domains", "words"),
    [
        ([TopologyDomain("a", "spine"), TopologyDomain("a", "leaf", "a")], "two domains are named a"),
        ([TopologyDomain("a", "rack")], "on level rack, which is none of spine, leaf"),
        ([TopologyDomain("a", "leaf", "b")], "inside b, which is not there"),
        ([TopologyDomain("a", "leaf", "a")], "a is inside itself"),
        ([TopologyDomain("a", "leaf", "b"), TopologyDomain("b", "leaf", "a")], "which is no wider"),
        ([TopologyDomain("a", "spine"), TopologyDomain("b", "leaf")], "b on level leaf is inside none"),
        (
            [TopologyDomain("a", "spine", nodes=("n1",)), TopologyDomain("b", "leaf", "a", ("n1",))],
            "node n1 is named twice",
        ),
        ([TopologyDomain("a", "spine", nodes=("n1", "n1"))], "node n1 is named twice"),
    ],
)
def test_what_is_no_tree_is_refused_by_name(domains, words):
    with pytest.raises(ConfigInvalid, match=words):
        build_topology(LEVELS, domains)


@pytest.mark.parametrize("speed", [math.nan, math.inf, 0.0, -1.0])
def test_a_bandwidth_that_is_no_positive_number_is_refused(speed):
    with pytest.raises(ConfigInvalid, match="level leaf has a bandwidth of"):
        build_topology((SPINE, TopologyLevel("leaf", speed)), [])


def test_two_levels_of_one_name_are_refused():
    with pytest.raises(ConfigInvalid, match="two levels are named leaf"):
        build_topology((LEAF, LEAF), [])


def test_labels_place_the_nodes_that_have_all_of_them():
    by_labels = topology_by_labels(LEVELS, ("zone", "rack"))
    placed = by_labels.place(
        {"n2": {"zone": "z1", "rack": "r1"}, "n1": {"zone": "z1"}, "n3": {"rack": "r", "zone": "z2"}}
    )
    assert placed.nodes == (NodePath("n2", ("z1", "r1")), NodePath("n3", ("z2", "r")))


def test_a_topology_without_labels_is_placed_already():
    known = Topology(LEVELS, (NodePath("n1", ("s", "l")),))
    assert known.place({"n1": {"rack": "r9"}}) is known


def test_labels_must_be_as_many_as_levels():
    with pytest.raises(ConfigInvalid, match="1 labels for 2 levels"):
        topology_by_labels(LEVELS, ("zone",))
