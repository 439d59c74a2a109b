"""What exactly to start, on every node. A value: it can be shown, compared and sent."""

from __future__ import annotations

from dataclasses import dataclass

from gpusched.domain.identity import Identity
from gpusched.domain.ids import DeviceUuid, Epoch, JobId, NodeName
from gpusched.domain.job_spec import OnDisconnect, WarningSignal
from gpusched.domain.node import WHOLE_MILLI

NOTES_WORD = "{notes}"
"""Begins the value of a variable that names a file in the attempt's folder for notes: the node knows it."""
PROGRESS_VARIABLE = "GPUSCHED_PROGRESS_FILE"
"""Names the file to which a rank may write the number of its last step."""
TRACE_NAME = "nccl-trace-"
"""Begins the names of PyTorch's flight records there; the rank follows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLaunch:
    """One rank: its place, its argv, its whole environment (nothing is inherited)."""

    global_rank: int
    local_rank: int
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    cpu_ids: tuple[int, ...]  # to pin to; empty pins to nothing
    devices: tuple[DeviceUuid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLaunch:
    """Everything one node starts for one attempt."""

    job_id: JobId
    epoch: Epoch
    node: NodeName
    node_rank: int
    owner: Identity
    workdir: str
    tasks: tuple[TaskLaunch, ...]
    devices: tuple[DeviceUuid, ...]
    script: str | None  # written to a file that argv names as ``{script}``
    time_limit_s: int | None
    signal: WarningSignal
    kill_wait_s: int
    log_cap_bytes: int
    on_disconnect: OnDisconnect = OnDisconnect.KEEP_RUNNING
    gpu_milli: int = WHOLE_MILLI  # of each device; below 1000 what NVML measures is not this attempt's alone


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """All nodes of one attempt, in rank order."""

    nodes: tuple[NodeLaunch, ...]
