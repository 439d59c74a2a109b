"""Slurm's variables, so that code written for Slurm runs unchanged (``man sbatch``, "OUTPUT ENVIRONMENT").

Left out because gpusched has no such thing: arrays, reservations, segments,
and the submitting host. ``SLURM_MEM_PER_CPU`` and ``SLURM_MEM_PER_GPU`` exclude
``SLURM_MEM_PER_NODE``, which is how memory is asked for here. ``SLURM_JOB_GPUS`` holds UUIDs
where Slurm has indices, for the reason that ``CUDA_VISIBLE_DEVICES`` does.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby

from gpusched.domain.hostlist import fold_hostlist
from gpusched.launch.attempt import AttemptContext
from gpusched.launch.ranks import Task, tasks_started_per_node

_SECOND_US = 1_000_000
_MEBIBYTE = 1 << 20


def slurm_variables(context: AttemptContext, task: Task) -> dict[str, str]:
    """Build the ``SLURM_*`` variables of one task."""
    return (
        _job(context)
        | _components(context)
        | _nodes(context, task)
        | _tasks(context, task)
        | _cpus(context)
        | _gpus(context, task)
    )


def _job(context: AttemptContext) -> dict[str, str]:
    spec, job_id = context.spec, str(context.job_id)
    start_s = context.allocation.granted_at_us // _SECOND_US
    variables = {
        "SLURM_JOB_ID": job_id,
        "SLURM_JOBID": job_id,
        "SLURM_STEP_ID": "0",
        "SLURM_STEPID": "0",
        "SLURM_JOB_NAME": spec.name,
        "SLURM_JOB_ACCOUNT": spec.account,
        "SLURM_JOB_USER": context.owner.user,
        "SLURM_JOB_UID": str(context.owner.uid),
        "SLURM_JOB_GID": str(context.owner.gid),
        "SLURM_JOB_START_TIME": str(start_s),
        "SLURM_RESTART_COUNT": str(context.restart_count),
        "SLURM_CLUSTER_NAME": context.cluster,
    }
    if spec.partition is not None:
        variables["SLURM_JOB_PARTITION"] = spec.partition
    if spec.qos is not None:
        variables["SLURM_JOB_QOS"] = spec.qos
    if spec.time_limit_s is not None:
        variables["SLURM_JOB_END_TIME"] = str(start_s + spec.time_limit_s)
    return variables


def _components(context: AttemptContext) -> dict[str, str]:
    """As of a Slurm heterogeneous job: its size, and the nodes of each component."""
    if not context.whole.components:
        return {}
    variables = {"SLURM_HET_SIZE": str(len(context.whole.components))}
    nodes = iter(context.allocation.nodes)
    for number, component in enumerate(context.whole.components):
        names = fold_hostlist(next(nodes).node for _ in range(component.nodes))
        variables[f"SLURM_JOB_NODELIST_HET_GROUP_{number}"] = names
    return variables


def _nodes(context: AttemptContext, task: Task) -> dict[str, str]:
    nodes = context.allocation.nodes
    # In rank order: the first host of the list is where global rank 0 runs.
    hosts, count = context.nodelist, str(len(nodes))
    return {
        "SLURM_JOB_NODELIST": hosts,
        "SLURM_NODELIST": hosts,
        "SLURM_STEP_NODELIST": hosts,
        "SLURM_JOB_NUM_NODES": count,
        "SLURM_NNODES": count,
        "SLURM_STEP_NUM_NODES": count,
        "SLURM_NODEID": str(task.node_rank),
        "SLURMD_NODENAME": task.part.node,
        "SLURM_SUBMIT_DIR": context.spec.workdir,
        "SLURM_LAUNCH_NODE_IPADDR": nodes[0].address,
        "SLURM_TOPOLOGY_ADDR": task.part.node,
        "SLURM_TOPOLOGY_ADDR_PATTERN": "node",
    }


def _tasks(context: AttemptContext, task: Task) -> dict[str, str]:
    per_node = tasks_started_per_node(context.spec)
    counts = [tasks_started_per_node(part) for part in context.whole.parts_by_node]
    total = str(sum(counts))
    return {
        "SLURM_NTASKS": total,
        "SLURM_NPROCS": total,
        "SLURM_STEP_NUM_TASKS": total,
        "SLURM_NTASKS_PER_NODE": str(per_node),
        "SLURM_TASKS_PER_NODE": _repeated(counts),
        "SLURM_STEP_TASKS_PER_NODE": _repeated(counts),
        "SLURM_PROCID": str(task.global_rank),
        "SLURM_LOCALID": str(task.local_rank),
    }


def _cpus(context: AttemptContext) -> dict[str, str]:
    spec = context.spec
    variables = {
        "SLURM_CPUS_PER_TASK": str(spec.cpus_per_node // tasks_started_per_node(spec)),
        "SLURM_CPUS_ON_NODE": str(spec.cpus_per_node),
        "SLURM_JOB_CPUS_PER_NODE": _repeated([part.cpus_per_node for part in context.whole.parts_by_node]),
    }
    if spec.memory_bytes:
        variables["SLURM_MEM_PER_NODE"] = str(-(-spec.memory_bytes // _MEBIBYTE))
    return variables


def _gpus(context: AttemptContext, task: Task) -> dict[str, str]:
    spec, per_node = context.spec, context.spec.gpus_per_node
    if not per_node:
        return {}
    variables = {
        "SLURM_GPUS": str(context.whole.gpu_count),
        "SLURM_GPUS_ON_NODE": str(per_node),
        "SLURM_GPUS_PER_NODE": str(per_node),
        "SLURM_GPUS_PER_TASK": str(per_node // tasks_started_per_node(spec)),
    }
    real = [device.uuid for device in task.part.devices if not device.declared]
    if real:
        variables["SLURM_JOB_GPUS"] = variables["SLURM_STEP_GPUS"] = ",".join(real)
    return variables


def _repeated(counts: Iterable[int]) -> str:
    """Slurm's short form of a number per node: ``8(x2),1``."""
    runs = ((count, len(list(alike))) for count, alike in groupby(counts))
    return ",".join(str(count) if nodes == 1 else f"{count}(x{nodes})" for count, nodes in runs)
