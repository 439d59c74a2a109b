from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from gpusched.domain.allocation import Allocation, GrantedDevice, NodeAllocation
from gpusched.domain.identity import Identity
from gpusched.domain.job_spec import JobSpec
from gpusched.launch.plan import make_launch_plan

EVERYWHERE_EQUAL = (
    "MASTER_ADDR",
    "MASTER_PORT",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "SLURM_JOB_NODELIST",
    "SLURM_NTASKS",
)


@st.composite
def jobs(draw: st.DrawFn) -> tuple[JobSpec, Allocation]:
    tasks = draw(st.integers(1, 6))
    spec = JobSpec(
        name="j",
        command=("true",),
        nodes=draw(st.integers(1, 5)),
        tasks_per_node=tasks,
        gpus_per_node=tasks * draw(st.integers(0, 3)),
        cpus_per_task=draw(st.integers(1, 4)),
    )
    names = draw(st.permutations([f"n{i}" for i in range(spec.nodes)]))
    parts = tuple(
        NodeAllocation(
            node=name,
            address=f"10.1.0.{name[1:]}",
            interface=draw(st.sampled_from([None, "eth0"])),
            devices=tuple(GrantedDevice(f"GPU-{name}-{d}", "H100", False) for d in range(spec.gpus_per_node)),
            cpu_ids=tuple(draw(st.permutations(range(spec.cpus_per_node)))),
            cpus_pinnable=True,
            memory_bytes=0,
        )
        for name in names
    )
    return spec, Allocation(nodes=parts, master_port=draw(st.integers(1024, 65535)), granted_at_us=0)


@given(jobs())
def test_every_rank_stands_once_with_its_own_devices_and_cpus(job: tuple[JobSpec, Allocation]) -> None:
    spec, allocation = job
    plan = make_launch_plan(1, 1, spec, Identity("a", 1, 1), allocation, cluster="c")
    tasks = [task for node in plan.nodes for task in node.tasks]
    assert [task.global_rank for task in tasks] == list(range(spec.world_size))
    for node, part in zip(plan.nodes, allocation.nodes, strict=True):
        assert [task.local_rank for task in node.tasks] == list(range(spec.tasks_per_node))
        assert sorted(cpu for task in node.tasks for cpu in task.cpu_ids) == sorted(part.cpu_ids)
        assert {len(task.cpu_ids) for task in node.tasks} == {spec.cpus_per_task}
        assert sorted(uuid for task in node.tasks for uuid in task.devices) == sorted(node.devices)
        for task in node.tasks:
            visible = [uuid for uuid in dict(task.env)["CUDA_VISIBLE_DEVICES"].split(",") if uuid]
            assert sorted(visible) == sorted(node.devices)
            assert not visible or visible[task.local_rank] == task.devices[0]


@given(jobs())
def test_the_environments_of_a_job_agree_with_each_other_and_with_the_plan(
    job: tuple[JobSpec, Allocation],
) -> None:
    spec, allocation = job
    plan = make_launch_plan(1, 1, spec, Identity("a", 1, 1), allocation, cluster="c")
    first = dict(plan.nodes[0].tasks[0].env)
    assert first["MASTER_ADDR"] == allocation.nodes[0].address
    for node in plan.nodes:
        for task in node.tasks:
            env = dict(task.env)
            assert len(env) == len(task.env)
            assert all(env[name] == first[name] for name in EVERYWHERE_EQUAL)
            assert env["RANK"] == env["SLURM_PROCID"] == str(task.global_rank)
            assert env["LOCAL_RANK"] == env["SLURM_LOCALID"] == str(task.local_rank)
            assert env["GROUP_RANK"] == env["SLURM_NODEID"] == str(node.node_rank)


@given(jobs())
def test_equal_inputs_give_equal_plans(job: tuple[JobSpec, Allocation]) -> None:
    spec, allocation = job
    owner = Identity("a", 1, 1)
    assert make_launch_plan(1, 1, spec, owner, allocation, cluster="c") == make_launch_plan(
        1, 1, spec, owner, allocation, cluster="c"
    )
