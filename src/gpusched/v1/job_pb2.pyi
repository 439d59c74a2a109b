from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_PENDING: _ClassVar[JobState]
    JOB_STATE_CONFIGURING: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_COMPLETING: _ClassVar[JobState]
    JOB_STATE_COMPLETED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]

class PendingReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PENDING_REASON_UNSPECIFIED: _ClassVar[PendingReason]
    PENDING_REASON_PRIORITY: _ClassVar[PendingReason]
    PENDING_REASON_RESOURCES: _ClassVar[PendingReason]
    PENDING_REASON_HELD: _ClassVar[PendingReason]
    PENDING_REASON_NODES_UNAVAILABLE: _ClassVar[PendingReason]
    PENDING_REASON_RESTART_DELAY: _ClassVar[PendingReason]
    PENDING_REASON_QUOTA: _ClassVar[PendingReason]
    PENDING_REASON_SUSPENDED: _ClassVar[PendingReason]

class EndReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    END_REASON_UNSPECIFIED: _ClassVar[EndReason]
    END_REASON_COMPLETED: _ClassVar[EndReason]
    END_REASON_RANK_FAILED: _ClassVar[EndReason]
    END_REASON_TIME_LIMIT: _ClassVar[EndReason]
    END_REASON_OUT_OF_MEMORY: _ClassVar[EndReason]
    END_REASON_LAUNCH_FAILED: _ClassVar[EndReason]
    END_REASON_SHIM_LOST: _ClassVar[EndReason]
    END_REASON_NODE_FAIL: _ClassVar[EndReason]
    END_REASON_CANCELLED: _ClassVar[EndReason]
    END_REASON_REQUEUED: _ClassVar[EndReason]
    END_REASON_DRAINED: _ClassVar[EndReason]
    END_REASON_STALLED: _ClassVar[EndReason]
    END_REASON_UNDERUSED: _ClassVar[EndReason]
    END_REASON_NODE_UNHEALTHY: _ClassVar[EndReason]
    END_REASON_PROLOG_FAILED: _ClassVar[EndReason]

class Launcher(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LAUNCHER_UNSPECIFIED: _ClassVar[Launcher]
    LAUNCHER_DIRECT: _ClassVar[Launcher]
    LAUNCHER_TORCHRUN: _ClassVar[Launcher]

class OnDisconnect(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_DISCONNECT_UNSPECIFIED: _ClassVar[OnDisconnect]
    ON_DISCONNECT_FENCE: _ClassVar[OnDisconnect]
    ON_DISCONNECT_KEEP_RUNNING: _ClassVar[OnDisconnect]

class StallAction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STALL_ACTION_UNSPECIFIED: _ClassVar[StallAction]
    STALL_ACTION_NOTIFY: _ClassVar[StallAction]
    STALL_ACTION_REQUEUE: _ClassVar[StallAction]

class RestartOn(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESTART_ON_UNSPECIFIED: _ClassVar[RestartOn]
    RESTART_ON_INFRASTRUCTURE: _ClassVar[RestartOn]
    RESTART_ON_ANY: _ClassVar[RestartOn]

class OnUnderuse(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ON_UNDERUSE_UNSPECIFIED: _ClassVar[OnUnderuse]
    ON_UNDERUSE_NOTIFY: _ClassVar[OnUnderuse]
    ON_UNDERUSE_END: _ClassVar[OnUnderuse]

class ActivationKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTIVATION_KIND_UNSPECIFIED: _ClassVar[ActivationKind]
    ACTIVATION_KIND_VENV: _ClassVar[ActivationKind]
    ACTIVATION_KIND_CONDA: _ClassVar[ActivationKind]
    ACTIVATION_KIND_UV: _ClassVar[ActivationKind]

class Spread(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPREAD_UNSPECIFIED: _ClassVar[Spread]
    SPREAD_FEWEST: _ClassVar[Spread]
    SPREAD_EVEN: _ClassVar[Spread]
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_PENDING: JobState
JOB_STATE_CONFIGURING: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_COMPLETING: JobState
JOB_STATE_COMPLETED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
PENDING_REASON_UNSPECIFIED: PendingReason
PENDING_REASON_PRIORITY: PendingReason
PENDING_REASON_RESOURCES: PendingReason
PENDING_REASON_HELD: PendingReason
PENDING_REASON_NODES_UNAVAILABLE: PendingReason
PENDING_REASON_RESTART_DELAY: PendingReason
PENDING_REASON_QUOTA: PendingReason
PENDING_REASON_SUSPENDED: PendingReason
END_REASON_UNSPECIFIED: EndReason
END_REASON_COMPLETED: EndReason
END_REASON_RANK_FAILED: EndReason
END_REASON_TIME_LIMIT: EndReason
END_REASON_OUT_OF_MEMORY: EndReason
END_REASON_LAUNCH_FAILED: EndReason
END_REASON_SHIM_LOST: EndReason
END_REASON_NODE_FAIL: EndReason
END_REASON_CANCELLED: EndReason
END_REASON_REQUEUED: EndReason
END_REASON_DRAINED: EndReason
END_REASON_STALLED: EndReason
END_REASON_UNDERUSED: EndReason
END_REASON_NODE_UNHEALTHY: EndReason
END_REASON_PROLOG_FAILED: EndReason
LAUNCHER_UNSPECIFIED: Launcher
LAUNCHER_DIRECT: Launcher
LAUNCHER_TORCHRUN: Launcher
ON_DISCONNECT_UNSPECIFIED: OnDisconnect
ON_DISCONNECT_FENCE: OnDisconnect
ON_DISCONNECT_KEEP_RUNNING: OnDisconnect
STALL_ACTION_UNSPECIFIED: StallAction
STALL_ACTION_NOTIFY: StallAction
STALL_ACTION_REQUEUE: StallAction
RESTART_ON_UNSPECIFIED: RestartOn
RESTART_ON_INFRASTRUCTURE: RestartOn
RESTART_ON_ANY: RestartOn
ON_UNDERUSE_UNSPECIFIED: OnUnderuse
ON_UNDERUSE_NOTIFY: OnUnderuse
ON_UNDERUSE_END: OnUnderuse
ACTIVATION_KIND_UNSPECIFIED: ActivationKind
ACTIVATION_KIND_VENV: ActivationKind
ACTIVATION_KIND_CONDA: ActivationKind
ACTIVATION_KIND_UV: ActivationKind
SPREAD_UNSPECIFIED: Spread
SPREAD_FEWEST: Spread
SPREAD_EVEN: Spread

class Identity(_message.Message):
    __slots__ = ("user", "uid", "gid")
    USER_FIELD_NUMBER: _ClassVar[int]
    UID_FIELD_NUMBER: _ClassVar[int]
    GID_FIELD_NUMBER: _ClassVar[int]
    user: str
    uid: int
    gid: int
    def __init__(self, user: _Optional[str] = ..., uid: _Optional[int] = ..., gid: _Optional[int] = ...) -> None: ...

class UtilizationPolicy(_message.Message):
    __slots__ = ("min_percent", "window_s", "action")
    MIN_PERCENT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    min_percent: int
    window_s: int
    action: OnUnderuse
    def __init__(self, min_percent: _Optional[int] = ..., window_s: _Optional[int] = ..., action: _Optional[_Union[OnUnderuse, str]] = ...) -> None: ...

class StallPolicy(_message.Message):
    __slots__ = ("after_s", "action")
    AFTER_S_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    after_s: int
    action: StallAction
    def __init__(self, after_s: _Optional[int] = ..., action: _Optional[_Union[StallAction, str]] = ...) -> None: ...

class SlowPolicy(_message.Message):
    __slots__ = ("over_percent", "steps")
    OVER_PERCENT_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    over_percent: int
    steps: int
    def __init__(self, over_percent: _Optional[int] = ..., steps: _Optional[int] = ...) -> None: ...

class Activation(_message.Message):
    __slots__ = ("kind", "target")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    kind: ActivationKind
    target: str
    def __init__(self, kind: _Optional[_Union[ActivationKind, str]] = ..., target: _Optional[str] = ...) -> None: ...

class WarningSignal(_message.Message):
    __slots__ = ("name", "lead_s")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEAD_S_FIELD_NUMBER: _ClassVar[int]
    name: str
    lead_s: int
    def __init__(self, name: _Optional[str] = ..., lead_s: _Optional[int] = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("size", "level")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    size: int
    level: str
    def __init__(self, size: _Optional[int] = ..., level: _Optional[str] = ...) -> None: ...

class Amount(_message.Message):
    __slots__ = ("name", "count")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    count: int
    def __init__(self, name: _Optional[str] = ..., count: _Optional[int] = ...) -> None: ...

class EnvVar(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class JobSpec(_message.Message):
    __slots__ = ("name", "command", "script", "workdir", "nodes", "gpus_per_node", "tasks_per_node", "cpus_per_task", "memory_bytes", "gpu_model", "gpu_memory_bytes", "time_limit_s", "account", "partition", "qos", "nice", "env", "activation", "setup", "container", "launcher", "signal", "kill_wait_s", "requeue", "nodelist", "exclude", "hold", "log_cap_bytes", "comment", "topology_required", "topology_preferred", "segment", "spread", "on_disconnect", "gpu_milli", "mig_profile", "disk_bytes", "gres", "licenses", "stall", "restart_on", "restarts_max", "utilization", "slow", "components")
    NAME_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    SCRIPT_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    GPUS_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    TASKS_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    CPUS_PER_TASK_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    GPU_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    TIME_LIMIT_S_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    QOS_FIELD_NUMBER: _ClassVar[int]
    NICE_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    SETUP_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_FIELD_NUMBER: _ClassVar[int]
    LAUNCHER_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    KILL_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    REQUEUE_FIELD_NUMBER: _ClassVar[int]
    NODELIST_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    LOG_CAP_BYTES_FIELD_NUMBER: _ClassVar[int]
    COMMENT_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_REQUIRED_FIELD_NUMBER: _ClassVar[int]
    TOPOLOGY_PREFERRED_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    MIG_PROFILE_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    GRES_FIELD_NUMBER: _ClassVar[int]
    LICENSES_FIELD_NUMBER: _ClassVar[int]
    STALL_FIELD_NUMBER: _ClassVar[int]
    RESTART_ON_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_MAX_FIELD_NUMBER: _ClassVar[int]
    UTILIZATION_FIELD_NUMBER: _ClassVar[int]
    SLOW_FIELD_NUMBER: _ClassVar[int]
    COMPONENTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    command: _containers.RepeatedScalarFieldContainer[str]
    script: str
    workdir: str
    nodes: int
    gpus_per_node: int
    tasks_per_node: int
    cpus_per_task: int
    memory_bytes: int
    gpu_model: str
    gpu_memory_bytes: int
    time_limit_s: int
    account: str
    partition: str
    qos: str
    nice: int
    env: _containers.RepeatedCompositeFieldContainer[EnvVar]
    activation: Activation
    setup: _containers.RepeatedScalarFieldContainer[str]
    container: str
    launcher: Launcher
    signal: WarningSignal
    kill_wait_s: int
    requeue: bool
    nodelist: _containers.RepeatedScalarFieldContainer[str]
    exclude: _containers.RepeatedScalarFieldContainer[str]
    hold: bool
    log_cap_bytes: int
    comment: str
    topology_required: str
    topology_preferred: str
    segment: Segment
    spread: Spread
    on_disconnect: OnDisconnect
    gpu_milli: int
    mig_profile: str
    disk_bytes: int
    gres: _containers.RepeatedCompositeFieldContainer[Amount]
    licenses: _containers.RepeatedCompositeFieldContainer[Amount]
    stall: StallPolicy
    restart_on: RestartOn
    restarts_max: int
    utilization: UtilizationPolicy
    slow: SlowPolicy
    components: _containers.RepeatedCompositeFieldContainer[Component]
    def __init__(self, name: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ..., script: _Optional[str] = ..., workdir: _Optional[str] = ..., nodes: _Optional[int] = ..., gpus_per_node: _Optional[int] = ..., tasks_per_node: _Optional[int] = ..., cpus_per_task: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., gpu_model: _Optional[str] = ..., gpu_memory_bytes: _Optional[int] = ..., time_limit_s: _Optional[int] = ..., account: _Optional[str] = ..., partition: _Optional[str] = ..., qos: _Optional[str] = ..., nice: _Optional[int] = ..., env: _Optional[_Iterable[_Union[EnvVar, _Mapping]]] = ..., activation: _Optional[_Union[Activation, _Mapping]] = ..., setup: _Optional[_Iterable[str]] = ..., container: _Optional[str] = ..., launcher: _Optional[_Union[Launcher, str]] = ..., signal: _Optional[_Union[WarningSignal, _Mapping]] = ..., kill_wait_s: _Optional[int] = ..., requeue: _Optional[bool] = ..., nodelist: _Optional[_Iterable[str]] = ..., exclude: _Optional[_Iterable[str]] = ..., hold: _Optional[bool] = ..., log_cap_bytes: _Optional[int] = ..., comment: _Optional[str] = ..., topology_required: _Optional[str] = ..., topology_preferred: _Optional[str] = ..., segment: _Optional[_Union[Segment, _Mapping]] = ..., spread: _Optional[_Union[Spread, str]] = ..., on_disconnect: _Optional[_Union[OnDisconnect, str]] = ..., gpu_milli: _Optional[int] = ..., mig_profile: _Optional[str] = ..., disk_bytes: _Optional[int] = ..., gres: _Optional[_Iterable[_Union[Amount, _Mapping]]] = ..., licenses: _Optional[_Iterable[_Union[Amount, _Mapping]]] = ..., stall: _Optional[_Union[StallPolicy, _Mapping]] = ..., restart_on: _Optional[_Union[RestartOn, str]] = ..., restarts_max: _Optional[int] = ..., utilization: _Optional[_Union[UtilizationPolicy, _Mapping]] = ..., slow: _Optional[_Union[SlowPolicy, _Mapping]] = ..., components: _Optional[_Iterable[_Union[Component, _Mapping]]] = ...) -> None: ...

class Component(_message.Message):
    __slots__ = ("name", "nodes", "gpus_per_node", "tasks_per_node", "cpus_per_task", "memory_bytes", "gpu_model", "command")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    GPUS_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    TASKS_PER_NODE_FIELD_NUMBER: _ClassVar[int]
    CPUS_PER_TASK_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    name: str
    nodes: int
    gpus_per_node: int
    tasks_per_node: int
    cpus_per_task: int
    memory_bytes: int
    gpu_model: str
    command: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., nodes: _Optional[int] = ..., gpus_per_node: _Optional[int] = ..., tasks_per_node: _Optional[int] = ..., cpus_per_task: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., gpu_model: _Optional[str] = ..., command: _Optional[_Iterable[str]] = ...) -> None: ...

class GrantedDevice(_message.Message):
    __slots__ = ("uuid", "model", "declared", "milli")
    UUID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DECLARED_FIELD_NUMBER: _ClassVar[int]
    MILLI_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    model: str
    declared: bool
    milli: int
    def __init__(self, uuid: _Optional[str] = ..., model: _Optional[str] = ..., declared: _Optional[bool] = ..., milli: _Optional[int] = ...) -> None: ...

class NodeAllocation(_message.Message):
    __slots__ = ("node", "address", "interface", "devices", "cpu_ids", "cpus_pinnable", "memory_bytes")
    NODE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    CPU_IDS_FIELD_NUMBER: _ClassVar[int]
    CPUS_PINNABLE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    node: str
    address: str
    interface: str
    devices: _containers.RepeatedCompositeFieldContainer[GrantedDevice]
    cpu_ids: _containers.RepeatedScalarFieldContainer[int]
    cpus_pinnable: bool
    memory_bytes: int
    def __init__(self, node: _Optional[str] = ..., address: _Optional[str] = ..., interface: _Optional[str] = ..., devices: _Optional[_Iterable[_Union[GrantedDevice, _Mapping]]] = ..., cpu_ids: _Optional[_Iterable[int]] = ..., cpus_pinnable: _Optional[bool] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class Allocation(_message.Message):
    __slots__ = ("nodes", "master_port", "granted_at_us")
    NODES_FIELD_NUMBER: _ClassVar[int]
    MASTER_PORT_FIELD_NUMBER: _ClassVar[int]
    GRANTED_AT_US_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeAllocation]
    master_port: int
    granted_at_us: int
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodeAllocation, _Mapping]]] = ..., master_port: _Optional[int] = ..., granted_at_us: _Optional[int] = ...) -> None: ...

class TaskExit(_message.Message):
    __slots__ = ("global_rank", "exit_code", "signal")
    GLOBAL_RANK_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    global_rank: int
    exit_code: int
    signal: int
    def __init__(self, global_rank: _Optional[int] = ..., exit_code: _Optional[int] = ..., signal: _Optional[int] = ...) -> None: ...

class Stall(_message.Message):
    __slots__ = ("global_rank", "node", "noticed_at_us", "evidence")
    GLOBAL_RANK_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    NOTICED_AT_US_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    global_rank: int
    node: str
    noticed_at_us: int
    evidence: str
    def __init__(self, global_rank: _Optional[int] = ..., node: _Optional[str] = ..., noticed_at_us: _Optional[int] = ..., evidence: _Optional[str] = ...) -> None: ...

class Slowness(_message.Message):
    __slots__ = ("noticed_at_us", "evidence", "global_rank", "node")
    NOTICED_AT_US_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    GLOBAL_RANK_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    noticed_at_us: int
    evidence: str
    global_rank: int
    node: str
    def __init__(self, noticed_at_us: _Optional[int] = ..., evidence: _Optional[str] = ..., global_rank: _Optional[int] = ..., node: _Optional[str] = ...) -> None: ...

class Attempt(_message.Message):
    __slots__ = ("epoch", "allocation", "nodes_started", "nodes_ended", "running_at_us", "stop_reason", "stop_detail", "stop_by", "exit_code", "stall", "underused", "slowness")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ALLOCATION_FIELD_NUMBER: _ClassVar[int]
    NODES_STARTED_FIELD_NUMBER: _ClassVar[int]
    NODES_ENDED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_AT_US_FIELD_NUMBER: _ClassVar[int]
    STOP_REASON_FIELD_NUMBER: _ClassVar[int]
    STOP_DETAIL_FIELD_NUMBER: _ClassVar[int]
    STOP_BY_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    STALL_FIELD_NUMBER: _ClassVar[int]
    UNDERUSED_FIELD_NUMBER: _ClassVar[int]
    SLOWNESS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    allocation: Allocation
    nodes_started: _containers.RepeatedScalarFieldContainer[str]
    nodes_ended: _containers.RepeatedScalarFieldContainer[str]
    running_at_us: int
    stop_reason: EndReason
    stop_detail: str
    stop_by: str
    exit_code: int
    stall: Stall
    underused: str
    slowness: Slowness
    def __init__(self, epoch: _Optional[int] = ..., allocation: _Optional[_Union[Allocation, _Mapping]] = ..., nodes_started: _Optional[_Iterable[str]] = ..., nodes_ended: _Optional[_Iterable[str]] = ..., running_at_us: _Optional[int] = ..., stop_reason: _Optional[_Union[EndReason, str]] = ..., stop_detail: _Optional[str] = ..., stop_by: _Optional[str] = ..., exit_code: _Optional[int] = ..., stall: _Optional[_Union[Stall, _Mapping]] = ..., underused: _Optional[str] = ..., slowness: _Optional[_Union[Slowness, _Mapping]] = ...) -> None: ...

class DeviceUse(_message.Message):
    __slots__ = ("uuid", "busy_s", "energy_j", "memory_peak_bytes")
    UUID_FIELD_NUMBER: _ClassVar[int]
    BUSY_S_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    busy_s: float
    energy_j: float
    memory_peak_bytes: int
    def __init__(self, uuid: _Optional[str] = ..., busy_s: _Optional[float] = ..., energy_j: _Optional[float] = ..., memory_peak_bytes: _Optional[int] = ...) -> None: ...

class NodeUse(_message.Message):
    __slots__ = ("wall_s", "cpu_s", "memory_peak_bytes", "devices")
    WALL_S_FIELD_NUMBER: _ClassVar[int]
    CPU_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    wall_s: float
    cpu_s: float
    memory_peak_bytes: int
    devices: _containers.RepeatedCompositeFieldContainer[DeviceUse]
    def __init__(self, wall_s: _Optional[float] = ..., cpu_s: _Optional[float] = ..., memory_peak_bytes: _Optional[int] = ..., devices: _Optional[_Iterable[_Union[DeviceUse, _Mapping]]] = ...) -> None: ...

class NamedNodeUse(_message.Message):
    __slots__ = ("node", "use")
    NODE_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    node: str
    use: NodeUse
    def __init__(self, node: _Optional[str] = ..., use: _Optional[_Union[NodeUse, _Mapping]] = ...) -> None: ...

class TaskLaunch(_message.Message):
    __slots__ = ("global_rank", "local_rank", "argv", "env", "cpu_ids", "devices")
    GLOBAL_RANK_FIELD_NUMBER: _ClassVar[int]
    LOCAL_RANK_FIELD_NUMBER: _ClassVar[int]
    ARGV_FIELD_NUMBER: _ClassVar[int]
    ENV_FIELD_NUMBER: _ClassVar[int]
    CPU_IDS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    global_rank: int
    local_rank: int
    argv: _containers.RepeatedScalarFieldContainer[str]
    env: _containers.RepeatedCompositeFieldContainer[EnvVar]
    cpu_ids: _containers.RepeatedScalarFieldContainer[int]
    devices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, global_rank: _Optional[int] = ..., local_rank: _Optional[int] = ..., argv: _Optional[_Iterable[str]] = ..., env: _Optional[_Iterable[_Union[EnvVar, _Mapping]]] = ..., cpu_ids: _Optional[_Iterable[int]] = ..., devices: _Optional[_Iterable[str]] = ...) -> None: ...

class NodeLaunch(_message.Message):
    __slots__ = ("job_id", "epoch", "node", "node_rank", "owner", "workdir", "tasks", "devices", "script", "time_limit_s", "signal", "kill_wait_s", "log_cap_bytes", "on_disconnect", "gpu_milli")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    NODE_RANK_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    WORKDIR_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    SCRIPT_FIELD_NUMBER: _ClassVar[int]
    TIME_LIMIT_S_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    KILL_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    LOG_CAP_BYTES_FIELD_NUMBER: _ClassVar[int]
    ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLI_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    node: str
    node_rank: int
    owner: Identity
    workdir: str
    tasks: _containers.RepeatedCompositeFieldContainer[TaskLaunch]
    devices: _containers.RepeatedScalarFieldContainer[str]
    script: str
    time_limit_s: int
    signal: WarningSignal
    kill_wait_s: int
    log_cap_bytes: int
    on_disconnect: OnDisconnect
    gpu_milli: int
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., node: _Optional[str] = ..., node_rank: _Optional[int] = ..., owner: _Optional[_Union[Identity, _Mapping]] = ..., workdir: _Optional[str] = ..., tasks: _Optional[_Iterable[_Union[TaskLaunch, _Mapping]]] = ..., devices: _Optional[_Iterable[str]] = ..., script: _Optional[str] = ..., time_limit_s: _Optional[int] = ..., signal: _Optional[_Union[WarningSignal, _Mapping]] = ..., kill_wait_s: _Optional[int] = ..., log_cap_bytes: _Optional[int] = ..., on_disconnect: _Optional[_Union[OnDisconnect, str]] = ..., gpu_milli: _Optional[int] = ...) -> None: ...

class LaunchPlan(_message.Message):
    __slots__ = ("nodes",)
    NODES_FIELD_NUMBER: _ClassVar[int]
    nodes: _containers.RepeatedCompositeFieldContainer[NodeLaunch]
    def __init__(self, nodes: _Optional[_Iterable[_Union[NodeLaunch, _Mapping]]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("job_id", "spec", "owner", "submitted_at_us", "state", "is_held", "attempt", "started_at_us", "ended_at_us", "end_reason", "end_detail", "exit_code", "pending_reason", "held_until_us", "restarts", "uses", "cost", "currency", "plan", "failed_on", "ring")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    SUBMITTED_AT_US_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    IS_HELD_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_US_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_US_FIELD_NUMBER: _ClassVar[int]
    END_REASON_FIELD_NUMBER: _ClassVar[int]
    END_DETAIL_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    PENDING_REASON_FIELD_NUMBER: _ClassVar[int]
    HELD_UNTIL_US_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    FAILED_ON_FIELD_NUMBER: _ClassVar[int]
    RING_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    spec: JobSpec
    owner: Identity
    submitted_at_us: int
    state: JobState
    is_held: bool
    attempt: Attempt
    started_at_us: int
    ended_at_us: int
    end_reason: EndReason
    end_detail: str
    exit_code: int
    pending_reason: PendingReason
    held_until_us: int
    restarts: int
    uses: _containers.RepeatedCompositeFieldContainer[NamedNodeUse]
    cost: str
    currency: str
    plan: LaunchPlan
    failed_on: _containers.RepeatedScalarFieldContainer[str]
    ring: RingCost
    def __init__(self, job_id: _Optional[int] = ..., spec: _Optional[_Union[JobSpec, _Mapping]] = ..., owner: _Optional[_Union[Identity, _Mapping]] = ..., submitted_at_us: _Optional[int] = ..., state: _Optional[_Union[JobState, str]] = ..., is_held: _Optional[bool] = ..., attempt: _Optional[_Union[Attempt, _Mapping]] = ..., started_at_us: _Optional[int] = ..., ended_at_us: _Optional[int] = ..., end_reason: _Optional[_Union[EndReason, str]] = ..., end_detail: _Optional[str] = ..., exit_code: _Optional[int] = ..., pending_reason: _Optional[_Union[PendingReason, str]] = ..., held_until_us: _Optional[int] = ..., restarts: _Optional[int] = ..., uses: _Optional[_Iterable[_Union[NamedNodeUse, _Mapping]]] = ..., cost: _Optional[str] = ..., currency: _Optional[str] = ..., plan: _Optional[_Union[LaunchPlan, _Mapping]] = ..., failed_on: _Optional[_Iterable[str]] = ..., ring: _Optional[_Union[RingCost, _Mapping]] = ...) -> None: ...

class RingCost(_message.Message):
    __slots__ = ("links", "s_per_gb")
    LINKS_FIELD_NUMBER: _ClassVar[int]
    S_PER_GB_FIELD_NUMBER: _ClassVar[int]
    links: int
    s_per_gb: float
    def __init__(self, links: _Optional[int] = ..., s_per_gb: _Optional[float] = ...) -> None: ...

class RuledOut(_message.Message):
    __slots__ = ("constraint", "nodes", "gpus", "detail")
    CONSTRAINT_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    constraint: str
    nodes: int
    gpus: int
    detail: str
    def __init__(self, constraint: _Optional[str] = ..., nodes: _Optional[int] = ..., gpus: _Optional[int] = ..., detail: _Optional[str] = ...) -> None: ...

class FieldChange(_message.Message):
    __slots__ = ("field", "value")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    field: str
    value: str
    def __init__(self, field: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Relaxation(_message.Message):
    __slots__ = ("text", "changes")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    text: str
    changes: _containers.RepeatedCompositeFieldContainer[FieldChange]
    def __init__(self, text: _Optional[str] = ..., changes: _Optional[_Iterable[_Union[FieldChange, _Mapping]]] = ...) -> None: ...

class Diagnosis(_message.Message):
    __slots__ = ("message", "reason", "nodes_wanted", "nodes_total", "nodes_fitting_now", "nodes_fitting_empty", "ruled_out", "jobs_ahead", "forecast_start_us", "relaxations")
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NODES_WANTED_FIELD_NUMBER: _ClassVar[int]
    NODES_TOTAL_FIELD_NUMBER: _ClassVar[int]
    NODES_FITTING_NOW_FIELD_NUMBER: _ClassVar[int]
    NODES_FITTING_EMPTY_FIELD_NUMBER: _ClassVar[int]
    RULED_OUT_FIELD_NUMBER: _ClassVar[int]
    JOBS_AHEAD_FIELD_NUMBER: _ClassVar[int]
    FORECAST_START_US_FIELD_NUMBER: _ClassVar[int]
    RELAXATIONS_FIELD_NUMBER: _ClassVar[int]
    message: str
    reason: PendingReason
    nodes_wanted: int
    nodes_total: int
    nodes_fitting_now: int
    nodes_fitting_empty: int
    ruled_out: _containers.RepeatedCompositeFieldContainer[RuledOut]
    jobs_ahead: int
    forecast_start_us: int
    relaxations: _containers.RepeatedCompositeFieldContainer[Relaxation]
    def __init__(self, message: _Optional[str] = ..., reason: _Optional[_Union[PendingReason, str]] = ..., nodes_wanted: _Optional[int] = ..., nodes_total: _Optional[int] = ..., nodes_fitting_now: _Optional[int] = ..., nodes_fitting_empty: _Optional[int] = ..., ruled_out: _Optional[_Iterable[_Union[RuledOut, _Mapping]]] = ..., jobs_ahead: _Optional[int] = ..., forecast_start_us: _Optional[int] = ..., relaxations: _Optional[_Iterable[_Union[Relaxation, _Mapping]]] = ...) -> None: ...
