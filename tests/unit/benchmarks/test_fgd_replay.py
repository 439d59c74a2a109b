"""The replay of the ATC'23 study: what it counts, what it writes, what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.fgd import POLICIES, main
from benchmarks.fgd_policies import Fgd
from benchmarks.fgd_replay import measure, replay, typical_shapes
from benchmarks.fgd_trace import Arrivals, NodeRow, Trace, pod, synthetic_trace
from gpusched.domain.node import WHOLE_MILLI
from gpusched.placement.fragmentation import FragmentTables
from gpusched.placement.packing import kinds

NODES = "sn,cpu_milli,memory_mib,gpu,model\nn1,8000,1024,2,A\nn0,8000,1024,1,B\n"
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\np0,1000,1,1,500,\np1,1000,1,1,1000,A\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "nodes.csv").write_text(NODES)
    (tmp_path / "pods.csv").write_text(PODS)
    # Two whole ones on A fill it; the third fits nowhere.
    np.savez(tmp_path / "small_7.npz", pod=np.array([1, 1, 1, 0], dtype=np.uint16), node_order=[1, 0])
    return tmp_path


def words(files, *more):
    return [
        "--nodes", str(files / "nodes.csv"), "--pods", str(files / "pods.csv"),
        "--arrivals", str(files / "small_7.npz"), *more,
    ]  # fmt: skip


@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_places_what_fits_and_writes_it_down(files, capsys, policy):
    assert main(words(files, "--policy", policy, "--json", "--out", str(files / "out.csv"))) == 0
    (line,) = capsys.readouterr().out.splitlines()
    result = json.loads(line)
    assert (result["trace"], result["policy"], result["seeds"]) == ("pods", policy, ["7"])
    assert (files / "out.csv").read_text().split() == ["node,gpus", "1,0", "1,1", "-1,", "0,0"]


def test_the_value_at_an_arrival_is_the_mean_over_its_events():
    half, none = pod(cpu_milli=1, gpus=1, gpu_milli=500), pod(cpu_milli=1)
    order = Arrivals("0", np.arange(4), np.arange(1))
    pods = (half, half, none, half)
    trace = Trace("one", (NodeRow("n", 9000, 0, 1, "A"),), pods, (order,))
    decisions = [(0, (0,)), None, (0, ()), (0, (0,))]
    mix = typical_shapes([half])
    allocation, fragmentation = measure(trace.empty_cluster(order), mix, pods, decisions)
    assert allocation == {100: 50.0, 110: None, 130: None}
    assert fragmentation[50] == 0.0


def test_typical_shapes_cover_the_list_and_of_equally_frequent_ones_the_larger_comes_first():
    small, large = pod(cpu_milli=1, gpus=1, gpu_milli=500), pod(cpu_milli=2, gpus=1, gpu_milli=100)
    mix = typical_shapes([pod(cpu_milli=9)] + [small] * 10 + [large] * 10)
    assert [shape.cpus for shape in mix.shapes] == [2, 1]
    assert mix.shares == (0.5, 0.5)


def plain_fragment(mix, model, cpus, free):
    fragment = 0.0
    for shape, share in zip(mix.shapes, mix.shares, strict=True):
        room = sum(milli >= shape.gpu_milli for milli in free)
        allowed = shape.gpu_model is None or model in shape.gpu_model.split("|")
        usable = shape.gpus and allowed and cpus >= shape.cpus and room >= shape.gpus
        fragment += share * sum(milli for milli in free if not usable or milli < shape.gpu_milli)
    return fragment


def test_the_fragment_is_the_same_by_tables_by_the_policy_of_the_study_and_by_plain_loops():
    trace = synthetic_trace(1, nodes=20)
    snapshot = trace.empty_cluster(trace.arrivals[0])
    mix = typical_shapes([*trace.pods, *[pod(cpu_milli=1, gpus=1, gpu_milli=300, models=("A", "B"))] * 300])
    kind = kinds(snapshot.inventory)
    dice = np.random.default_rng(3)
    gpu = dice.integers(0, WHOLE_MILLI + 1, snapshot.milli_free.shape) * (snapshot.milli_free > 0)
    gpu[dice.random(gpu.shape) < 0.3] = WHOLE_MILLI
    gpu *= snapshot.milli_free > 0
    cpus = dice.integers(0, 50_000, len(gpu))
    by_loops = [
        plain_fragment(mix, snapshot.inventory.classes[kind[row]].model, cpus[row], gpu[row][:count].tolist())
        for row, count in enumerate(snapshot.inventory.gpus_total.tolist())
    ]
    assert FragmentTables(snapshot.inventory, mix).of_nodes(kind, cpus, gpu) == pytest.approx(by_loops)
    assert Fgd(snapshot, mix).fragments(kind, cpus, gpu) == pytest.approx(by_loops)


def test_ours_packs_a_mix_it_was_not_tuned_on_better_than_fgd():
    trace = synthetic_trace(1, nodes=60)
    used = {
        name: replay(trace, trace.arrivals[0], POLICIES[name]).allocation[130] for name in ("ours", "fgd")
    }
    assert used["ours"] > used["fgd"]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("pods.csv", PODS.replace("p1,1000,1,1", "p1,x,1,1"), "pods.csv:3: cpu_milli: 'x'"),
        ("pods.csv", PODS.replace(",1000,A", ",1001,A"), "pods.csv:3: gpu_milli"),
        ("pods.csv", PODS.replace("gpu_milli,", "milli,"), "no column gpu_milli"),
        ("pods.csv", PODS + "p2,1\n", "pods.csv:4: fewer columns"),
        ("nodes.csv", NODES.replace("n1", "n0"), "two nodes have one name"),
        ("nodes.csv", NODES + "n2,8000,1024,1,A\n", "node_order: not a permutation of 0..2"),
        ("small_7.npz", "nothing", "small_7.npz: not an archive"),
        ("pods.csv", PODS.splitlines()[0] + "\n", "pods.csv: no pods"),
        ("pods.csv", PODS.replace("p0", "p\N{PILE OF POO}"), "pods.csv: not a CSV file in UTF-8"),
        ("nodes.csv", NODES.replace("1024,2", "1024,0").replace("1024,1", "1024,0"), "no node with a GPU"),
    ],
)
def test_a_malformed_trace_is_refused_with_its_place(files, capsys, file, text, says):
    (files / file).write_text(text, encoding="utf-16" if "\N{PILE OF POO}" in text else "utf-8")
    assert main(words(files)) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pod", "says"), [([], "not a list of arrivals"), ([0, 2], "index 2"), ([-1], "index -1")]
)
def test_an_order_of_pods_that_do_not_exist_is_refused(files, capsys, pod, says):
    np.savez(files / "small_7.npz", pod=np.array(pod, dtype=np.int64), node_order=[1, 0])
    assert main(words(files)) == 2
    assert says in capsys.readouterr().err


def test_a_missing_file_or_trace_is_one_clear_line(files, capsys):
    (files / "nodes.csv").unlink()
    assert main(words(files)) == 2
    assert main(["--traces", str(files), "--trace", "nosuch"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "nodes.csv" in lines[0]
    assert "nosuch_*.npz" in lines[1]
