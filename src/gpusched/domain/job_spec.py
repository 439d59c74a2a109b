"""What a user asks for. Field names are Slurm's; sizes in bytes, durations in seconds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import accumulate

from gpusched.domain.ids import NodeName
from gpusched.domain.job_state import INFRASTRUCTURE_REASONS, EndReason
from gpusched.domain.node import WHOLE_MILLI


class Launcher(StrEnum):
    """Who starts the ranks."""

    DIRECT = "direct"  # gpusched starts tasks_per_node ranks with torch's env:// variables
    TORCHRUN = "torchrun"  # one torchrun per node, for elasticity


class ActivationKind(StrEnum):
    """Kinds of Python environment a job can ask for."""

    VENV = "venv"
    CONDA = "conda"
    UV = "uv"


@dataclass(frozen=True, slots=True)
class Activation:
    """A Python environment to enter first: a venv directory, a conda name or prefix, a uv project."""

    kind: ActivationKind
    target: str


class OnDisconnect(StrEnum):
    """What becomes of a job's ranks on a node that is cut off from the head."""

    FENCE = "fence"  # they end when the node's lease runs out; then, and only then, the job may run elsewhere
    KEEP_RUNNING = "keep_running"  # they go on; the job is never replaced while the node is away


@dataclass(frozen=True, slots=True)
class WarningSignal:
    """Sent to every rank ``lead_s`` seconds before the time limit ends the job."""

    name: str = "SIGUSR1"
    lead_s: int = 60


class RestartOn(StrEnum):
    """After which ends a job marked ``requeue`` runs again by itself."""

    INFRASTRUCTURE = "infrastructure"  # a lost node or supervisor, a drain, a stall: not the job's doing
    ANY = "any"  # and its own failures: a rank that ended badly, no memory, no launch


APPLICATION_REASONS = frozenset({EndReason.RANK_FAILED, EndReason.OUT_OF_MEMORY, EndReason.LAUNCH_FAILED})
"""Ends that are the job's own doing, as far as can be seen."""

RESTARTS_MAX = 4
"""Restarts in a row: five attempts in all, Slurm's MaxBatchRequeue (slurm.conf.5)."""


class StallAction(StrEnum):
    """What is done about a gang that has come to a halt."""

    NOTIFY = "notify"  # it is told, and its stacks are kept
    REQUEUE = "requeue"  # and then it is ended and goes back to the queue


STALL_AFTER_S = 600
"""How long nothing may move before a gang counts as stalled: ByteRobust's figure (arXiv 2509.16293)."""


@dataclass(frozen=True, slots=True)
class StallPolicy:
    """After ``after_s`` without a sign of work on any rank (None: never), ``action`` follows."""

    after_s: int | None
    action: StallAction = StallAction.NOTIFY


SLOW_OVER_PERCENT = 20
SLOW_STEPS = 60


@dataclass(frozen=True, slots=True)
class SlowPolicy:
    """What is told as slow: steps that take ``over_percent`` longer than they would (None: nothing is).

    The steps that count are the last ``steps``, and as many more as it takes to be sure.
    """

    over_percent: int | None
    steps: int = SLOW_STEPS


class OnUnderuse(StrEnum):
    """What is done about a job that holds GPUs and hardly uses them."""

    NOTIFY = "notify"
    END = "end"


@dataclass(frozen=True, slots=True)
class UtilizationPolicy:
    """A GPU that was busy less than ``min_percent`` of the time for the whole of ``window_s`` breaks it."""

    min_percent: int
    window_s: int
    action: OnUnderuse = OnUnderuse.NOTIFY


class Spread(StrEnum):
    """How a gang that needs several topology domains is divided."""

    FEWEST = "fewest"  # the largest part first: as few domains as possible
    EVEN = "even"  # as few as possible, and their parts as equal as possible


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive ranks that stay together: every ``size`` of them inside one domain of ``level``."""

    size: int
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Nodes of a gang that are alike, beside others that are not. Fields as in ``JobSpec``."""

    name: str
    nodes: int = 1
    gpus_per_node: int = 0
    tasks_per_node: int = 1
    cpus_per_task: int = 1
    memory_bytes: int = 0
    gpu_model: str | None = None
    command: tuple[str, ...] = ()  # empty: the job's


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSpec:
    """One job, as submitted. ``check_spec`` says what is wrong with a bad one.

    Exactly one of ``command`` (an argv) and ``script`` (text with a ``#!`` line) is given.
    Every node of the gang gives the same: ``gpus_per_node`` devices, ``tasks_per_node``
    ranks of ``cpus_per_task`` CPUs, ``memory_bytes``, ``disk_bytes``, ``gres``. The cluster as a whole
    gives ``licenses``, for as long as the attempt holds its nodes.
    """

    name: str
    command: tuple[str, ...] = ()
    script: str | None = None
    workdir: str = "/"
    nodes: int = 1
    gpus_per_node: int = 0
    tasks_per_node: int = 1
    cpus_per_task: int = 1
    memory_bytes: int = 0  # per node; 0 asks for none in particular
    gpu_model: str | None = None  # as words: "H100" fits "NVIDIA H100 80GB HBM3"; "A100|H100": either
    gpu_memory_bytes: int | None = None  # at least this much on each device
    gpu_milli: int = WHOLE_MILLI  # thousandths of each device; below 1000 of one that others share
    mig_profile: str | None = None  # "1g.10gb": MIG slices of this profile; None: whole GPUs
    disk_bytes: int = 0  # of local scratch disk, per node
    gres: tuple[tuple[str, int], ...] = ()  # generic counters per node, by name
    licenses: tuple[tuple[str, int], ...] = ()  # of the whole cluster, by name
    time_limit_s: int | None = None
    account: str = "default"
    partition: str | None = None  # None: the cluster's default partition
    qos: str | None = None
    nice: int = 0  # higher goes later
    env: tuple[tuple[str, str], ...] = ()
    activation: Activation | None = None
    setup: tuple[str, ...] = ()  # shell lines run before the command, on every rank
    container: str | None = None  # an image, run by the container runtime of the node if it has one
    launcher: Launcher = Launcher.DIRECT
    signal: WarningSignal = field(default_factory=WarningSignal)
    kill_wait_s: int = 30  # between SIGTERM and SIGKILL
    requeue: bool = False  # may run again after an infrastructure failure
    restart_on: RestartOn | None = None  # what ``requeue`` is for; None: INFRASTRUCTURE
    restarts_max: int | None = None  # by itself, in a row; None: RESTARTS_MAX
    on_disconnect: OnDisconnect | None = None  # None: fence what may be replaced (``requeue``), keep the rest
    stall: StallPolicy | None = None  # None: a gang of several ranks is watched, and its stall told
    slow: SlowPolicy | None = None  # None: the same for slowness
    utilization: UtilizationPolicy | None = None
    nodelist: tuple[NodeName, ...] = ()  # only these nodes
    exclude: tuple[NodeName, ...] = ()
    hold: bool = False
    log_cap_bytes: int = 64 << 20  # per rank; the oldest output goes first
    comment: str | None = None
    topology_required: str | None = None  # all nodes inside one domain of this level, or not at all
    topology_preferred: str | None = None  # inside one of this level, else of the next wider, else several
    segment: Segment | None = None
    spread: Spread | None = None  # None: FEWEST
    components: tuple[Component, ...] = ()  # of unlike nodes, in rank order; ``nodes`` is their sum

    @property
    def parts(self) -> tuple[JobSpec, ...]:
        """What every component asks for, each as a job of like nodes; the job itself if it has none."""
        if not self.components:
            return (self,)
        return tuple(
            replace(
                self,
                components=(),
                nodes=part.nodes,
                gpus_per_node=part.gpus_per_node,
                tasks_per_node=part.tasks_per_node,
                cpus_per_task=part.cpus_per_task,
                memory_bytes=part.memory_bytes,
                gpu_model=part.gpu_model,
                command=part.command or self.command,
            )
            for part in self.components
        )

    @property
    def parts_by_node(self) -> tuple[JobSpec, ...]:
        """(nodes,) what each node of the gang gives, in the order of their ranks."""
        return tuple(part for part in self.parts for _ in range(part.nodes))

    @property
    def is_fenced(self) -> bool:
        """Whether its ranks end with their node's lease: the price of being replaced elsewhere."""
        if self.on_disconnect is None:
            return self.requeue
        return self.on_disconnect is OnDisconnect.FENCE

    @property
    def stall_policy(self) -> StallPolicy:
        """The policy in force. A single rank waits for nobody, so it is watched only if asked for."""
        if self.stall is not None:
            return self.stall
        return StallPolicy(STALL_AFTER_S) if self.world_size > 1 else StallPolicy(after_s=None)

    @property
    def slow_policy(self) -> SlowPolicy:
        """The policy in force: a job of one rank is watched only if asked for."""
        if self.slow is not None:
            return self.slow
        return SlowPolicy(SLOW_OVER_PERCENT if self.world_size > 1 else None)

    def may_restart_after(self, reason: EndReason) -> bool:
        """Whether the job runs again by itself when an attempt ended for ``reason``."""
        if not self.requeue:
            return False
        return reason in INFRASTRUCTURE_REASONS or (
            self.restart_on is RestartOn.ANY and reason in APPLICATION_REASONS
        )

    @property
    def restart_limit(self) -> int:
        """How often in a row it runs again by itself; then it is held, or its failure stands."""
        return RESTARTS_MAX if self.restarts_max is None else self.restarts_max

    @property
    def world_size(self) -> int:
        """Number of ranks over all nodes."""
        if self.components:
            return sum(part.nodes * part.tasks_per_node for part in self.components)
        return self.nodes * self.tasks_per_node

    def node_of_rank(self, global_rank: int) -> int:
        """The node rank on which a rank runs."""
        if not self.components:
            return global_rank // self.tasks_per_node
        ends = accumulate(part.tasks_per_node for part in self.parts_by_node)
        return next(node for node, end in enumerate(ends) if global_rank < end)

    @property
    def has_topology_wishes(self) -> bool:
        """Whether it matters to the job which of the nodes that fit it gets."""
        wishes = (self.topology_required, self.topology_preferred, self.segment, self.spread)
        return bool(self.components) or any(wish is not None for wish in wishes)

    @property
    def cpus_per_node(self) -> int:
        """CPUs each node must give."""
        return self.tasks_per_node * self.cpus_per_task

    @property
    def gpu_count(self) -> int:
        """Devices over all nodes, whole or shared."""
        if self.components:
            return sum(part.nodes * part.gpus_per_node for part in self.components)
        return self.nodes * self.gpus_per_node

    @property
    def is_gpu_shared(self) -> bool:
        """Whether it asks for a part of a device, beside which others run."""
        return self.gpu_milli < WHOLE_MILLI

    @property
    def gpu_milli_total(self) -> int:
        """GPUs over all nodes, in thousandths of a device."""
        return self.gpu_count * self.gpu_milli
