from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Condition(_message.Message):
    __slots__ = ("signal", "detail", "code", "devices")
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    signal: str
    detail: str
    code: int
    devices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, signal: _Optional[str] = ..., detail: _Optional[str] = ..., code: _Optional[int] = ..., devices: _Optional[_Iterable[str]] = ...) -> None: ...

class Sighting(_message.Message):
    __slots__ = ("observed_us", "condition")
    OBSERVED_US_FIELD_NUMBER: _ClassVar[int]
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    observed_us: int
    condition: Condition
    def __init__(self, observed_us: _Optional[int] = ..., condition: _Optional[_Union[Condition, _Mapping]] = ...) -> None: ...

class HealthObserved(_message.Message):
    __slots__ = ("node", "boot_id", "conditions", "sightings", "is_complete")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    CONDITIONS_FIELD_NUMBER: _ClassVar[int]
    SIGHTINGS_FIELD_NUMBER: _ClassVar[int]
    IS_COMPLETE_FIELD_NUMBER: _ClassVar[int]
    node: str
    boot_id: str
    conditions: _containers.RepeatedCompositeFieldContainer[Condition]
    sightings: _containers.RepeatedCompositeFieldContainer[Sighting]
    is_complete: bool
    def __init__(self, node: _Optional[str] = ..., boot_id: _Optional[str] = ..., conditions: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ..., sightings: _Optional[_Iterable[_Union[Sighting, _Mapping]]] = ..., is_complete: _Optional[bool] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("condition", "since_us", "users", "action")
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    SINCE_US_FIELD_NUMBER: _ClassVar[int]
    USERS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    condition: Condition
    since_us: int
    users: _containers.RepeatedScalarFieldContainer[str]
    action: str
    def __init__(self, condition: _Optional[_Union[Condition, _Mapping]] = ..., since_us: _Optional[int] = ..., users: _Optional[_Iterable[str]] = ..., action: _Optional[str] = ...) -> None: ...

class Outage(_message.Message):
    __slots__ = ("condition", "action", "cure", "devices")
    CONDITION_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    CURE_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    condition: Condition
    action: str
    cure: str
    devices: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, condition: _Optional[_Union[Condition, _Mapping]] = ..., action: _Optional[str] = ..., cure: _Optional[str] = ..., devices: _Optional[_Iterable[str]] = ...) -> None: ...

class Repair(_message.Message):
    __slots__ = ("number", "devices", "outages")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    OUTAGES_FIELD_NUMBER: _ClassVar[int]
    number: int
    devices: _containers.RepeatedScalarFieldContainer[str]
    outages: _containers.RepeatedCompositeFieldContainer[Outage]
    def __init__(self, number: _Optional[int] = ..., devices: _Optional[_Iterable[str]] = ..., outages: _Optional[_Iterable[_Union[Outage, _Mapping]]] = ...) -> None: ...

class NodeHealth(_message.Message):
    __slots__ = ("newest_sighting", "findings", "outages", "repair", "repairs", "failures", "taken_out_at_us", "breaker_at_us", "faults_at_us")
    NEWEST_SIGHTING_FIELD_NUMBER: _ClassVar[int]
    FINDINGS_FIELD_NUMBER: _ClassVar[int]
    OUTAGES_FIELD_NUMBER: _ClassVar[int]
    REPAIR_FIELD_NUMBER: _ClassVar[int]
    REPAIRS_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    TAKEN_OUT_AT_US_FIELD_NUMBER: _ClassVar[int]
    BREAKER_AT_US_FIELD_NUMBER: _ClassVar[int]
    FAULTS_AT_US_FIELD_NUMBER: _ClassVar[int]
    newest_sighting: int
    findings: _containers.RepeatedCompositeFieldContainer[Finding]
    outages: _containers.RepeatedCompositeFieldContainer[Outage]
    repair: Repair
    repairs: int
    failures: _containers.RepeatedScalarFieldContainer[str]
    taken_out_at_us: int
    breaker_at_us: int
    faults_at_us: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, newest_sighting: _Optional[int] = ..., findings: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ..., outages: _Optional[_Iterable[_Union[Outage, _Mapping]]] = ..., repair: _Optional[_Union[Repair, _Mapping]] = ..., repairs: _Optional[int] = ..., failures: _Optional[_Iterable[str]] = ..., taken_out_at_us: _Optional[int] = ..., breaker_at_us: _Optional[int] = ..., faults_at_us: _Optional[_Iterable[int]] = ...) -> None: ...
