"""The environment of one task, whole: a rank inherits nothing from whoever starts it.

Three layers, later ones win:

1. defaults that a job may override: ``PATH``, ``LANG``, ``OMP_NUM_THREADS``, network interfaces, ...
2. what the job asked for (``JobSpec.env``)
3. what the allocation decided: torch's ``env://`` variables, devices, ``SLURM_*``, ``GPUSCHED_*``;
   ``check_spec`` refuses a job that sets any of these

``HOME``, ``USER``, ``LOGNAME`` and ``SHELL`` are not here: only the node's own user database
knows them, so whoever starts the rank there adds those that are absent.

Devices. Training code says ``torch.cuda.set_device(LOCAL_RANK)``, so each rank sees all of the
job's devices on its node, in an order in which index ``LOCAL_RANK`` is its own, and named by
UUID, as indices move when a card is lost (CUDA Programming Guide, "CUDA Environment
Variables"). Declared devices do not exist: where a node has only those, or none, the list is
empty and CUDA finds no device, which is the truth. Of MIG slices CUDA shows a process only the
first in the list, so with those each rank is shown its own share alone, as index 0.

A share of a device (``gpu_fraction``) is a promise of the scheduler's books and of nothing else: the
driver switches between the processes of all who share it, and any of them can use all its memory. So
a rank is told its share (``GPUSCHED_GPU_MILLI``, thousandths of each of its devices) and has to keep
to it itself, for example by ``torch.cuda.set_per_process_memory_fraction``. No variable of MPS is set:
where no MPS server runs they do nothing, and would look as if they did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gpusched.domain.allocation import GrantedDevice
from gpusched.domain.job_spec import Launcher
from gpusched.domain.launch_plan import NOTES_WORD, PROGRESS_VARIABLE, TRACE_NAME
from gpusched.launch.attempt import AttemptContext
from gpusched.launch.ranks import Task, component_of, devices_by_local_rank
from gpusched.launch.slurm import slurm_variables

PATH_DEFAULT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

NCCL_DIAGNOSIS: Mapping[str, str] = {
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "3",  # a failed collective ends the process
    "TORCH_NCCL_ENABLE_MONITORING": "1",
    "TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC": "600",
    # The flight recorder writes what each rank waited for; that needs both of these.
    "TORCH_FR_BUFFER_SIZE": "2000",
    "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
}
"""So that a hang ends and leaves a trace (docs.pytorch.org, torch_nccl_environment_variables)."""


def task_environment(context: AttemptContext, task: Task) -> tuple[tuple[str, str], ...]:
    """Build the environment of one task, sorted by name."""
    decided = {
        **_device_variables(context, task),
        **_torch_variables(context, task),
        **slurm_variables(context, task),
        **_gpusched_variables(context, task),
    }
    return tuple(sorted((_defaults(context, task) | dict(context.spec.env) | decided).items()))


def _defaults(context: AttemptContext, task: Task) -> dict[str, str]:
    variables = {
        "PATH": PATH_DEFAULT,
        "LANG": "C.UTF-8",
        "TMPDIR": "/tmp",  # noqa: S108 (the system's own default, said aloud)
        "PYTHONUNBUFFERED": "1",  # or the log of a quiet rank lags by 8 KiB
        "OMP_NUM_THREADS": str(context.spec.cpus_per_task),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "GPUSCHED_CHECKPOINT_DIR": f"{context.spec.workdir.rstrip('/')}/checkpoints/{context.job_id}",
    }
    if task.part.interface is not None:
        # "=" makes NCCL match the whole name; alone, "eth1" would match eth10 too (NCCL
        # documentation, NCCL_SOCKET_IFNAME). Gloo takes exact names.
        variables["NCCL_SOCKET_IFNAME"] = f"={task.part.interface}"
        variables["GLOO_SOCKET_IFNAME"] = task.part.interface
    if _real(task.part.devices):
        variables.update(NCCL_DIAGNOSIS)
        if context.spec.container is None:  # in an image there is no such folder
            variables["TORCH_FR_DUMP_TEMP_FILE"] = f"{NOTES_WORD}/{TRACE_NAME}"
            variables["TORCH_NCCL_DEBUG_INFO_TEMP_FILE"] = f"{NOTES_WORD}/{TRACE_NAME}"  # before torch 2.9
    return variables


def _device_variables(context: AttemptContext, task: Task) -> dict[str, str]:
    if any(device.uuid.startswith("MIG-") for device in task.part.devices):
        visible = _real(task.devices)
    else:
        visible = _real(devices_by_local_rank(task.part, context.spec.tasks_per_node))
    return {"CUDA_VISIBLE_DEVICES": ",".join(visible)}


def _torch_variables(context: AttemptContext, task: Task) -> dict[str, str]:
    """torch.distributed's ``env://`` (and torchrun's names beside it, where they mean the same)."""
    spec, allocation = context.spec, context.allocation
    rendezvous = {"MASTER_ADDR": allocation.nodes[0].address, "MASTER_PORT": str(allocation.master_port)}
    if spec.launcher is Launcher.TORCHRUN:
        return rendezvous  # torchrun numbers the ranks that it starts
    return {
        **rendezvous,
        "RANK": str(task.global_rank),
        "LOCAL_RANK": str(task.local_rank),
        "WORLD_SIZE": str(context.whole.world_size),
        "LOCAL_WORLD_SIZE": str(spec.tasks_per_node),
        "GROUP_RANK": str(task.node_rank),
        "GROUP_WORLD_SIZE": str(context.whole.nodes),
        "ROLE_NAME": "default",
        "ROLE_RANK": str(task.global_rank),
        "ROLE_WORLD_SIZE": str(context.whole.world_size),
    }


def _gpusched_variables(context: AttemptContext, task: Task) -> dict[str, str]:
    share = {"GPUSCHED_GPU_MILLI": str(context.spec.gpu_milli)} if task.devices else {}
    if context.whole.components:
        share["GPUSCHED_COMPONENT"] = component_of(context.whole, task.node_rank).name
    variables = {
        **share,
        "GPUSCHED_ATTEMPT": f"{context.cluster}/{task.part.node}/{context.attempt_id}",
        "GPUSCHED_JOB_ID": str(context.job_id),
        "GPUSCHED_EPOCH": str(context.epoch),
        "GPUSCHED_RESTART_COUNT": str(context.restart_count),
        "GPUSCHED_NODE": task.part.node,
        "GPUSCHED_DEVICES": ",".join(_real(task.devices)),
        "GPUSCHED_DECLARED_DEVICES": ",".join(device.uuid for device in task.devices if device.declared),
    }
    if context.spec.container is None:
        variables[PROGRESS_VARIABLE] = f"{NOTES_WORD}/progress-{task.global_rank}"
    return variables


def _real(devices: Sequence[GrantedDevice]) -> tuple[str, ...]:
    return tuple(device.uuid for device in devices if not device.declared)
