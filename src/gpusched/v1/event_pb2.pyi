from gpusched.v1 import health_pb2 as _health_pb2
from gpusched.v1 import job_pb2 as _job_pb2
from gpusched.v1 import node_pb2 as _node_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobSubmitted(_message.Message):
    __slots__ = ("job_id", "spec", "owner")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    spec: _job_pb2.JobSpec
    owner: _job_pb2.Identity
    def __init__(self, job_id: _Optional[int] = ..., spec: _Optional[_Union[_job_pb2.JobSpec, _Mapping]] = ..., owner: _Optional[_Union[_job_pb2.Identity, _Mapping]] = ...) -> None: ...

class JobHeld(_message.Message):
    __slots__ = ("job_id", "by", "for_s")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    FOR_S_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    by: str
    for_s: int
    def __init__(self, job_id: _Optional[int] = ..., by: _Optional[str] = ..., for_s: _Optional[int] = ...) -> None: ...

class JobReleased(_message.Message):
    __slots__ = ("job_id", "by")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    by: str
    def __init__(self, job_id: _Optional[int] = ..., by: _Optional[str] = ...) -> None: ...

class JobAllocated(_message.Message):
    __slots__ = ("job_id", "epoch", "allocation")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ALLOCATION_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    allocation: _job_pb2.Allocation
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., allocation: _Optional[_Union[_job_pb2.Allocation, _Mapping]] = ...) -> None: ...

class TasksStarted(_message.Message):
    __slots__ = ("job_id", "epoch", "node", "pids")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    PIDS_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    node: str
    pids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., node: _Optional[str] = ..., pids: _Optional[_Iterable[int]] = ...) -> None: ...

class TaskFailed(_message.Message):
    __slots__ = ("job_id", "epoch", "node", "exit", "last_lines", "cause")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    EXIT_FIELD_NUMBER: _ClassVar[int]
    LAST_LINES_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    node: str
    exit: _job_pb2.TaskExit
    last_lines: _containers.RepeatedScalarFieldContainer[str]
    cause: _job_pb2.EndReason
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., node: _Optional[str] = ..., exit: _Optional[_Union[_job_pb2.TaskExit, _Mapping]] = ..., last_lines: _Optional[_Iterable[str]] = ..., cause: _Optional[_Union[_job_pb2.EndReason, str]] = ...) -> None: ...

class TasksEnded(_message.Message):
    __slots__ = ("job_id", "epoch", "node", "exits", "cause", "detail", "use")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    EXITS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    node: str
    exits: _containers.RepeatedCompositeFieldContainer[_job_pb2.TaskExit]
    cause: _job_pb2.EndReason
    detail: str
    use: _job_pb2.NodeUse
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., node: _Optional[str] = ..., exits: _Optional[_Iterable[_Union[_job_pb2.TaskExit, _Mapping]]] = ..., cause: _Optional[_Union[_job_pb2.EndReason, str]] = ..., detail: _Optional[str] = ..., use: _Optional[_Union[_job_pb2.NodeUse, _Mapping]] = ...) -> None: ...

class JobStalled(_message.Message):
    __slots__ = ("job_id", "epoch", "global_rank", "node", "quiet_s", "evidence")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_RANK_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    QUIET_S_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    global_rank: int
    node: str
    quiet_s: int
    evidence: str
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., global_rank: _Optional[int] = ..., node: _Optional[str] = ..., quiet_s: _Optional[int] = ..., evidence: _Optional[str] = ...) -> None: ...

class JobUnderused(_message.Message):
    __slots__ = ("job_id", "epoch", "evidence")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    evidence: str
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., evidence: _Optional[str] = ...) -> None: ...

class StallEnded(_message.Message):
    __slots__ = ("job_id", "epoch")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class JobSlowed(_message.Message):
    __slots__ = ("job_id", "epoch", "evidence", "global_rank", "node")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_RANK_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    evidence: str
    global_rank: int
    node: str
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., evidence: _Optional[str] = ..., global_rank: _Optional[int] = ..., node: _Optional[str] = ...) -> None: ...

class SlownessEnded(_message.Message):
    __slots__ = ("job_id", "epoch")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class AttemptStopping(_message.Message):
    __slots__ = ("job_id", "epoch", "reason", "detail", "by", "exit_code", "node")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    reason: _job_pb2.EndReason
    detail: str
    by: str
    exit_code: int
    node: str
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., reason: _Optional[_Union[_job_pb2.EndReason, str]] = ..., detail: _Optional[str] = ..., by: _Optional[str] = ..., exit_code: _Optional[int] = ..., node: _Optional[str] = ...) -> None: ...

class AttemptEnded(_message.Message):
    __slots__ = ("job_id", "epoch", "reason", "detail", "exit_code")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    reason: _job_pb2.EndReason
    detail: str
    exit_code: int
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., reason: _Optional[_Union[_job_pb2.EndReason, str]] = ..., detail: _Optional[str] = ..., exit_code: _Optional[int] = ...) -> None: ...

class JobRequeued(_message.Message):
    __slots__ = ("job_id", "epoch")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class JobEnded(_message.Message):
    __slots__ = ("job_id", "state", "reason", "detail", "exit_code")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    state: _job_pb2.JobState
    reason: _job_pb2.EndReason
    detail: str
    exit_code: int
    def __init__(self, job_id: _Optional[int] = ..., state: _Optional[_Union[_job_pb2.JobState, str]] = ..., reason: _Optional[_Union[_job_pb2.EndReason, str]] = ..., detail: _Optional[str] = ..., exit_code: _Optional[int] = ...) -> None: ...

class NodeJoined(_message.Message):
    __slots__ = ("node", "facts")
    NODE_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    node: str
    facts: _node_pb2.NodeFacts
    def __init__(self, node: _Optional[str] = ..., facts: _Optional[_Union[_node_pb2.NodeFacts, _Mapping]] = ...) -> None: ...

class NodeLost(_message.Message):
    __slots__ = ("node", "detail")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    node: str
    detail: str
    def __init__(self, node: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class NodeReturned(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class NodeCordoned(_message.Message):
    __slots__ = ("node", "by", "reason")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node: str
    by: str
    reason: str
    def __init__(self, node: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class NodeDrainStarted(_message.Message):
    __slots__ = ("node", "by", "reason", "deadline_us")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_US_FIELD_NUMBER: _ClassVar[int]
    node: str
    by: str
    reason: str
    deadline_us: int
    def __init__(self, node: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ..., deadline_us: _Optional[int] = ...) -> None: ...

class NodeDrained(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class NodeAhead(_message.Message):
    __slots__ = ("node", "ahead")
    NODE_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    node: str
    ahead: _node_pb2.Ahead
    def __init__(self, node: _Optional[str] = ..., ahead: _Optional[_Union[_node_pb2.Ahead, _Mapping]] = ...) -> None: ...

class NodeReconciled(_message.Message):
    __slots__ = ("node",)
    NODE_FIELD_NUMBER: _ClassVar[int]
    node: str
    def __init__(self, node: _Optional[str] = ...) -> None: ...

class NodeResumed(_message.Message):
    __slots__ = ("node", "by")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    node: str
    by: str
    def __init__(self, node: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class HealthReported(_message.Message):
    __slots__ = ("node", "condition", "observed_us", "users")
    NODE_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_US_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    node: str
    condition: _health_pb2.Condition
    observed_us: int
    users: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node: _Optional[str] = ..., condition: _Optional[_Union[_health_pb2.Condition, _Mapping]] = ..., observed_us: _Optional[int] = ..., users: _Optional[_Iterable[str]] = ...) -> None: ...

class HealthCleared(_message.Message):
    __slots__ = ("node", "condition")
    NODE_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    node: str
    condition: _health_pb2.Condition
    def __init__(self, node: _Optional[str] = ..., condition: _Optional[_Union[_health_pb2.Condition, _Mapping]] = ...) -> None: ...

class HealthJudged(_message.Message):
    __slots__ = ("node", "condition", "action")
    NODE_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    node: str
    condition: _health_pb2.Condition
    action: str
    def __init__(self, node: _Optional[str] = ..., condition: _Optional[_Union[_health_pb2.Condition, _Mapping]] = ..., action: _Optional[str] = ...) -> None: ...

class OutageBegan(_message.Message):
    __slots__ = ("node", "outage")
    NODE_FIELD_NUMBER: _ClassVar[int]
    OUTAGE_FIELD_NUMBER: _ClassVar[int]
    node: str
    outage: _health_pb2.Outage
    def __init__(self, node: _Optional[str] = ..., outage: _Optional[_Union[_health_pb2.Outage, _Mapping]] = ...) -> None: ...

class OutagesEnded(_message.Message):
    __slots__ = ("node", "outages", "by")
    NODE_FIELD_NUMBER: _ClassVar[int]
    OUTAGES_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    node: str
    outages: _containers.RepeatedCompositeFieldContainer[_health_pb2.Outage]
    by: str
    def __init__(self, node: _Optional[str] = ..., outages: _Optional[_Iterable[_Union[_health_pb2.Outage, _Mapping]]] = ..., by: _Optional[str] = ...) -> None: ...

class RepairStarted(_message.Message):
    __slots__ = ("node", "repair")
    NODE_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    node: str
    repair: _health_pb2.Repair
    def __init__(self, node: _Optional[str] = ..., repair: _Optional[_Union[_health_pb2.Repair, _Mapping]] = ...) -> None: ...

class RepairEnded(_message.Message):
    __slots__ = ("node", "number", "failures")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    node: str
    number: int
    failures: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node: _Optional[str] = ..., number: _Optional[int] = ..., failures: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeFaulted(_message.Message):
    __slots__ = ("node", "job_id", "epoch", "reason")
    NODE_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node: str
    job_id: int
    epoch: int
    reason: _job_pb2.EndReason
    def __init__(self, node: _Optional[str] = ..., job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., reason: _Optional[_Union[_job_pb2.EndReason, str]] = ...) -> None: ...

class BreakerTripped(_message.Message):
    __slots__ = ("node", "detail")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    node: str
    detail: str
    def __init__(self, node: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class BreakerReset(_message.Message):
    __slots__ = ("node", "by")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    node: str
    by: str
    def __init__(self, node: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("seq", "at_us", "job_submitted", "job_held", "job_released", "job_allocated", "tasks_started", "task_failed", "tasks_ended", "attempt_stopping", "attempt_ended", "job_requeued", "job_ended", "job_stalled", "stall_ended", "job_underused", "job_slowed", "slowness_ended", "node_joined", "node_lost", "node_returned", "node_cordoned", "node_drain_started", "node_drained", "node_resumed", "health_reported", "health_cleared", "health_judged", "outage_began", "outages_ended", "repair_started", "repair_ended", "node_faulted", "breaker_tripped", "breaker_reset", "node_ahead", "node_reconciled")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    AT_US_FIELD_NUMBER: _ClassVar[int]
    JOB_SUBMITTED_FIELD_NUMBER: _ClassVar[int]
    JOB_HELD_FIELD_NUMBER: _ClassVar[int]
    JOB_RELEASED_FIELD_NUMBER: _ClassVar[int]
    JOB_ALLOCATED_FIELD_NUMBER: _ClassVar[int]
    TASKS_STARTED_FIELD_NUMBER: _ClassVar[int]
    TASK_FAILED_FIELD_NUMBER: _ClassVar[int]
    TASKS_ENDED_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_STOPPING_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_ENDED_FIELD_NUMBER: _ClassVar[int]
    JOB_REQUEUED_FIELD_NUMBER: _ClassVar[int]
    JOB_ENDED_FIELD_NUMBER: _ClassVar[int]
    JOB_STALLED_FIELD_NUMBER: _ClassVar[int]
    STALL_ENDED_FIELD_NUMBER: _ClassVar[int]
    JOB_UNDERUSED_FIELD_NUMBER: _ClassVar[int]
    JOB_SLOWED_FIELD_NUMBER: _ClassVar[int]
    SLOWNESS_ENDED_FIELD_NUMBER: _ClassVar[int]
    NODE_JOINED_FIELD_NUMBER: _ClassVar[int]
    NODE_LOST_FIELD_NUMBER: _ClassVar[int]
    NODE_RETURNED_FIELD_NUMBER: _ClassVar[int]
    NODE_CORDONED_FIELD_NUMBER: _ClassVar[int]
    NODE_DRAIN_STARTED_FIELD_NUMBER: _ClassVar[int]
    NODE_DRAINED_FIELD_NUMBER: _ClassVar[int]
    NODE_RESUMED_FIELD_NUMBER: _ClassVar[int]
    HEALTH_REPORTED_FIELD_NUMBER: _ClassVar[int]
    HEALTH_CLEARED_FIELD_NUMBER: _ClassVar[int]
    HEALTH_JUDGED_FIELD_NUMBER: _ClassVar[int]
    OUTAGE_BEGAN_FIELD_NUMBER: _ClassVar[int]
    OUTAGES_ENDED_FIELD_NUMBER: _ClassVar[int]
    REPAIR_STARTED_FIELD_NUMBER: _ClassVar[int]
    REPAIR_ENDED_FIELD_NUMBER: _ClassVar[int]
    NODE_FAULTED_FIELD_NUMBER: _ClassVar[int]
    BREAKER_TRIPPED_FIELD_NUMBER: _ClassVar[int]
    BREAKER_RESET_FIELD_NUMBER: _ClassVar[int]
    NODE_AHEAD_FIELD_NUMBER: _ClassVar[int]
    NODE_RECONCILED_FIELD_NUMBER: _ClassVar[int]
    seq: int
    at_us: int
    job_submitted: JobSubmitted
    job_held: JobHeld
    job_released: JobReleased
    job_allocated: JobAllocated
    tasks_started: TasksStarted
    task_failed: TaskFailed
    tasks_ended: TasksEnded
    attempt_stopping: AttemptStopping
    attempt_ended: AttemptEnded
    job_requeued: JobRequeued
    job_ended: JobEnded
    job_stalled: JobStalled
    stall_ended: StallEnded
    job_underused: JobUnderused
    job_slowed: JobSlowed
    slowness_ended: SlownessEnded
    node_joined: NodeJoined
    node_lost: NodeLost
    node_returned: NodeReturned
    node_cordoned: NodeCordoned
    node_drain_started: NodeDrainStarted
    node_drained: NodeDrained
    node_resumed: NodeResumed
    health_reported: HealthReported
    health_cleared: HealthCleared
    health_judged: HealthJudged
    outage_began: OutageBegan
    outages_ended: OutagesEnded
    repair_started: RepairStarted
    repair_ended: RepairEnded
    node_faulted: NodeFaulted
    breaker_tripped: BreakerTripped
    breaker_reset: BreakerReset
    node_ahead: NodeAhead
    node_reconciled: NodeReconciled
    def __init__(self, seq: _Optional[int] = ..., at_us: _Optional[int] = ..., job_submitted: _Optional[_Union[JobSubmitted, _Mapping]] = ..., job_held: _Optional[_Union[JobHeld, _Mapping]] = ..., job_released: _Optional[_Union[JobReleased, _Mapping]] = ..., job_allocated: _Optional[_Union[JobAllocated, _Mapping]] = ..., tasks_started: _Optional[_Union[TasksStarted, _Mapping]] = ..., task_failed: _Optional[_Union[TaskFailed, _Mapping]] = ..., tasks_ended: _Optional[_Union[TasksEnded, _Mapping]] = ..., attempt_stopping: _Optional[_Union[AttemptStopping, _Mapping]] = ..., attempt_ended: _Optional[_Union[AttemptEnded, _Mapping]] = ..., job_requeued: _Optional[_Union[JobRequeued, _Mapping]] = ..., job_ended: _Optional[_Union[JobEnded, _Mapping]] = ..., job_stalled: _Optional[_Union[JobStalled, _Mapping]] = ..., stall_ended: _Optional[_Union[StallEnded, _Mapping]] = ..., job_underused: _Optional[_Union[JobUnderused, _Mapping]] = ..., job_slowed: _Optional[_Union[JobSlowed, _Mapping]] = ..., slowness_ended: _Optional[_Union[SlownessEnded, _Mapping]] = ..., node_joined: _Optional[_Union[NodeJoined, _Mapping]] = ..., node_lost: _Optional[_Union[NodeLost, _Mapping]] = ..., node_returned: _Optional[_Union[NodeReturned, _Mapping]] = ..., node_cordoned: _Optional[_Union[NodeCordoned, _Mapping]] = ..., node_drain_started: _Optional[_Union[NodeDrainStarted, _Mapping]] = ..., node_drained: _Optional[_Union[NodeDrained, _Mapping]] = ..., node_resumed: _Optional[_Union[NodeResumed, _Mapping]] = ..., health_reported: _Optional[_Union[HealthReported, _Mapping]] = ..., health_cleared: _Optional[_Union[HealthCleared, _Mapping]] = ..., health_judged: _Optional[_Union[HealthJudged, _Mapping]] = ..., outage_began: _Optional[_Union[OutageBegan, _Mapping]] = ..., outages_ended: _Optional[_Union[OutagesEnded, _Mapping]] = ..., repair_started: _Optional[_Union[RepairStarted, _Mapping]] = ..., repair_ended: _Optional[_Union[RepairEnded, _Mapping]] = ..., node_faulted: _Optional[_Union[NodeFaulted, _Mapping]] = ..., breaker_tripped: _Optional[_Union[BreakerTripped, _Mapping]] = ..., breaker_reset: _Optional[_Union[BreakerReset, _Mapping]] = ..., node_ahead: _Optional[_Union[NodeAhead, _Mapping]] = ..., node_reconciled: _Optional[_Union[NodeReconciled, _Mapping]] = ...) -> None: ...
