"""Why a job waits, as a value: every constraint and what it rules out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpusched.domain.job_state import PendingReason


class Constraint(StrEnum):
    """A test that a node must pass. In the order in which they are named to people."""

    PARTITION = "partition"
    NODELIST = "nodelist"
    EXCLUDE = "exclude"
    REACHABLE = "reachable"
    SCHEDULABLE = "schedulable"  # neither cordoned nor draining
    GPU_MODEL = "gpu_model"
    GPU_MEMORY = "gpu_mem"
    MIG_PROFILE = "mig_profile"
    GPU_FRACTION = "gpu_fraction"  # has no shareable GPU
    GPUS = "gpus_per_node"  # more than the node has
    CPUS = "cpus"
    MEMORY = "mem"
    DISK = "tmp"
    GRES = "gres"
    SEGMENT = "segment"  # islands inside the node are too small
    GPUS_FREE = "gpus_free"  # has them, not free now
    CPUS_FREE = "cpus_free"
    MEMORY_FREE = "mem_free"
    DISK_FREE = "tmp_free"
    GRES_FREE = "gres_free"
    SEGMENT_FREE = "segment_free"  # free GPUs are not in the same islands
    LICENSES = "licenses"  # too few are free in the cluster: no node can help


@dataclass(frozen=True, slots=True)
class RuledOut:
    """What one constraint alone rules out, counted independently of the others."""

    constraint: Constraint
    nodes: int
    gpus: int
    detail: str  # "wants H100; 12 nodes have A100"


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field of a job file written otherwise."""

    field: str
    value: str | None  # as a job file writes it; None: leave the field out


@dataclass(frozen=True, slots=True)
class Relaxation:
    """A smaller request that would start now: found by asking the scheduler, not by guessing."""

    text: str  # "4 GPUs per node instead of 8"
    changes: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """The whole answer to "why is it not running?"."""

    message: str  # one sentence that a person can act on
    reason: PendingReason | None  # None when it is not pending
    nodes_wanted: int
    nodes_total: int
    nodes_fitting_now: int
    nodes_fitting_empty: int  # could hold one node of the gang if nothing ran
    ruled_out: tuple[RuledOut, ...] = ()
    jobs_ahead: int | None = None
    forecast_start_us: int | None = None  # None: cannot be said, as some running job has no time limit
    relaxations: tuple[Relaxation, ...] = ()  # the nearest that would start it now, least change first
