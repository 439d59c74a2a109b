"""What comes into the engine: requests that want an answer, and facts that want none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpusched.domain.commands import Queued
from gpusched.domain.events import AgentReport, HealthReport
from gpusched.domain.history import Mark
from gpusched.domain.identity import Principal
from gpusched.domain.ids import AttemptId, JobId, NodeName, RequestId
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import NodeFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Accept all of these jobs or none."""

    who: Principal
    request_id: RequestId
    specs: Sequence[JobSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelJob:
    """End a job wherever it is."""

    who: Principal
    request_id: RequestId
    job_id: JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldJob:
    """Keep a pending job from starting."""

    who: Principal
    request_id: RequestId
    job_id: JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseJob:
    """Lift a hold."""

    who: Principal
    request_id: RequestId
    job_id: JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class RequeueJob:
    """End the running attempt and queue the job again. The owner asks for a second run by this."""

    who: Principal
    request_id: RequestId
    job_id: JobId
    hold: bool = False  # it comes back to the queue held: others may go where it was


@dataclass(frozen=True, slots=True, kw_only=True)
class CordonNode:
    """No new work on a node."""

    who: Principal
    request_id: RequestId
    node: NodeName
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainNode:
    """Cordon, wait, and after ``deadline_s`` end what remains."""

    who: Principal
    request_id: RequestId
    node: NodeName
    reason: str
    deadline_s: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeNode:
    """Open a node for work again."""

    who: Principal
    request_id: RequestId
    node: NodeName


JobRequest = CancelJob | HoldJob | ReleaseJob | RequeueJob


@dataclass(frozen=True, slots=True, kw_only=True)
class ResetBreaker:
    """Let policy take nodes out of service again."""

    who: Principal
    request_id: RequestId


NodeRequest = CordonNode | DrainNode | ResumeNode
Request = Submit | JobRequest | NodeRequest | ResetBreaker


@dataclass(frozen=True, slots=True)
class NodeConnected:
    """An agent said hello: its facts, and the attempts it holds."""

    facts: NodeFacts
    attempts: tuple[AttemptId, ...]
    mark: Mark | None = None  # how far its node has seen


@dataclass(frozen=True, slots=True)
class NodeSilent:
    """Nothing was heard from a node for longer than the limit."""

    node: NodeName
    silent_s: float


@dataclass(frozen=True, slots=True)
class LeaseEnded:
    """A node's lease has run out by the head's clock, drift and grace included: its fenced ranks are gone."""

    node: NodeName
    silent_s: float


@dataclass(frozen=True, slots=True)
class NodeHeard:
    """A node that was given up as lost sent a heartbeat."""

    node: NodeName


@dataclass(frozen=True, slots=True)
class DrainDeadlinePassed:
    """What still runs on a draining node must end."""

    node: NodeName


@dataclass(frozen=True, slots=True)
class Reported:
    """A fact from an agent, perhaps not for the first time."""

    node: NodeName
    fact: AgentReport | HealthReport


@dataclass(frozen=True, slots=True)
class HealthDue:
    """A finding of the node has waited long enough for others that would explain it."""

    node: NodeName


@dataclass(frozen=True, slots=True)
class CommandAcknowledged:
    """A node has taken a command; the outbox may forget it. Another node's command is not its to take."""

    node: NodeName
    command_seq: int


@dataclass(frozen=True, slots=True)
class CommandNotKnown:
    """A node's agent has no words for an order: what waits for the answer has to be told."""

    node: NodeName
    queued: Queued
    why: str


@dataclass(frozen=True, slots=True)
class DelayPassed:
    """A job has waited long enough before its next attempt."""

    job_id: JobId


@dataclass(frozen=True, slots=True)
class GangStalled:
    """No rank of an attempt shows work any more; the others seem to wait for ``global_rank``."""

    attempt_id: AttemptId
    node: NodeName
    global_rank: int
    quiet_s: int
    evidence: str


@dataclass(frozen=True, slots=True)
class GpusUnderused:
    """An attempt holds a GPU that it hardly uses."""

    attempt_id: AttemptId
    evidence: str


@dataclass(frozen=True, slots=True)
class GangMoves:
    """An attempt that had stalled shows work again."""

    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class GangSlowed:
    """A rank holds its gang up; without one, the gang is slower than it was."""

    attempt_id: AttemptId
    evidence: str
    global_rank: int | None = None
    node: NodeName | None = None


@dataclass(frozen=True, slots=True)
class GangRecovered:
    """What was last told of an attempt as slow is over."""

    attempt_id: AttemptId


Fact = (
    NodeConnected
    | NodeSilent
    | LeaseEnded
    | NodeHeard
    | DrainDeadlinePassed
    | HealthDue
    | DelayPassed
    | GangStalled
    | GpusUnderused
    | GangMoves
    | GangSlowed
    | GangRecovered
    | Reported
    | CommandAcknowledged
    | CommandNotKnown
)
