from __future__ import annotations

import json

from gpusched.domain.job_spec import Segment, Spread


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
