from __future__ import annotations

import json
from dataclasses import replace

from fakes.wire_head import FACTS

from gpusched.cli.inside import inside_of
from gpusched.domain.job_spec import Segment, Spread
from gpusched.domain.node import Device, PciAncestor, PeerLink


def test_the_tree_is_drawn_with_what_is_free(cli):
    lines = cli("topology", "show").out.splitlines()
    assert lines[0] == "spine (400 GB/s) > leaf > node"
    assert lines[1].startswith("└─ spine s1  2 nodes, ")
    assert lines[2].startswith("   ├─ leaf l1  1 node, ")
    assert lines[3] == "   │  └─ n1"
    assert lines[5] == "      └─ n2"


def test_nodes_that_hang_nowhere_are_named(cli):
    out = cli("topology", "show").out
    known = {"n1", "n2"}
    names = {view["node"] for view in json.loads(cli("nodes", "--json").out)}
    assert ("nowhere in the topology" in out) == bool(names - known)


def test_the_export_for_graphviz_has_every_domain_node_and_edge_once(cli):
    lines = cli("topology", "export", "--dot").out.splitlines()
    assert lines[0] == "graph topology {" and lines[-1] == "}"
    assert sum(" -- " in line for line in lines) == 4
    assert '  "s1/l1" [label="leaf l1"];' in lines
    assert '  "s1/l2" -- "node n2";' in lines
    assert len(lines) == len(set(lines))


def test_the_topology_has_json(cli):
    said = json.loads(cli("topology", "show", "--json").out)
    assert said["levels"][1] == {"name": "leaf", "bandwidth_mb_s": None}
    assert said["nodes"][0] == {"node": "n1", "path": ["s1", "l1"]}


def test_a_job_says_what_it_wishes_of_the_topology(cli, head):
    wishes = ("--topology-required", "spine", "--topology-preferred", "leaf", "--spread", "even")
    cli("submit", "-N", "4", "--ntasks-per-node", "2", "--segment", "4 within leaf", *wishes, "--", "true")
    spec = head.asked[-1][1]
    assert (spec.topology_required, spec.topology_preferred) == ("spine", "leaf")
    assert (spec.segment, spec.spread) == (Segment(4, "leaf"), Spread.EVEN)
    said = cli("submit", "--segment", "three racks", "--", "true")
    assert said.code == 2 and "write like '8 within rack'" in said.err


def test_a_segment_must_divide_the_gang_and_cut_no_node(cli):
    said = cli("submit", "-N", "2", "--segment", "3 within leaf", "--", "true")
    assert said.code == 2 and "3 ranks do not divide the gang of 2" in said.err
    said = cli("submit", "-N", "3", "--ntasks-per-node", "4", "--segment", "6 within leaf", "--", "true")
    assert said.code == 2 and "6 ranks cut through nodes of 4" in said.err


def test_the_export_has_what_is_inside_the_nodes_if_asked_for(cli):
    lines = cli("topology", "export", "--dot", "--inside").out.splitlines()
    assert '  "n1/nvlink0" [label="NVLink island 0 (450 GB/s)"];' in lines
    assert '  "node n1" -- "n1/nvlink0";' in lines
    assert '  "n1/nvlink0" -- "GPU-n1-0";' in lines
    assert len(lines) == len(set(lines))
    assert set(json.loads(cli("topology", "export", "--inside").out)["inside"]) >= {"n1", "n2"}


def eight(**changes):
    """Eight GPUs of two sockets on one NVSwitch, two to a PCIe switch."""
    devices = []
    for number in range(8):
        near = {number ^ 1: PciAncestor.SINGLE_SWITCH}
        links = tuple(
            PeerLink(f"G{other}", 18, 450_000, near.get(other, PciAncestor.SYSTEM))
            for other in range(8)
            if other != number
        )
        devices.append(
            Device(uuid=f"G{number}", model="H100", memory_bytes=None, numa_node=number // 4, peers=links)
        )
    return replace(FACTS, devices=tuple(devices), **changes)


def names(parts, depth=0):
    return [line for part in parts for line in (f"{'  ' * depth}{part.name}", *names(part.inside, depth + 1))]


def test_a_node_is_cut_into_islands_sockets_switches_and_devices():
    assert names(inside_of(eight()))[:8] == [
        "/nvlink0",
        "  /nvlink0/numa0",
        "    /nvlink0/numa0/pcie0",
        "      G0",
        "      G1",
        "    /nvlink0/numa0/pcie1",
        "      G2",
        "      G3",
    ]


def test_slices_are_drawn_under_their_gpu_and_what_is_not_known_is_left_out():
    whole = Device(uuid="G0", model="A100", memory_bytes=None)
    cut = [replace(whole, uuid=f"MIG-{i}", mig_profile="1g.10gb", mig_parent="G1") for i in range(2)]
    assert names(inside_of(replace(FACTS, devices=(whole, *cut)))) == ["G0", "G1", "  MIG-0", "  MIG-1"]
