"""Nodes and devices as their agent reports them, and what operators decided about them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpusched.domain.health import BY_HEALTH, HEALTHY, NodeHealth
from gpusched.domain.history import Ahead
from gpusched.domain.ids import DeviceUuid, NodeName

WHOLE_MILLI = 1000
"""A whole device: shares of one are counted in thousandths."""


class PciAncestor(StrEnum):
    """How near two devices are on PCIe (NVML ``nvmlGpuTopologyLevel_t``), nearest first."""

    INTERNAL = "internal"  # two GPUs of one board
    SINGLE_SWITCH = "single"  # one PCIe switch between them
    MULTI_SWITCH = "multiple"  # several switches, no host bridge
    HOST_BRIDGE = "hostbridge"
    NUMA_NODE = "node"  # one socket, several host bridges
    SYSTEM = "system"  # across sockets


@dataclass(frozen=True, slots=True)
class PeerLink:
    """How one device reaches another of its node. ``nvlinks`` counts active links, 0 if none."""

    peer: DeviceUuid
    nvlinks: int
    bandwidth_mb_s: int  # one direction, sum over links, or of the PCIe path
    ancestor: PciAncestor | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One schedulable GPU or MIG slice. What could not be read is None, never 0."""

    uuid: DeviceUuid
    model: str  # NVML's product name, or the declared one: "NVIDIA H100 80GB HBM3"
    memory_bytes: int | None
    declared: bool = False  # no NVML stands behind it; shown wherever the device is shown
    pci_bus_id: str | None = None
    numa_node: int | None = None
    cpu_ids: tuple[int, ...] = ()  # CPUs near it, empty if unknown
    mig_enabled: bool | None = None
    mig_profile: str | None = None  # "1g.10gb": a MIG slice of it; None: a whole GPU
    mig_parent: DeviceUuid | None = None  # the GPU that a slice is cut from, which is no device itself
    shareable: bool = False  # several jobs may hold thousandths of it; they share it without isolation
    driver_version: str | None = None
    peers: tuple[PeerLink, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What an agent says of its machine when it connects."""

    name: NodeName
    boot_id: str
    agent_version: str
    address: str  # where other nodes reach it
    interface: str | None  # the network interface that holds ``address``
    cpu_ids: tuple[int, ...]  # schedulable CPUs
    cpus_pinnable: bool  # False where more CPUs are declared than the machine has
    memory_bytes: int
    devices: tuple[Device, ...] = ()
    kernel: str | None = None
    numa_cpu_ids: tuple[tuple[int, ...], ...] = ()  # CPUs of each NUMA node
    labels: tuple[tuple[str, str], ...] = ()  # what the site says of the machine: ("rack", "r1")
    disk_bytes: int | None = None  # of local scratch disk; None: the agent does not say
    gres: tuple[tuple[str, int], ...] = ()  # generic counters: ("fpga", 2)


class Schedulability(StrEnum):
    """What operators decided. Whether the node is reachable is another matter."""

    OPEN = "OPEN"
    CORDONED = "CORDONED"  # no new work; running work stays
    DRAINING = "DRAINING"  # cordoned, and waiting for its jobs to end
    DRAINED = "DRAINED"  # cordoned and empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node as the engine knows it."""

    facts: NodeFacts
    joined_at_us: int
    reachable: bool = True
    schedulability: Schedulability = Schedulability.OPEN
    reason: str | None = None  # why it is cordoned or unreachable
    drain_deadline_us: int | None = None
    lost_at_us: int | None = None
    cordoned_by: str | None = None  # who decided that it is not open
    health: NodeHealth = HEALTHY
    ahead: Ahead | None = None  # what it knows and the database does not, since that went back in time

    @property
    def name(self) -> NodeName:
        """The node's name, unique in the cluster."""
        return self.facts.name

    @property
    def is_out_by_health(self) -> bool:
        """Whether policy, and no operator, keeps it from work."""
        return self.schedulability is not Schedulability.OPEN and self.cordoned_by == BY_HEALTH
