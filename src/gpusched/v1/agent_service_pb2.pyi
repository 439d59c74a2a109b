from gpusched.v1 import event_pb2 as _event_pb2
from gpusched.v1 import health_pb2 as _health_pb2
from gpusched.v1 import job_pb2 as _job_pb2
from gpusched.v1 import job_service_pb2 as _job_service_pb2
from gpusched.v1 import node_pb2 as _node_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GpuPulse(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GPU_PULSE_UNSPECIFIED: _ClassVar[GpuPulse]
    GPU_PULSE_WORKS: _ClassVar[GpuPulse]
    GPU_PULSE_IDLE: _ClassVar[GpuPulse]
    GPU_PULSE_SPINS: _ClassVar[GpuPulse]
    GPU_PULSE_UNKNOWN: _ClassVar[GpuPulse]
GPU_PULSE_UNSPECIFIED: GpuPulse
GPU_PULSE_WORKS: GpuPulse
GPU_PULSE_IDLE: GpuPulse
GPU_PULSE_SPINS: GpuPulse
GPU_PULSE_UNKNOWN: GpuPulse

class Mark(_message.Message):
    __slots__ = ("epoch", "token", "seq", "next_job_id")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    NEXT_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    token: str
    seq: int
    next_job_id: int
    def __init__(self, epoch: _Optional[int] = ..., token: _Optional[str] = ..., seq: _Optional[int] = ..., next_job_id: _Optional[int] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("facts", "attempts", "mark", "understands")
    FACTS_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    UNDERSTANDS_FIELD_NUMBER: _ClassVar[int]
    facts: _node_pb2.NodeFacts
    attempts: _containers.RepeatedCompositeFieldContainer[_node_pb2.AttemptRef]
    mark: Mark
    understands: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, facts: _Optional[_Union[_node_pb2.NodeFacts, _Mapping]] = ..., attempts: _Optional[_Iterable[_Union[_node_pb2.AttemptRef, _Mapping]]] = ..., mark: _Optional[_Union[Mark, _Mapping]] = ..., understands: _Optional[_Iterable[str]] = ...) -> None: ...

class QuietRank(_message.Message):
    __slots__ = ("attempt_id", "global_rank", "quiet_s", "state", "waits_in", "gpu", "step")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_RANK_FIELD_NUMBER: _ClassVar[int]
    QUIET_S_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    WAITS_IN_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    attempt_id: _node_pb2.AttemptRef
    global_rank: int
    quiet_s: float
    state: str
    waits_in: str
    gpu: GpuPulse
    step: int
    def __init__(self, attempt_id: _Optional[_Union[_node_pb2.AttemptRef, _Mapping]] = ..., global_rank: _Optional[int] = ..., quiet_s: _Optional[float] = ..., state: _Optional[str] = ..., waits_in: _Optional[str] = ..., gpu: _Optional[_Union[GpuPulse, str]] = ..., step: _Optional[int] = ...) -> None: ...

class RankPace(_message.Message):
    __slots__ = ("attempt_id", "global_rank", "step", "at_s", "own_s")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_RANK_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    AT_S_FIELD_NUMBER: _ClassVar[int]
    OWN_S_FIELD_NUMBER: _ClassVar[int]
    attempt_id: _node_pb2.AttemptRef
    global_rank: int
    step: int
    at_s: float
    own_s: float
    def __init__(self, attempt_id: _Optional[_Union[_node_pb2.AttemptRef, _Mapping]] = ..., global_rank: _Optional[int] = ..., step: _Optional[int] = ..., at_s: _Optional[float] = ..., own_s: _Optional[float] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("sample", "seq", "quiet", "paces")
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    QUIET_FIELD_NUMBER: _ClassVar[int]
    PACES_FIELD_NUMBER: _ClassVar[int]
    sample: _node_pb2.NodeSample
    seq: int
    quiet: _containers.RepeatedCompositeFieldContainer[QuietRank]
    paces: _containers.RepeatedCompositeFieldContainer[RankPace]
    def __init__(self, sample: _Optional[_Union[_node_pb2.NodeSample, _Mapping]] = ..., seq: _Optional[int] = ..., quiet: _Optional[_Iterable[_Union[QuietRank, _Mapping]]] = ..., paces: _Optional[_Iterable[_Union[RankPace, _Mapping]]] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("report_id", "tasks_started", "task_failed", "tasks_ended", "health_observed", "repair_ended")
    REPORT_ID_FIELD_NUMBER: _ClassVar[int]
    TASKS_STARTED_FIELD_NUMBER: _ClassVar[int]
    TASK_FAILED_FIELD_NUMBER: _ClassVar[int]
    TASKS_ENDED_FIELD_NUMBER: _ClassVar[int]
    HEALTH_OBSERVED_FIELD_NUMBER: _ClassVar[int]
    REPAIR_ENDED_FIELD_NUMBER: _ClassVar[int]
    report_id: int
    tasks_started: _event_pb2.TasksStarted
    task_failed: _event_pb2.TaskFailed
    tasks_ended: _event_pb2.TasksEnded
    health_observed: _health_pb2.HealthObserved
    repair_ended: _event_pb2.RepairEnded
    def __init__(self, report_id: _Optional[int] = ..., tasks_started: _Optional[_Union[_event_pb2.TasksStarted, _Mapping]] = ..., task_failed: _Optional[_Union[_event_pb2.TaskFailed, _Mapping]] = ..., tasks_ended: _Optional[_Union[_event_pb2.TasksEnded, _Mapping]] = ..., health_observed: _Optional[_Union[_health_pb2.HealthObserved, _Mapping]] = ..., repair_ended: _Optional[_Union[_event_pb2.RepairEnded, _Mapping]] = ...) -> None: ...

class CommandTaken(_message.Message):
    __slots__ = ("seq",)
    SEQ_FIELD_NUMBER: _ClassVar[int]
    seq: int
    def __init__(self, seq: _Optional[int] = ...) -> None: ...

class CommandRefused(_message.Message):
    __slots__ = ("seq", "why")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    seq: int
    why: str
    def __init__(self, seq: _Optional[int] = ..., why: _Optional[str] = ...) -> None: ...

class LogData(_message.Message):
    __slots__ = ("stream_id", "chunk", "error")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    stream_id: int
    chunk: _job_service_pb2.LogChunk
    error: str
    def __init__(self, stream_id: _Optional[int] = ..., chunk: _Optional[_Union[_job_service_pb2.LogChunk, _Mapping]] = ..., error: _Optional[str] = ...) -> None: ...

class CertificateWanted(_message.Message):
    __slots__ = ("signing_request",)
    SIGNING_REQUEST_FIELD_NUMBER: _ClassVar[int]
    signing_request: bytes
    def __init__(self, signing_request: _Optional[bytes] = ...) -> None: ...

class RankTokensWanted(_message.Message):
    __slots__ = ("job_id", "epoch")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class ConnectRequest(_message.Message):
    __slots__ = ("hello", "heartbeat", "report", "command_taken", "log_data", "certificate_wanted", "rank_tokens_wanted", "command_refused")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_TAKEN_FIELD_NUMBER: _ClassVar[int]
    LOG_DATA_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_WANTED_FIELD_NUMBER: _ClassVar[int]
    RANK_TOKENS_WANTED_FIELD_NUMBER: _ClassVar[int]
    COMMAND_REFUSED_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    report: Report
    command_taken: CommandTaken
    log_data: LogData
    certificate_wanted: CertificateWanted
    rank_tokens_wanted: RankTokensWanted
    command_refused: CommandRefused
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., report: _Optional[_Union[Report, _Mapping]] = ..., command_taken: _Optional[_Union[CommandTaken, _Mapping]] = ..., log_data: _Optional[_Union[LogData, _Mapping]] = ..., certificate_wanted: _Optional[_Union[CertificateWanted, _Mapping]] = ..., rank_tokens_wanted: _Optional[_Union[RankTokensWanted, _Mapping]] = ..., command_refused: _Optional[_Union[CommandRefused, _Mapping]] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("cluster", "heartbeat_interval_s", "lease_s")
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_S_FIELD_NUMBER: _ClassVar[int]
    LEASE_S_FIELD_NUMBER: _ClassVar[int]
    cluster: str
    heartbeat_interval_s: float
    lease_s: float
    def __init__(self, cluster: _Optional[str] = ..., heartbeat_interval_s: _Optional[float] = ..., lease_s: _Optional[float] = ...) -> None: ...

class LeaseRenewed(_message.Message):
    __slots__ = ("seq", "now_us", "mark")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    NOW_US_FIELD_NUMBER: _ClassVar[int]
    MARK_FIELD_NUMBER: _ClassVar[int]
    seq: int
    now_us: int
    mark: Mark
    def __init__(self, seq: _Optional[int] = ..., now_us: _Optional[int] = ..., mark: _Optional[_Union[Mark, _Mapping]] = ...) -> None: ...

class LaunchTasks(_message.Message):
    __slots__ = ("launch",)
    LAUNCH_FIELD_NUMBER: _ClassVar[int]
    launch: _job_pb2.NodeLaunch
    def __init__(self, launch: _Optional[_Union[_job_pb2.NodeLaunch, _Mapping]] = ...) -> None: ...

class StopTasks(_message.Message):
    __slots__ = ("job_id", "epoch", "node", "kill_wait_s", "reason")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    KILL_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    node: str
    kill_wait_s: int
    reason: str
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., node: _Optional[str] = ..., kill_wait_s: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class RepairNode(_message.Message):
    __slots__ = ("node", "number", "reset", "check")
    NODE_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    node: str
    number: int
    reset: _containers.RepeatedScalarFieldContainer[str]
    check: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, node: _Optional[str] = ..., number: _Optional[int] = ..., reset: _Optional[_Iterable[str]] = ..., check: _Optional[_Iterable[str]] = ...) -> None: ...

class DumpStacks(_message.Message):
    __slots__ = ("job_id", "epoch", "node")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    node: str
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., node: _Optional[str] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("seq", "launch_tasks", "stop_tasks", "dump_stacks", "repair_node")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    LAUNCH_TASKS_FIELD_NUMBER: _ClassVar[int]
    STOP_TASKS_FIELD_NUMBER: _ClassVar[int]
    DUMP_STACKS_FIELD_NUMBER: _ClassVar[int]
    REPAIR_NODE_FIELD_NUMBER: _ClassVar[int]
    seq: int
    launch_tasks: LaunchTasks
    stop_tasks: StopTasks
    dump_stacks: DumpStacks
    repair_node: RepairNode
    def __init__(self, seq: _Optional[int] = ..., launch_tasks: _Optional[_Union[LaunchTasks, _Mapping]] = ..., stop_tasks: _Optional[_Union[StopTasks, _Mapping]] = ..., dump_stacks: _Optional[_Union[DumpStacks, _Mapping]] = ..., repair_node: _Optional[_Union[RepairNode, _Mapping]] = ...) -> None: ...

class ReportTaken(_message.Message):
    __slots__ = ("report_id",)
    REPORT_ID_FIELD_NUMBER: _ClassVar[int]
    report_id: int
    def __init__(self, report_id: _Optional[int] = ...) -> None: ...

class LogRequest(_message.Message):
    __slots__ = ("stream_id", "job_id", "epoch", "ranks", "since_us", "tail_lines", "follow", "source", "positions", "credit")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    RANKS_FIELD_NUMBER: _ClassVar[int]
    SINCE_US_FIELD_NUMBER: _ClassVar[int]
    TAIL_LINES_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    stream_id: int
    job_id: int
    epoch: int
    ranks: _containers.RepeatedScalarFieldContainer[int]
    since_us: int
    tail_lines: int
    follow: bool
    source: _job_service_pb2.LogSource
    positions: _containers.RepeatedCompositeFieldContainer[_job_service_pb2.LogPosition]
    credit: int
    def __init__(self, stream_id: _Optional[int] = ..., job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., ranks: _Optional[_Iterable[int]] = ..., since_us: _Optional[int] = ..., tail_lines: _Optional[int] = ..., follow: _Optional[bool] = ..., source: _Optional[_Union[_job_service_pb2.LogSource, str]] = ..., positions: _Optional[_Iterable[_Union[_job_service_pb2.LogPosition, _Mapping]]] = ..., credit: _Optional[int] = ...) -> None: ...

class LogCredit(_message.Message):
    __slots__ = ("stream_id", "chunks")
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    stream_id: int
    chunks: int
    def __init__(self, stream_id: _Optional[int] = ..., chunks: _Optional[int] = ...) -> None: ...

class LogCancel(_message.Message):
    __slots__ = ("stream_id",)
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    stream_id: int
    def __init__(self, stream_id: _Optional[int] = ...) -> None: ...

class CertificateGiven(_message.Message):
    __slots__ = ("certificate", "trusted")
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    TRUSTED_FIELD_NUMBER: _ClassVar[int]
    certificate: bytes
    trusted: bytes
    def __init__(self, certificate: _Optional[bytes] = ..., trusted: _Optional[bytes] = ...) -> None: ...

class RankToken(_message.Message):
    __slots__ = ("global_rank", "token")
    GLOBAL_RANK_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    global_rank: int
    token: str
    def __init__(self, global_rank: _Optional[int] = ..., token: _Optional[str] = ...) -> None: ...

class RankTokens(_message.Message):
    __slots__ = ("job_id", "epoch", "tokens", "owner")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    tokens: _containers.RepeatedCompositeFieldContainer[RankToken]
    owner: _job_pb2.Identity
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., tokens: _Optional[_Iterable[_Union[RankToken, _Mapping]]] = ..., owner: _Optional[_Union[_job_pb2.Identity, _Mapping]] = ...) -> None: ...

class ConnectResponse(_message.Message):
    __slots__ = ("welcome", "command", "report_taken", "log_request", "log_cancel", "log_credit", "lease_renewed", "certificate_given", "rank_tokens")
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    REPORT_TAKEN_FIELD_NUMBER: _ClassVar[int]
    LOG_REQUEST_FIELD_NUMBER: _ClassVar[int]
    LOG_CANCEL_FIELD_NUMBER: _ClassVar[int]
    LOG_CREDIT_FIELD_NUMBER: _ClassVar[int]
    LEASE_RENEWED_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_GIVEN_FIELD_NUMBER: _ClassVar[int]
    RANK_TOKENS_FIELD_NUMBER: _ClassVar[int]
    welcome: Welcome
    command: Command
    report_taken: ReportTaken
    log_request: LogRequest
    log_cancel: LogCancel
    log_credit: LogCredit
    lease_renewed: LeaseRenewed
    certificate_given: CertificateGiven
    rank_tokens: RankTokens
    def __init__(self, welcome: _Optional[_Union[Welcome, _Mapping]] = ..., command: _Optional[_Union[Command, _Mapping]] = ..., report_taken: _Optional[_Union[ReportTaken, _Mapping]] = ..., log_request: _Optional[_Union[LogRequest, _Mapping]] = ..., log_cancel: _Optional[_Union[LogCancel, _Mapping]] = ..., log_credit: _Optional[_Union[LogCredit, _Mapping]] = ..., lease_renewed: _Optional[_Union[LeaseRenewed, _Mapping]] = ..., certificate_given: _Optional[_Union[CertificateGiven, _Mapping]] = ..., rank_tokens: _Optional[_Union[RankTokens, _Mapping]] = ...) -> None: ...
