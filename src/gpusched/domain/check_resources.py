"""What is wrong with what a job asks of each node: GPUs, CPUs, memory and what is counted."""

from __future__ import annotations

from gpusched.domain.check_value import Check, digits, shown, within
from gpusched.domain.errors import Violation
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import WHOLE_MILLI
from gpusched.domain.spec_limits import (
    COUNT_MAX,
    COUNTERS_MAX,
    CPUS_PER_TASK_MAX,
    GPUS_PER_NODE_MAX,
    IDENTIFIER,
    LOG_CAP_BYTES_MAX,
    LOG_CAP_BYTES_MIN,
    MEMORY_BYTES_MAX,
    MIG_PROFILE,
    NODES_MAX,
    TASKS_PER_NODE_MAX,
    WORLD_SIZE_MAX,
)


def check_shape(spec: JobSpec) -> Check:
    """Numbers of nodes, ranks, CPUs and GPUs, and what kind of GPU."""
    yield from within("nodes", spec.nodes, 1, NODES_MAX)
    yield from within("gpus_per_node", spec.gpus_per_node, 0, GPUS_PER_NODE_MAX)
    yield from within("tasks_per_node", spec.tasks_per_node, 1, TASKS_PER_NODE_MAX)
    yield from within("cpus_per_task", spec.cpus_per_task, 1, CPUS_PER_TASK_MAX)
    yield from _check_gpu_kind(spec)
    if spec.world_size > WORLD_SIZE_MAX:
        yield Violation(
            "nodes",
            f"times tasks_per_node is {digits(spec.world_size)} ranks, the limit is {WORLD_SIZE_MAX}; "
            "ask for fewer",
        )
    if spec.tasks_per_node > 1 and spec.gpus_per_node % spec.tasks_per_node:
        yield Violation(
            "gpus_per_node",
            f"{digits(spec.gpus_per_node)} GPUs cannot be shared evenly "
            f"by {digits(spec.tasks_per_node)} tasks; run one per node, or a number that divides them",
        )


def _check_gpu_kind(spec: JobSpec) -> Check:
    if not 1 <= spec.gpu_milli <= WHOLE_MILLI:
        yield Violation("gpu_fraction", f"{digits(spec.gpu_milli)}/1000 is outside 0.001 to 1; ask for less")
    elif spec.is_gpu_shared and spec.gpus_per_node != 1:
        yield Violation("gpu_fraction", "is a share of one GPU on each node; give gpus_per_node: 1")
    if spec.mig_profile is None:
        return
    if MIG_PROFILE.fullmatch(spec.mig_profile) is None:
        yield Violation("mig_profile", f"{shown(spec.mig_profile)} is no profile; write like 1g.10gb")
    if spec.gpus_per_node == 0:
        yield Violation("mig_profile", "needs gpus_per_node: say how many slices each node must give")
    if spec.is_gpu_shared:
        yield Violation("mig_profile", "is a slice that a job holds alone; leave out gpu_fraction")


def check_memory(spec: JobSpec) -> Check:
    """Bytes: of memory, disk, GPU memory and kept output."""
    yield from within("mem", spec.memory_bytes, 0, MEMORY_BYTES_MAX)
    yield from within("tmp", spec.disk_bytes, 0, MEMORY_BYTES_MAX)
    if spec.gpu_memory_bytes is not None:
        yield from within("gpu_mem", spec.gpu_memory_bytes, 1, MEMORY_BYTES_MAX)
    yield from within("log_cap", spec.log_cap_bytes, LOG_CAP_BYTES_MIN, LOG_CAP_BYTES_MAX)


def check_counts(spec: JobSpec) -> Check:
    """Things that are counted by name: a node's ``gres``, the cluster's ``licenses``."""
    for field, counts in (("gres", spec.gres), ("licenses", spec.licenses)):
        if len(counts) > COUNTERS_MAX:
            yield Violation(field, f"names {len(counts)} things, the limit is {COUNTERS_MAX}; name fewer")
        if len({name for name, _ in counts}) < len(counts):
            yield Violation(field, "names one thing twice; add the two up")
        for name, count in counts[:COUNTERS_MAX]:
            if IDENTIFIER.fullmatch(name) is None:
                yield Violation(field, f"{shown(name)} is not a name; write like fpga:2")
            yield from within(field, count, 1, COUNT_MAX)
    if any(name == "gpu" for name, _ in spec.gres):
        yield Violation("gres", "does not count GPUs; give gpus_per_node")
