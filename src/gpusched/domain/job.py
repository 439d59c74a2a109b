"""A job as the engine knows it: the fold of its events."""

from __future__ import annotations

from dataclasses import dataclass

from gpusched.domain.allocation import Allocation
from gpusched.domain.identity import Identity
from gpusched.domain.ids import AttemptId, Epoch, JobId, NodeName
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import EndReason, JobState


@dataclass(frozen=True, slots=True)
class TaskExit:
    """How one rank ended: an exit code, or the signal that killed it."""

    global_rank: int
    exit_code: int | None
    signal: int | None

    @property
    def is_success(self) -> bool:
        """Exit code 0."""
        return self.exit_code == 0

    @property
    def shell_code(self) -> int:
        """The code a shell would show: 128 + signal for a killed rank."""
        return self.exit_code if self.exit_code is not None else 128 + (self.signal or 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stall:
    """A gang that has come to a halt, and the rank that it waits for, as far as that can be seen."""

    global_rank: int
    node: NodeName
    noticed_at_us: int
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Slowness:
    """A rank that holds its gang up; without one, a gang whose steps take longer than they took."""

    noticed_at_us: int
    evidence: str
    global_rank: int | None = None
    node: NodeName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The current or last try of a job."""

    epoch: Epoch
    allocation: Allocation
    nodes_started: frozenset[NodeName] = frozenset()
    nodes_ended: frozenset[NodeName] = frozenset()
    running_at_us: int | None = None  # every node has reported its ranks started
    stop_reason: EndReason | None = None  # decided: the gang is being ended
    stop_detail: str | None = None
    stop_by: str | None = None
    exit_code: int | None = None  # of the first rank that failed, else 0 at the end
    stall: Stall | None = None  # now; None again when it moves on
    slowness: Slowness | None = None  # now; None again when it is over
    underused: str | None = None  # which of its GPUs it hardly used, once that was noticed

    @property
    def node_names(self) -> tuple[NodeName, ...]:
        """Its nodes in rank order."""
        return tuple(part.node for part in self.allocation.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One job now. ``attempt`` stays after the end, so that the last try can be shown."""

    job_id: JobId
    spec: JobSpec
    owner: Identity
    submitted_at_us: int
    state: JobState = JobState.PENDING
    is_held: bool = False
    held_until_us: int | None = None  # the head lets it go then; None: somebody has to
    restarts: int = 0  # by itself, in a row
    attempt: Attempt | None = None
    started_at_us: int | None = None  # of the last attempt: its grant
    ended_at_us: int | None = None
    end_reason: EndReason | None = None
    end_detail: str | None = None
    exit_code: int | None = None
    failed_on: tuple[NodeName, ...] = ()  # nodes whose fault ended attempts: later ones go elsewhere

    @property
    def attempt_id(self) -> AttemptId | None:
        """The current or last attempt's name."""
        return None if self.attempt is None else AttemptId(self.job_id, self.attempt.epoch)

    @property
    def next_epoch(self) -> Epoch:
        """The epoch the next attempt will carry."""
        return Epoch(1 if self.attempt is None else self.attempt.epoch + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """All given conditions must hold; empty means any."""

    states: tuple[JobState, ...] = ()
    user: str | None = None
    account: str | None = None
    partition: str | None = None
    name: str | None = None
    node: NodeName | None = None
