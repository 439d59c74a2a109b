from __future__ import annotations

import pytest
from fakes.clusters import A100, H100, TWO_PARTITIONS, make_node, snapshot_of

from gpusched.domain.errors import InfeasibleRequest
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import Schedulability
from gpusched.placement.diagnose import check_feasible
from gpusched.placement.request import is_model_match

CLUSTER = snapshot_of(
    make_node("n0", *[H100] * 8),
    make_node("n1", *[H100] * 8, reachable=False),
    make_node("n2", *[A100] * 4, schedulability=Schedulability.DRAINED),
    make_node("n3", cpus=128),
    partitions=TWO_PARTITIONS,
)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (
            {"gpus_per_node": 9},
            "job wants 9 GPUs on one node; the largest node of partition main has 8: "
            "ask for gpus_per_node ≤ 8 or more nodes",
        ),
        (
            {"gpus_per_node": 8, "nodes": 3},
            "job wants 8 GPUs on each of 3 nodes; 3 nodes of partition main have at most 4: "
            "ask for gpus_per_node ≤ 4 or fewer nodes",
        ),
        ({"nodes": 5}, "job wants 5 nodes; partition main has 4: ask for nodes ≤ 4"),
        ({"nodes": 3, "partition": "odd"}, "job wants 3 nodes; partition odd has 2: ask for nodes ≤ 2"),
        ({"partition": "big"}, "there is no partition big: ask for one of main, odd"),
        (
            {"gpus_per_node": 1, "gpu_model": "B200"},
            "job wants GPUs of model B200; no node of partition main has one: "
            f"it has {A100}, {H100}: ask for one of these",
        ),
        (
            {"gpus_per_node": 1, "gpu_memory_bytes": 90 << 30},
            "job wants GPUs of ≥ 90 GiB on one node; the largest node of partition main has 80 GiB: "
            "ask for gpu_mem ≤ 80 GiB",
        ),
        (
            {"cpus_per_task": 200},
            "job wants 200 CPUs on one node; the largest node of partition main has 128: "
            "ask for tasks_per_node x cpus_per_task ≤ 128 or more nodes",
        ),
        (
            {"memory_bytes": 1 << 70},
            "job wants 1073741824 TiB of memory on one node; the largest node of partition main has 64 GiB: "
            "ask for mem ≤ 64 GiB or more nodes",
        ),
        (
            {"gpus_per_node": 8, "cpus_per_task": 100},
            "job wants 100 CPUs on one node; the largest suitable node of partition main has 16: ",
        ),
        (
            {"gpus_per_node": 2, "gpu_model": "A100", "nodes": 2},
            "job wants 2 nodes with 2 A100; partition main has 1 such: ask for nodes ≤ 1",
        ),
        (
            {"gpus_per_node": 1, "nodelist": ("n3",)},
            "partition main within nodelist and exclude",
        ),
        (
            {"gpus_per_node": 9, "cpus_per_task": 999},
            "job wants 1 node with 9 GPUs and 999 CPUs; partition main has none such: "
            "ask for less of more than one of these",
        ),
        (
            {"nodelist": ("n9",)},
            "partition main within nodelist and exclude has no nodes: ask for another",
        ),
    ],
)
def test_refusal_names_the_largest_that_could_run(wanted, message):
    with pytest.raises(InfeasibleRequest) as refused:
        check_feasible(CLUSTER, JobSpec(name="j", **wanted))
    assert message in str(refused.value)


def test_nodes_that_are_down_or_drained_may_come_back_so_their_jobs_are_accepted():
    check_feasible(CLUSTER, JobSpec(name="j", nodes=2, gpus_per_node=8))
    check_feasible(CLUSTER, JobSpec(name="j", gpus_per_node=4, gpu_model="a100"))


def test_cluster_without_nodes_accepts_anything():
    check_feasible(snapshot_of(), JobSpec(name="j", nodes=1000, gpus_per_node=64))


@pytest.mark.parametrize(
    ("wanted", "model", "is_match"),
    [
        ("H100", "NVIDIA H100 80GB HBM3", True),
        ("h100 80gb", "NVIDIA H100 80GB HBM3", True),
        ("A10", "NVIDIA A100-SXM4-40GB", False),
        ("A10", "NVIDIA A10", True),
        ("A100", "NVIDIA A100-SXM4-40GB", True),
        ("RTX 4090", "NVIDIA GeForce RTX 4090", True),
        ("H100", "H100", True),
        ("A100|H100", "NVIDIA H100 80GB HBM3", True),
        ("A100|H100", "NVIDIA A10", False),
        ("A100|", "NVIDIA A10", False),
    ],
)
def test_gpu_models_match_as_whole_words_whatever_the_case(wanted, model, is_match):
    assert is_model_match(wanted, model) is is_match
