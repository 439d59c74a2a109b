from gpusched.v1 import health_pb2 as _health_pb2
from gpusched.v1 import job_pb2 as _job_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PciAncestor(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PCI_ANCESTOR_UNSPECIFIED: _ClassVar[PciAncestor]
    PCI_ANCESTOR_INTERNAL: _ClassVar[PciAncestor]
    PCI_ANCESTOR_SINGLE_SWITCH: _ClassVar[PciAncestor]
    PCI_ANCESTOR_MULTI_SWITCH: _ClassVar[PciAncestor]
    PCI_ANCESTOR_HOST_BRIDGE: _ClassVar[PciAncestor]
    PCI_ANCESTOR_NUMA_NODE: _ClassVar[PciAncestor]
    PCI_ANCESTOR_SYSTEM: _ClassVar[PciAncestor]

class Schedulability(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCHEDULABILITY_UNSPECIFIED: _ClassVar[Schedulability]
    SCHEDULABILITY_OPEN: _ClassVar[Schedulability]
    SCHEDULABILITY_CORDONED: _ClassVar[Schedulability]
    SCHEDULABILITY_DRAINING: _ClassVar[Schedulability]
    SCHEDULABILITY_DRAINED: _ClassVar[Schedulability]
PCI_ANCESTOR_UNSPECIFIED: PciAncestor
PCI_ANCESTOR_INTERNAL: PciAncestor
PCI_ANCESTOR_SINGLE_SWITCH: PciAncestor
PCI_ANCESTOR_MULTI_SWITCH: PciAncestor
PCI_ANCESTOR_HOST_BRIDGE: PciAncestor
PCI_ANCESTOR_NUMA_NODE: PciAncestor
PCI_ANCESTOR_SYSTEM: PciAncestor
SCHEDULABILITY_UNSPECIFIED: Schedulability
SCHEDULABILITY_OPEN: Schedulability
SCHEDULABILITY_CORDONED: Schedulability
SCHEDULABILITY_DRAINING: Schedulability
SCHEDULABILITY_DRAINED: Schedulability

class PeerLink(_message.Message):
    __slots__ = ("peer", "nvlinks", "bandwidth_mb_s", "ancestor")
    PEER_FIELD_NUMBER: _ClassVar[int]
    NVLINKS_FIELD_NUMBER: _ClassVar[int]
    BANDWIDTH_MB_S_FIELD_NUMBER: _ClassVar[int]
    ANCESTOR_FIELD_NUMBER: _ClassVar[int]
    peer: str
    nvlinks: int
    bandwidth_mb_s: int
    ancestor: PciAncestor
    def __init__(self, peer: _Optional[str] = ..., nvlinks: _Optional[int] = ..., bandwidth_mb_s: _Optional[int] = ..., ancestor: _Optional[_Union[PciAncestor, str]] = ...) -> None: ...

class Device(_message.Message):
    __slots__ = ("uuid", "model", "memory_bytes", "declared", "pci_bus_id", "numa_node", "cpu_ids", "mig_enabled", "driver_version", "peers", "mig_profile", "mig_parent", "shareable")
    UUID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DECLARED_FIELD_NUMBER: _ClassVar[int]
    PCI_BUS_ID_FIELD_NUMBER: _ClassVar[int]
    NUMA_NODE_FIELD_NUMBER: _ClassVar[int]
    CPU_IDS_FIELD_NUMBER: _ClassVar[int]
    MIG_ENABLED_FIELD_NUMBER: _ClassVar[int]
    DRIVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    MIG_PROFILE_FIELD_NUMBER: _ClassVar[int]
    MIG_PARENT_FIELD_NUMBER: _ClassVar[int]
    SHAREABLE_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    model: str
    memory_bytes: int
    declared: bool
    pci_bus_id: str
    numa_node: int
    cpu_ids: _containers.RepeatedScalarFieldContainer[int]
    mig_enabled: bool
    driver_version: str
    peers: _containers.RepeatedCompositeFieldContainer[PeerLink]
    mig_profile: str
    mig_parent: str
    shareable: bool
    def __init__(self, uuid: _Optional[str] = ..., model: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., declared: _Optional[bool] = ..., pci_bus_id: _Optional[str] = ..., numa_node: _Optional[int] = ..., cpu_ids: _Optional[_Iterable[int]] = ..., mig_enabled: _Optional[bool] = ..., driver_version: _Optional[str] = ..., peers: _Optional[_Iterable[_Union[PeerLink, _Mapping]]] = ..., mig_profile: _Optional[str] = ..., mig_parent: _Optional[str] = ..., shareable: _Optional[bool] = ...) -> None: ...

class NumaNode(_message.Message):
    __slots__ = ("cpu_ids",)
    CPU_IDS_FIELD_NUMBER: _ClassVar[int]
    cpu_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, cpu_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class NodeFacts(_message.Message):
    __slots__ = ("name", "boot_id", "agent_version", "address", "interface", "cpu_ids", "cpus_pinnable", "memory_bytes", "devices", "kernel", "numa_nodes", "labels", "disk_bytes", "gres")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INTERFACE_FIELD_NUMBER: _ClassVar[int]
    CPU_IDS_FIELD_NUMBER: _ClassVar[int]
    CPUS_PINNABLE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    KERNEL_FIELD_NUMBER: _ClassVar[int]
    NUMA_NODES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    GRES_FIELD_NUMBER: _ClassVar[int]
    name: str
    boot_id: str
    agent_version: str
    address: str
    interface: str
    cpu_ids: _containers.RepeatedScalarFieldContainer[int]
    cpus_pinnable: bool
    memory_bytes: int
    devices: _containers.RepeatedCompositeFieldContainer[Device]
    kernel: str
    numa_nodes: _containers.RepeatedCompositeFieldContainer[NumaNode]
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    disk_bytes: int
    gres: _containers.RepeatedCompositeFieldContainer[_job_pb2.Amount]
    def __init__(self, name: _Optional[str] = ..., boot_id: _Optional[str] = ..., agent_version: _Optional[str] = ..., address: _Optional[str] = ..., interface: _Optional[str] = ..., cpu_ids: _Optional[_Iterable[int]] = ..., cpus_pinnable: _Optional[bool] = ..., memory_bytes: _Optional[int] = ..., devices: _Optional[_Iterable[_Union[Device, _Mapping]]] = ..., kernel: _Optional[str] = ..., numa_nodes: _Optional[_Iterable[_Union[NumaNode, _Mapping]]] = ..., labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., disk_bytes: _Optional[int] = ..., gres: _Optional[_Iterable[_Union[_job_pb2.Amount, _Mapping]]] = ...) -> None: ...

class DeviceSample(_message.Message):
    __slots__ = ("uuid", "busy_percent", "memory_used_bytes", "power_w", "energy_j", "temperature_c", "ecc_uncorrected", "processes")
    UUID_FIELD_NUMBER: _ClassVar[int]
    BUSY_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    POWER_W_FIELD_NUMBER: _ClassVar[int]
    ENERGY_J_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
    ECC_UNCORRECTED_FIELD_NUMBER: _ClassVar[int]
    PROCESSES_FIELD_NUMBER: _ClassVar[int]
    uuid: str
    busy_percent: float
    memory_used_bytes: int
    power_w: float
    energy_j: float
    temperature_c: float
    ecc_uncorrected: int
    processes: ProcessList
    def __init__(self, uuid: _Optional[str] = ..., busy_percent: _Optional[float] = ..., memory_used_bytes: _Optional[int] = ..., power_w: _Optional[float] = ..., energy_j: _Optional[float] = ..., temperature_c: _Optional[float] = ..., ecc_uncorrected: _Optional[int] = ..., processes: _Optional[_Union[ProcessList, _Mapping]] = ...) -> None: ...

class ProcessList(_message.Message):
    __slots__ = ("pids",)
    PIDS_FIELD_NUMBER: _ClassVar[int]
    pids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, pids: _Optional[_Iterable[int]] = ...) -> None: ...

class NodeSample(_message.Message):
    __slots__ = ("node", "sampled_at_us", "cpu_percent", "memory_used_bytes", "load_1m", "devices")
    NODE_FIELD_NUMBER: _ClassVar[int]
    SAMPLED_AT_US_FIELD_NUMBER: _ClassVar[int]
    CPU_PERCENT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOAD_1M_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    node: str
    sampled_at_us: int
    cpu_percent: float
    memory_used_bytes: int
    load_1m: float
    devices: _containers.RepeatedCompositeFieldContainer[DeviceSample]
    def __init__(self, node: _Optional[str] = ..., sampled_at_us: _Optional[int] = ..., cpu_percent: _Optional[float] = ..., memory_used_bytes: _Optional[int] = ..., load_1m: _Optional[float] = ..., devices: _Optional[_Iterable[_Union[DeviceSample, _Mapping]]] = ...) -> None: ...

class AttemptRef(_message.Message):
    __slots__ = ("job_id", "epoch")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    job_id: int
    epoch: int
    def __init__(self, job_id: _Optional[int] = ..., epoch: _Optional[int] = ...) -> None: ...

class Ahead(_message.Message):
    __slots__ = ("attempts", "next_job_id")
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    attempts: _containers.RepeatedCompositeFieldContainer[AttemptRef]
    next_job_id: int
    def __init__(self, attempts: _Optional[_Iterable[_Union[AttemptRef, _Mapping]]] = ..., next_job_id: _Optional[int] = ...) -> None: ...

class Node(_message.Message):
    __slots__ = ("facts", "joined_at_us", "reachable", "schedulability", "reason", "drain_deadline_us", "lost_at_us", "sample", "job_ids", "gpus_allocated", "cpus_allocated", "memory_allocated_bytes", "gpu_milli_allocated", "cordoned_by", "health", "ahead", "is_suspended")
    FACTS_FIELD_NUMBER: _ClassVar[int]
    JOINED_AT_US_FIELD_NUMBER: _ClassVar[int]
    REACHABLE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULABILITY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DRAIN_DEADLINE_US_FIELD_NUMBER: _ClassVar[int]
    LOST_AT_US_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_FIELD_NUMBER: _ClassVar[int]
    JOB_IDS_FIELD_NUMBER: _ClassVar[int]
    GPUS_ALLOCATED_FIELD_NUMBER: _ClassVar[int]
    CPUS_ALLOCATED_FIELD_NUMBER: _ClassVar[int]
    MEMORY_ALLOCATED_BYTES_FIELD_NUMBER: _ClassVar[int]
    GPU_MILLI_ALLOCATED_FIELD_NUMBER: _ClassVar[int]
    CORDONED_BY_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    IS_SUSPENDED_FIELD_NUMBER: _ClassVar[int]
    facts: NodeFacts
    joined_at_us: int
    reachable: bool
    schedulability: Schedulability
    reason: str
    drain_deadline_us: int
    lost_at_us: int
    sample: NodeSample
    job_ids: _containers.RepeatedScalarFieldContainer[int]
    gpus_allocated: int
    cpus_allocated: int
    memory_allocated_bytes: int
    gpu_milli_allocated: int
    cordoned_by: str
    health: _health_pb2.NodeHealth
    ahead: Ahead
    is_suspended: bool
    def __init__(self, facts: _Optional[_Union[NodeFacts, _Mapping]] = ..., joined_at_us: _Optional[int] = ..., reachable: _Optional[bool] = ..., schedulability: _Optional[_Union[Schedulability, str]] = ..., reason: _Optional[str] = ..., drain_deadline_us: _Optional[int] = ..., lost_at_us: _Optional[int] = ..., sample: _Optional[_Union[NodeSample, _Mapping]] = ..., job_ids: _Optional[_Iterable[int]] = ..., gpus_allocated: _Optional[int] = ..., cpus_allocated: _Optional[int] = ..., memory_allocated_bytes: _Optional[int] = ..., gpu_milli_allocated: _Optional[int] = ..., cordoned_by: _Optional[str] = ..., health: _Optional[_Union[_health_pb2.NodeHealth, _Mapping]] = ..., ahead: _Optional[_Union[Ahead, _Mapping]] = ..., is_suspended: _Optional[bool] = ...) -> None: ...
