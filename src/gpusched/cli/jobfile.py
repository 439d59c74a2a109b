"""The fields of a job, as a pydantic model: one spelling, one meaning and one description for each.

Options, ``#SBATCH`` directives and YAML all end here (``job_of_draft.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gpusched.cli import quantities
from gpusched.cli.jobfield import (
    Command,
    Count,
    CountOrZero,
    Counts,
    Duration,
    Env,
    Flag,
    Hosts,
    LauncherName,
    OnDisconnectName,
    OnUnderuseName,
    Percent,
    RestartOnName,
    Seconds,
    SegmentText,
    Share,
    Signal,
    Size,
    SpreadName,
    StallActionName,
    StallTime,
    Texts,
    TimeLimit,
    Word,
    Words,
)
from gpusched.domain.job_spec import (
    SLOW_OVER_PERCENT,
    SLOW_STEPS,
    STALL_AFTER_S,
    ActivationKind,
    Component,
    Launcher,
    OnUnderuse,
    StallAction,
    WarningSignal,
)
from gpusched.domain.node import WHOLE_MILLI


class ComponentFile(BaseModel):
    """Nodes of a gang that are alike, beside others that are not. Fields as in a job."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="gpusched component")

    name: Word = Field(description="Its name in messages and in GPUSCHED_COMPONENT.")
    nodes: Count = Field(1, description="How many nodes.")
    gpus_per_node: CountOrZero = Field(0, description="GPUs on each of its nodes.")
    gpu_model: Word | None = Field(None, description="Matched as words.")
    tasks_per_node: Count = Field(1, description="Ranks on each of its nodes.")
    cpus_per_task: Count = Field(1, description="CPUs of each rank.")
    mem: Size | None = Field(None, description="Host memory on each of its nodes.")
    command: Texts = Field((), description="An argv of its own; default: the job's.")

    def component(self) -> Component:
        """The domain value."""
        return Component(
            name=self.name,
            nodes=self.nodes,
            gpus_per_node=self.gpus_per_node,
            tasks_per_node=self.tasks_per_node,
            cpus_per_task=self.cpus_per_task,
            memory_bytes=self.mem or 0,
            gpu_model=self.gpu_model,
            command=self.command,
        )


class JobFile(BaseModel):
    """One job. Names are Slurm's; sizes are powers of 1024 and a bare number is MiB."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="gpusched job")

    name: Word | None = Field(None, description="Shown in listings; default: from the command or file.")
    run: Command | None = Field(None, description="A list is an argv; a string is a bash script.")
    command: Command | None = Field(None, description="The same as run.")
    script: Words | None = Field(None, description="Path of a script that starts with a #! line.")
    workdir: Words | None = Field(None, description="Default: the directory you submit from.")
    nodes: Count = Field(1, description="How many nodes; all of them or none.")
    gpus_per_node: CountOrZero = Field(0, description="Whole GPUs on each node.")
    gpu_model: Word | None = Field(
        None,
        description="Matched as words: H100 fits 'NVIDIA H100 80GB HBM3'. A bar separates alternatives.",
    )
    gpu_mem: Size | None = Field(None, description="At least this much memory on each GPU.")
    gpu_fraction: Share = Field(WHOLE_MILLI, description="Share of one GPU: counted, not isolated.")
    mig_profile: Word | None = Field(None, description="MIG slices of this profile, 1g.10gb, not whole GPUs.")
    tasks_per_node: Count = Field(1, description="Ranks on each node.")
    cpus_per_task: Count = Field(1, description="CPUs of each rank.")
    mem: Size | None = Field(None, description="Host memory on each node.")
    tmp: Size | None = Field(None, description="Local disk on each node.")
    gres: Counts = Field((), description="What else each node gives, by name: fpga:1.")
    licenses: Counts = Field((), description="Licences of the cluster, held while it runs: matlab:2,vcs.")
    time_limit: TimeLimit | None = Field(None, description=f"{quantities.TIME_FORMS}.")
    account: Word = Field("default", description="Who pays.")
    partition: Word | None = Field(None, description="Default: the cluster's.")
    qos: Word | None = Field(None, description="Quality of service.")
    nice: CountOrZero = Field(0, description="Higher goes later.")
    env: Env = Field((), description="Variables of every rank; nothing else is taken from your shell.")
    setup: Texts = Field((), description="Shell lines run before the command, on every rank.")
    venv: Words | None = Field(None, description="A virtual environment's directory.")
    conda: Word | None = Field(None, description="A conda environment's name or prefix.")
    uv: Words | None = Field(None, description="A uv project's directory.")
    container: Words | None = Field(None, description="An image, run by the node's container runtime.")
    launcher: LauncherName = Field(Launcher.DIRECT, description="Who starts the ranks.")
    signal: Signal = Field(WarningSignal(), description="Sent before the time limit, NAME@SECONDS.")
    kill_wait: Seconds = Field(30, description="Seconds between SIGTERM and SIGKILL.")
    requeue: Flag = Field(False, description="May run again after a node failed.")
    on_disconnect: OnDisconnectName | None = Field(
        None, description="On a cut-off node: fence or keep_running; default: fence what may be requeued."
    )
    restart_on: RestartOnName | None = Field(
        None, description="What requeue is for: infrastructure (the default), or any failure."
    )
    restarts_max: CountOrZero | None = Field(
        None, description="Restarts by itself, in a row; default: 4. An hour of running starts anew."
    )
    min_gpu_utilization: Count | None = Field(
        None, description="Percent of the time that each GPU should be busy (NVML's time busy)."
    )
    utilization_window: Duration = Field(
        3600, description="A GPU that is below it for so long is not used enough."
    )
    on_low_utilization: OnUnderuseName = Field(OnUnderuse.NOTIFY, description="Then: notify, or end.")
    stall_after: StallTime | None = Field(
        STALL_AFTER_S, description="A gang without any sign of work for so long has stalled; or never."
    )
    on_stall: StallActionName = Field(
        StallAction.NOTIFY, description="What follows: notify, or requeue (needs requeue: true)."
    )
    slow_over: Percent | None = Field(
        SLOW_OVER_PERCENT, description="Steps that take so many percent longer are told as slow; or never."
    )
    slow_steps: Count = Field(SLOW_STEPS, description="The steps that must have been slow, at the least.")
    nodelist: Hosts = Field((), description="Only these nodes: n[1-4], a list, or both.")
    exclude: Hosts = Field((), description="Not these nodes.")
    hold: Flag = Field(False, description="Not to be started until released.")
    log_cap: Size = Field(64 << 20, description="Log kept per rank; the oldest output goes first.")
    comment: Words | None = Field(None, description="Free text.")
    topology_required: Word | None = Field(None, description="All nodes in one domain of this level.")
    topology_preferred: Word | None = Field(None, description="As near as this level, if it can be.")
    segment: SegmentText | None = Field(None, description="Ranks that stay together: 8 within rack.")
    spread: SpreadName | None = Field(None, description="Several domains share a gang: fewest, or even.")
    components: tuple[ComponentFile, ...] = Field(
        (), description="Unlike nodes in one gang, in rank order: instead of nodes and what each gives."
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        bodies = [name for name in ("run", "command", "script") if getattr(self, name) is not None]
        if len(bodies) != 1:
            given = f"not both {' and '.join(bodies)}" if bodies else "none is there"
            raise ValueError(f"give exactly one of run, command or script; {given}")
        activations = [kind.value for kind in ActivationKind if getattr(self, kind.value) is not None]
        if len(activations) > 1:
            raise ValueError(f"give at most one of venv, conda and uv, not {' and '.join(activations)}")
        kinds = {"gpu_model": self.gpu_model, "gpu_mem": self.gpu_mem, "mig_profile": self.mig_profile}
        if self.gpus_per_node == 0 and any(kind is not None for kind in kinds.values()):
            raise ValueError(f"{_and(kinds)} need gpus_per_node: say how many GPUs each node must give")
        return self


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}"


def json_schema() -> dict[str, Any]:
    """The JSON Schema of one document of a job file, for editors and checks."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **JobFile.model_json_schema()}
