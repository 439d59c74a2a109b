"""Facts: what happened, in the past tense. With ``commands.py`` this is the system's vocabulary.

Every event is about one job or one node. Its sequence number and time are in the envelope
(``Recorded``), so a fact is the same value wherever it stands.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpusched.domain.allocation import Allocation
from gpusched.domain.health import Condition, HealthAction, HealthObserved, Outage, Repair
from gpusched.domain.history import Ahead
from gpusched.domain.identity import Identity
from gpusched.domain.ids import Epoch, JobId, NodeName
from gpusched.domain.job import TaskExit
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.node import NodeFacts
from gpusched.domain.telemetry import NodeUse

# ── jobs ──────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSubmitted:
    """Accepted. From here on it is never lost."""

    job_id: JobId
    spec: JobSpec
    owner: Identity


@dataclass(frozen=True, slots=True, kw_only=True)
class JobHeld:
    """Not to be started until released."""

    job_id: JobId
    by: str
    for_s: int | None = None  # then the head itself releases it; None: somebody has to


@dataclass(frozen=True, slots=True, kw_only=True)
class JobReleased:
    """The hold is lifted."""

    job_id: JobId
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobAllocated:
    """A grant: attempt ``epoch`` begins."""

    job_id: JobId
    epoch: Epoch
    allocation: Allocation


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksStarted:
    """All ranks of one node run. From the agent."""

    job_id: JobId
    epoch: Epoch
    node: NodeName
    pids: tuple[int, ...]  # by local rank


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFailed:
    """A rank ended with a failure while others may still run. From the agent."""

    job_id: JobId
    epoch: Epoch
    node: NodeName
    exit: TaskExit
    last_lines: tuple[str, ...]  # of its output
    cause: EndReason | None = None  # why, if its node knows more than the exit says


@dataclass(frozen=True, slots=True, kw_only=True)
class TasksEnded:
    """One node holds no process of the attempt any more. From the agent."""

    job_id: JobId
    epoch: Epoch
    node: NodeName
    exits: tuple[TaskExit, ...]
    cause: EndReason | None  # decided on the node: time limit, launch failed, shim lost, reboot ...
    detail: str | None
    use: NodeUse


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStalled:
    """The gang shows no sign of work any more; it seems to wait for this rank. From the head."""

    job_id: JobId
    epoch: Epoch
    global_rank: int
    node: NodeName
    quiet_s: int  # how long that rank has shown none
    evidence: str  # what was seen, as a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class JobUnderused:
    """A GPU of the attempt was hardly used for as long as its policy says. From the head, once an attempt."""

    job_id: JobId
    epoch: Epoch
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StallEnded:
    """A gang that had stalled works again. From the head."""

    job_id: JobId
    epoch: Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSlowed:
    """A rank holds its gang up; without one, the gang's steps take longer than they took. From the head."""

    job_id: JobId
    epoch: Epoch
    evidence: str  # what was measured, as a sentence
    global_rank: int | None = None
    node: NodeName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlownessEnded:
    """The last ``JobSlowed`` of the attempt is true no more. From the head."""

    job_id: JobId
    epoch: Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptStopping:
    """Decided: the whole gang is being ended, for this reason."""

    job_id: JobId
    epoch: Epoch
    reason: EndReason
    detail: str | None
    by: str | None  # who asked, if somebody did
    exit_code: int | None
    node: NodeName | None = None  # whose fault it is, if it is one node's


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptEnded:
    """Every node is free of it: the allocation is over."""

    job_id: JobId
    epoch: Epoch
    reason: EndReason
    detail: str | None
    exit_code: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequeued:
    """Back to the queue for another attempt."""

    job_id: JobId
    epoch: Epoch  # of the attempt that ended


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEnded:
    """Terminal. Exactly one per job."""

    job_id: JobId
    state: JobState
    reason: EndReason
    detail: str | None
    exit_code: int | None


# ── nodes ─────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeJoined:
    """A node's agent connected for the first time, or its facts changed."""

    node: NodeName
    facts: NodeFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLost:
    """Silent too long. Its jobs are neither ended nor moved by this."""

    node: NodeName
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReturned:
    """Heard from again."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCordoned:
    """No new work."""

    node: NodeName
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDrainStarted:
    """Cordoned; what still runs at the deadline is ended (and requeued if it may be)."""

    node: NodeName
    by: str
    reason: str
    deadline_us: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDrained:
    """Cordoned and empty."""

    node: NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeResumed:
    """Open for work again."""

    node: NodeName
    by: str


# ── the health of nodes ───────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReported:
    """The agent observes a condition that it did not before, or saw an Xid."""

    node: NodeName
    condition: Condition
    observed_us: int | None  # of a sighting; None for a condition that holds
    users: tuple[str, ...]  # whose jobs held the device, or the node


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCleared:
    """The agent does not observe the condition any more."""

    node: NodeName
    condition: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthJudged:
    """Decided: what the condition calls for."""

    node: NodeName
    condition: Condition
    action: HealthAction


@dataclass(frozen=True, slots=True, kw_only=True)
class OutageBegan:
    """The node, or devices of it, get no new work until cured and checked."""

    node: NodeName
    outage: Outage


@dataclass(frozen=True, slots=True, kw_only=True)
class OutagesEnded:
    """What these kept out may be used again."""

    node: NodeName
    outages: tuple[Outage, ...]
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairStarted:
    """What is out is free of work: the node is told to reset its devices and to check itself."""

    node: NodeName
    repair: Repair


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairEnded:
    """The reset and the check are over; they are well if there are no failures. From the agent."""

    node: NodeName
    number: int
    failures: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFaulted:
    """An attempt ended through this node's fault."""

    node: NodeName
    job_id: JobId
    epoch: Epoch
    reason: EndReason


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerTripped:
    """Policy would take this node, or devices of it, out of service, and too many are out already."""

    node: NodeName
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerReset:
    """An operator lets policy take nodes out again. Recorded for each node that counted."""

    node: NodeName
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAhead:
    """A node has seen more than the database holds: that went back in time, and nothing is started."""

    node: NodeName
    ahead: Ahead


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReconciled:
    """A node that was ahead is not any more: an operator has accepted the loss, or the history is back."""

    node: NodeName


HealthEvent = (
    HealthReported
    | HealthCleared
    | HealthJudged
    | OutageBegan
    | OutagesEnded
    | RepairStarted
    | RepairEnded
    | NodeFaulted
    | BreakerTripped
    | BreakerReset
)
"""What changes ``Node.health``."""

HealthReport = HealthObserved | RepairEnded
"""What agents report of the machine itself."""

AgentReport = TasksStarted | TaskFailed | TasksEnded
"""Facts of attempts that agents report; repeated until acknowledged, so the engine must take each once."""

JobEvent = (
    JobSubmitted
    | JobHeld
    | JobReleased
    | JobAllocated
    | TasksStarted
    | TaskFailed
    | TasksEnded
    | JobStalled
    | StallEnded
    | JobUnderused
    | JobSlowed
    | SlownessEnded
    | AttemptStopping
    | AttemptEnded
    | JobRequeued
    | JobEnded
)
NodeEvent = (
    NodeJoined
    | NodeAhead
    | NodeReconciled
    | NodeLost
    | NodeReturned
    | NodeCordoned
    | NodeDrainStarted
    | NodeDrained
    | NodeResumed
    | HealthReported
    | HealthCleared
    | HealthJudged
    | OutageBegan
    | OutagesEnded
    | RepairStarted
    | RepairEnded
    | NodeFaulted
    | BreakerTripped
    | BreakerReset
)
Event = JobEvent | NodeEvent


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event in the log: ``seq`` is gap-free from 1, ``at_us`` is the head's wall clock."""

    seq: int
    at_us: int
    event: Event
