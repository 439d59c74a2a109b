from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UsageClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    USAGE_CLASS_UNSPECIFIED: _ClassVar[UsageClass]
    USAGE_CLASS_PRODUCTIVE: _ClassVar[UsageClass]
    USAGE_CLASS_ALLOCATED_IDLE: _ClassVar[UsageClass]
    USAGE_CLASS_STARTUP: _ClassVar[UsageClass]
    USAGE_CLASS_LOST: _ClassVar[UsageClass]
    USAGE_CLASS_UNALLOCATED: _ClassVar[UsageClass]
    USAGE_CLASS_DOWN: _ClassVar[UsageClass]

class GroupBy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GROUP_BY_UNSPECIFIED: _ClassVar[GroupBy]
    GROUP_BY_ACCOUNT: _ClassVar[GroupBy]
    GROUP_BY_USER: _ClassVar[GroupBy]
    GROUP_BY_JOB: _ClassVar[GroupBy]
    GROUP_BY_MODEL: _ClassVar[GroupBy]
USAGE_CLASS_UNSPECIFIED: UsageClass
USAGE_CLASS_PRODUCTIVE: UsageClass
USAGE_CLASS_ALLOCATED_IDLE: UsageClass
USAGE_CLASS_STARTUP: UsageClass
USAGE_CLASS_LOST: UsageClass
USAGE_CLASS_UNALLOCATED: UsageClass
USAGE_CLASS_DOWN: UsageClass
GROUP_BY_UNSPECIFIED: GroupBy
GROUP_BY_ACCOUNT: GroupBy
GROUP_BY_USER: GroupBy
GROUP_BY_JOB: GroupBy
GROUP_BY_MODEL: GroupBy

class DeviceInterval(_message.Message):
    __slots__ = ("node", "device", "model", "usage_class", "start_us", "end_us", "job_id", "epoch", "user", "account", "milli")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    USAGE_CLASS_FIELD_NUMBER: _ClassVar[int]
    START_US_FIELD_NUMBER: _ClassVar[int]
    END_US_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    MILLI_FIELD_NUMBER: _ClassVar[int]
    node: str
    device: str
    model: str
    usage_class: UsageClass
    start_us: int
    end_us: int
    job_id: int
    epoch: int
    user: str
    account: str
    milli: int
    def __init__(self, node: _Optional[str] = ..., device: _Optional[str] = ..., model: _Optional[str] = ..., usage_class: _Optional[_Union[UsageClass, str]] = ..., start_us: _Optional[int] = ..., end_us: _Optional[int] = ..., job_id: _Optional[int] = ..., epoch: _Optional[int] = ..., user: _Optional[str] = ..., account: _Optional[str] = ..., milli: _Optional[int] = ...) -> None: ...

class GetUsageRequest(_message.Message):
    __slots__ = ("start_us", "end_us")
    START_US_FIELD_NUMBER: _ClassVar[int]
    END_US_FIELD_NUMBER: _ClassVar[int]
    start_us: int
    end_us: int
    def __init__(self, start_us: _Optional[int] = ..., end_us: _Optional[int] = ...) -> None: ...

class GetUsageResponse(_message.Message):
    __slots__ = ("intervals",)
    INTERVALS_FIELD_NUMBER: _ClassVar[int]
    intervals: _containers.RepeatedCompositeFieldContainer[DeviceInterval]
    def __init__(self, intervals: _Optional[_Iterable[_Union[DeviceInterval, _Mapping]]] = ...) -> None: ...

class GetCostRequest(_message.Message):
    __slots__ = ("group_by", "start_us", "end_us")
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    START_US_FIELD_NUMBER: _ClassVar[int]
    END_US_FIELD_NUMBER: _ClassVar[int]
    group_by: GroupBy
    start_us: int
    end_us: int
    def __init__(self, group_by: _Optional[_Union[GroupBy, str]] = ..., start_us: _Optional[int] = ..., end_us: _Optional[int] = ...) -> None: ...

class ChargeLine(_message.Message):
    __slots__ = ("key", "usage_class", "gpu_us", "cost", "billed_cost")
    KEY_FIELD_NUMBER: _ClassVar[int]
    USAGE_CLASS_FIELD_NUMBER: _ClassVar[int]
    GPU_US_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    BILLED_COST_FIELD_NUMBER: _ClassVar[int]
    key: str
    usage_class: UsageClass
    gpu_us: int
    cost: str
    billed_cost: str
    def __init__(self, key: _Optional[str] = ..., usage_class: _Optional[_Union[UsageClass, str]] = ..., gpu_us: _Optional[int] = ..., cost: _Optional[str] = ..., billed_cost: _Optional[str] = ...) -> None: ...

class GetCostResponse(_message.Message):
    __slots__ = ("currency", "start_us", "end_us", "group_by", "lines", "total", "unpriced_models")
    CURRENCY_FIELD_NUMBER: _ClassVar[int]
    START_US_FIELD_NUMBER: _ClassVar[int]
    END_US_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UNPRICED_MODELS_FIELD_NUMBER: _ClassVar[int]
    currency: str
    start_us: int
    end_us: int
    group_by: GroupBy
    lines: _containers.RepeatedCompositeFieldContainer[ChargeLine]
    total: str
    unpriced_models: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, currency: _Optional[str] = ..., start_us: _Optional[int] = ..., end_us: _Optional[int] = ..., group_by: _Optional[_Union[GroupBy, str]] = ..., lines: _Optional[_Iterable[_Union[ChargeLine, _Mapping]]] = ..., total: _Optional[str] = ..., unpriced_models: _Optional[_Iterable[str]] = ...) -> None: ...

class GetFailuresRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetFailuresResponse(_message.Message):
    __slots__ = ("node_us", "failures", "restart_s")
    NODE_US_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    RESTART_S_FIELD_NUMBER: _ClassVar[int]
    node_us: int
    failures: int
    restart_s: float
    def __init__(self, node_us: _Optional[int] = ..., failures: _Optional[int] = ..., restart_s: _Optional[float] = ...) -> None: ...
