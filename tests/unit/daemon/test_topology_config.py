from __future__ import annotations

import pytest

from gpusched.daemon.config import load_config
from gpusched.daemon.slurm_topology import read_slurm_topology
from gpusched.domain.errors import ConfigInvalid

CONF = """
SwitchName=leaf0 Nodes=n[0-1] LinkSpeed=100   # a comment
switchname=leaf1 nodes=n[2-3]
SwitchName=top \\
    Switches=leaf[0-1]
"""
YAML = """
- topology: flat
  flat: true
- topology: fabric
  cluster_default: true
  tree:
    switches:
      - switch: top
        children: leaf[0-1]
      - switch: leaf0
        nodes: n[0-1]
      - switch: leaf1
        nodes: n[2-3]
"""
PATHS = {"n0": ("top", "leaf0"), "n1": ("top", "leaf0"), "n2": ("top", "leaf1"), "n3": ("top", "leaf1")}


def read(tmp_path, text, name="topology.conf", **bandwidths):
    file = tmp_path / name
    file.write_text(text)
    return read_slurm_topology(file, bandwidths)


@pytest.mark.parametrize(("text", "name"), [(CONF, "topology.conf"), (YAML, "topology.yaml")])
def test_both_files_of_slurm_give_the_same_tree(tmp_path, text, name):
    found = read(tmp_path, text, name, spine=400_000.0)
    assert {place.node: place.path for place in found.nodes} == PATHS
    assert [(level.name, level.bandwidth_mb_s) for level in found.levels] == [
        ("spine", 400_000.0),
        ("leaf", None),
    ]


def test_blocks_are_one_level(tmp_path):
    found = read(tmp_path, "BlockName=b1 Nodes=n[1-2]\nBlockName=b2 Nodes=n3\nBlockSizes=2,4\n")
    assert found.level_names == ("block",)
    assert [place.path for place in found.nodes] == [("b1",), ("b1",), ("b2",)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("SwitchName=a Switches=b\nSwitchName=b Switches=a\n", ":1: switch a is under itself"),
        ("SwitchName=a Switches=b\n", ":1: switch b is described nowhere"),
        ("SwitchName=a Nodes=n1\nSwitchName=a Nodes=n2\n", ":2: two switches are named a"),
        ("SwitchName=a Nodes=n1\nSwitchName=b Nodes=n1\n", "node n1 is named twice"),
        (
            "SwitchName=a Switches=c\nSwitchName=b Switches=c\nSwitchName=c Nodes=n1\n",
            ":2: switch c is under a",
        ),
        ("SwitchName=a Nodes=n[3-1]\n", ":1: .*runs backwards"),
        ("SwitchName=a Nodes=n1 Colour=red\n", ":1: unknown key colour"),
        ("Nodes=n1\n", ":1: begins with none of"),
        ("\n\n", "names no switch and no block"),
        ("SwitchName=a Nodes=n1\nBlockName=b Nodes=n2\n", "both switches and blocks"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, text, words):
    with pytest.raises(ConfigInvalid, match=words):
        read(tmp_path, text)


@pytest.mark.parametrize(
    "text", ["]", "flat: true", "- topology: t\n  tree:\n    switches:\n      - nodes: n1\n"]
)
def test_a_wrong_yaml_file_is_refused(tmp_path, text):
    with pytest.raises(ConfigInvalid, match=r"topology\.yaml"):
        read(tmp_path, text, "topology.yaml")


def test_a_bandwidth_of_a_level_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigInvalid, match="no level rack: it has spine, leaf"):
        read(tmp_path, CONF, rack=1.0)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigInvalid, match="name a readable topology file"):
        read_slurm_topology(tmp_path / "nowhere.conf", {})


def config(tmp_path, text):
    file = tmp_path / "head.toml"
    file.write_text(text)
    return load_config(file).topology


def test_the_tree_can_be_written_in_the_configuration(tmp_path):
    found = config(
        tmp_path,
        """
        [[topology.level]]
        name = "spine"
        bandwidth_mb_s = 400000
        [[topology.level]]
        name = "leaf"
        [[topology.domain]]
        name = "s"
        level = "spine"
        [[topology.domain]]
        name = "l"
        level = "leaf"
        parent = "s"
        nodes = "n[1-2]"
        """,
    ).read()
    assert [place.path for place in found.nodes] == [("s", "l")] * 2
    assert found.levels[0].bandwidth_mb_s == 400_000.0


def test_labels_of_nodes_can_say_it(tmp_path):
    found = config(tmp_path, '[[topology.level]]\nname = "rack"\nlabel = "example.org/rack"\n').read()
    assert found.labels == ("example.org/rack",)


def test_nothing_said_is_no_topology(tmp_path):
    assert config(tmp_path, "").read().levels == ()


def test_two_ways_at_once_are_refused(tmp_path):
    both = 'topology.slurm = "t.conf"\n[[topology.domain]]\nname = "s"\nlevel = "spine"\n'
    with pytest.raises(ConfigInvalid, match="exclude each other"):
        config(tmp_path, both).read()


@pytest.mark.parametrize("speed", ["nan", "inf", "0", "-5.0"])
def test_a_bandwidth_must_be_a_positive_number(tmp_path, speed):
    with pytest.raises(ConfigInvalid, match=r"topology\.level\.0\.bandwidth_mb_s"):
        config(tmp_path, f'[[topology.level]]\nname = "leaf"\nbandwidth_mb_s = {speed}\n')
