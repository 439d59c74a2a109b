from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from gpusched.domain.allocation import Allocation
from gpusched.domain.errors import Broken
from gpusched.domain.hostlist import expand_hostlist
from gpusched.domain.identity import Identity
from gpusched.domain.job_spec import Activation, ActivationKind, JobSpec, Launcher
from gpusched.domain.launch_plan import LaunchPlan
from gpusched.launch.plan import make_launch_plan

PlanOf = Callable[..., LaunchPlan]
GOLDEN = Path(__file__).parents[2] / "golden" / "launch" / "plan_2x2.json"


def env_of(plan: LaunchPlan, global_rank: int) -> dict[str, str]:
    tasks = [task for node in plan.nodes for task in node.tasks]
    return dict(tasks[global_rank].env)


def test_the_whole_plan_of_a_2x2_job_is_as_recorded(plan_of: PlanOf) -> None:
    plan = plan_of(env=(("NCCL_DEBUG", "INFO"),), setup=("ulimit -c 0",), partition="main", qos="high")
    text = msgspec.json.format(msgspec.json.encode(plan), indent=2).decode() + "\n"
    if os.environ.get("REWRITE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text(), (
        "a plan changed; if it should, run with REWRITE_GOLDEN=1 and read the diff"
    )


def test_ranks_are_numbered_node_by_node_in_the_order_of_the_allocation(plan_of: PlanOf) -> None:
    plan = plan_of()
    numbers = [
        (node.node, node.node_rank, task.global_rank, task.local_rank)
        for node in plan.nodes
        for task in node.tasks
    ]
    assert numbers == [("gpu01", 0, 0, 0), ("gpu01", 0, 1, 1), ("gpu02", 1, 2, 0), ("gpu02", 1, 3, 1)]


def test_every_rank_meets_at_the_first_node_on_the_leased_port(plan_of: PlanOf) -> None:
    plan = plan_of()
    for rank in range(4):
        env = env_of(plan, rank)
        assert (env["MASTER_ADDR"], env["MASTER_PORT"], env["WORLD_SIZE"]) == ("10.0.0.1", "29513", "4")
        assert (env["RANK"], env["LOCAL_RANK"], env["GROUP_RANK"]) == (
            str(rank),
            str(rank % 2),
            str(rank // 2),
        )


def test_interfaces_are_each_nodes_own_and_matched_whole_by_nccl(plan_of: PlanOf) -> None:
    env = env_of(plan_of(), 2)
    assert (env["NCCL_SOCKET_IFNAME"], env["GLOO_SOCKET_IFNAME"]) == ("=eth2", "eth2")


def test_each_rank_sees_all_its_nodes_devices_and_index_local_rank_is_its_own(plan_of: PlanOf) -> None:
    plan = plan_of(gpus_per_node=4)
    for node in plan.nodes:
        for task in node.tasks:
            visible = dict(task.env)["CUDA_VISIBLE_DEVICES"].split(",")
            assert sorted(visible) == sorted(node.devices)
            assert visible[task.local_rank] in task.devices
            assert len(task.devices) == 2


def test_with_one_device_per_rank_devices_keep_the_order_of_the_grant(plan_of: PlanOf) -> None:
    assert env_of(plan_of(), 3)["CUDA_VISIBLE_DEVICES"] == "GPU-2-0,GPU-2-1"


def test_of_mig_slices_a_rank_sees_its_own_alone(plan_of: PlanOf) -> None:
    assert env_of(plan_of(uuid="MIG"), 3)["CUDA_VISIBLE_DEVICES"] == "MIG-2-1"


def test_declared_devices_are_named_as_declared_and_never_shown_to_cuda(plan_of: PlanOf) -> None:
    env = env_of(plan_of(declared=True), 1)
    assert env["CUDA_VISIBLE_DEVICES"] == ""
    assert env["GPUSCHED_DEVICES"] == ""
    assert env["GPUSCHED_DECLARED_DEVICES"] == "DECLARED-1-1"
    assert env["SLURM_GPUS_ON_NODE"] == "2"
    assert "SLURM_JOB_GPUS" not in env


def test_a_job_without_gpus_is_shown_none(plan_of: PlanOf) -> None:
    env = env_of(plan_of(gpus_per_node=0), 0)
    assert env["CUDA_VISIBLE_DEVICES"] == ""
    assert not [name for name in env if name.startswith(("SLURM_GPUS", "TORCH_NCCL"))]


def test_the_job_overrides_defaults_and_not_what_the_allocation_decided(plan_of: PlanOf) -> None:
    env = env_of(plan_of(env=(("PATH", "/x"), ("OMP_NUM_THREADS", "9"), ("RANK", "7"), ("A", ""))), 1)
    assert (env["PATH"], env["OMP_NUM_THREADS"], env["RANK"], env["A"]) == ("/x", "9", "1", "")


def test_the_environment_leaves_to_the_node_what_only_the_node_knows(plan_of: PlanOf) -> None:
    assert not env_of(plan_of(), 0).keys() & {"HOME", "USER", "LOGNAME", "SHELL"}


def test_slurms_node_list_names_the_nodes_in_rank_order(plan_of: PlanOf) -> None:
    env = env_of(plan_of(nodes=3), 5)
    assert env["SLURM_JOB_NODELIST"] == "gpu[01-03]"
    assert expand_hostlist(env["SLURM_JOB_NODELIST"])[int(env["SLURM_NODEID"])] == env["SLURMD_NODENAME"]
    assert env["SLURM_TASKS_PER_NODE"] == "2(x3)"


def test_a_later_attempt_says_how_often_the_job_was_restarted(plan_of: PlanOf) -> None:
    env = env_of(plan_of(epoch=3), 0)
    assert (env["SLURM_RESTART_COUNT"], env["GPUSCHED_RESTART_COUNT"]) == ("2", "2")
    assert env["GPUSCHED_ATTEMPT"] == "lab/gpu01/17.3"


def test_cpus_that_cannot_be_pinned_still_set_the_number_of_threads(plan_of: PlanOf) -> None:
    assert [task.cpu_ids for task in plan_of().nodes[0].tasks] == [(8, 9), (10, 11)]
    loose = plan_of(pinnable=False)
    assert [task.cpu_ids for task in loose.nodes[0].tasks] == [(), ()]
    assert env_of(loose, 0)["OMP_NUM_THREADS"] == "2"


def test_torchrun_is_started_once_per_node_and_numbers_the_ranks_itself(plan_of: PlanOf) -> None:
    plan = plan_of(launcher=Launcher.TORCHRUN)
    assert [(task.global_rank, task.local_rank) for node in plan.nodes for task in node.tasks] == [
        (0, 0),
        (1, 0),
    ]
    second = plan.nodes[1].tasks[0]
    assert second.argv == (
        "torchrun",
        "--nnodes=2",
        "--nproc-per-node=2",
        "--rdzv-id=17.1",
        "--rdzv-backend=c10d",
        "--rdzv-endpoint=10.0.0.1:29513",
        "--rdzv-conf=is_host=false",
        "--local-addr=10.0.0.2",
        "--no-python",
        "python",
        "train.py",
        "--epochs",
        "3",
    )
    env = dict(second.env)
    assert "RANK" not in env and "WORLD_SIZE" not in env
    assert (env["SLURM_NTASKS"], env["SLURM_CPUS_PER_TASK"], env["OMP_NUM_THREADS"]) == ("2", "4", "2")
    assert second.cpu_ids == (8, 9, 10, 11)


def test_a_command_that_needs_no_shell_gets_none(plan_of: PlanOf) -> None:
    assert plan_of().nodes[0].tasks[0].argv == ("python", "train.py", "--epochs", "3")
    scripted = plan_of(command=(), script="#!/bin/sh\n").nodes[0]
    assert scripted.tasks[0].argv == ("{script}",)
    assert scripted.script == "#!/bin/sh\n"


def test_what_surrounds_a_command_never_changes_its_words(plan_of: PlanOf) -> None:
    command = ("prog", "a b", "$HOME", "'; rm -rf /", "")
    argv = (
        plan_of(
            command=command,
            activation=Activation(ActivationKind.VENV, "/env"),
            setup=("true",),
            container="image",
            launcher=Launcher.TORCHRUN,
        )
        .nodes[0]
        .tasks[0]
        .argv
    )
    assert argv[-len(command) :] == command


def test_an_allocation_of_another_size_is_refused_as_a_bug() -> None:
    spec = JobSpec(name="x", command=("true",), nodes=2)
    with pytest.raises(Broken, match="job 1 asks for 2 nodes and was granted 0"):
        make_launch_plan(
            1, 1, spec, Identity("a", 1, 1), Allocation(nodes=(), master_port=1, granted_at_us=0), cluster="c"
        )
