"""The health of nodes and devices: what agents observe, what policy makes of it, what it takes to cure it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from gpusched.domain.ids import DeviceUuid, NodeName


class Signal(StrEnum):
    """What an agent can observe. An Xid is seen at an instant; everything else holds until it is over."""

    XID = "Xid"  # the driver reported an error; ``code`` is its number
    GPU_LOST = "GpuLost"  # a device that was there does not answer any more
    NVML_SILENT = "NvmlSilent"  # calls to the driver do not return
    RECOVERY = "Recovery"  # NVML's own verdict; ``code`` is its nvmlDeviceGpuRecoveryAction_t
    ECC_UNCORRECTED = "EccUncorrected"  # volatile uncorrectable errors since the driver loaded
    REMAP_FAILED = "RemapFailed"  # a memory row could not be replaced
    REMAP_PENDING = "RemapPending"  # a memory row is replaced at the next reset
    NVLINK_INACTIVE = "NvlinkInactive"  # a link that was active is not
    NVLINK_ERRORS = "NvlinkErrors"  # a link's error counter rises
    THERMAL_SLOWDOWN = "ThermalSlowdown"  # clocks lowered by the hardware, for heat
    POWER_BRAKE = "PowerBrake"  # clocks lowered by the power supply's signal
    DEVICE_HELD = "DeviceHeld"  # memory or a process on a device that no job has
    MOUNT_MISSING = "MountMissing"
    PORT_DOWN = "PortDown"
    PORT_FLAPPING = "PortFlapping"  # down twice or more within five minutes
    DISK_FULL = "DiskFull"
    INODES_FULL = "InodesFull"
    CLOCK_SKEW = "ClockSkew"  # the node's wall clock is certainly apart from the head's
    STUCK_PROCESSES = "StuckProcesses"  # uninterruptible for more than a minute
    CHECK_FAILED = "CheckFailed"  # a site check said no
    PROLOG_FAILED = "PrologFailed"
    EPILOG_FAILED = "EpilogFailed"


class HealthAction(StrEnum):
    """What policy does about a condition; ``policy.health.RESPONSES`` says what each takes out and ends."""

    IGNORE = "ignore"  # on record only
    WATCH = "watch"  # on record, and listed
    NOTIFY = "notify"
    NOTIFY_ONCE = "notify_once"
    RESTART_APP = "restart_app"  # the job's doing, or its loss alone
    HOLD_DEVICE = "hold_device"
    DRAIN = "drain"
    DRAIN_THEN_RESET = "drain_then_reset"
    RESET = "reset"
    EVICT = "evict"
    CORDON = "cordon"
    REBOOT = "reboot"
    CORRELATE = "correlate"  # what it means depends on what else is seen within ten seconds
    AS_WORDED = "as_worded"  # the driver names the remedy in words


class Cure(StrEnum):
    """What has to happen before something taken out may be checked and put back."""

    CLEAR = "clear"  # the agent no longer observes it
    RESET = "reset"  # of the devices
    REBOOT = "reboot"
    OPERATOR = "operator"  # nothing we can do


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that is, or was seen to be, wrong."""

    signal: Signal
    detail: str  # in words, for people
    code: int | None = None
    devices: tuple[DeviceUuid, ...] = ()  # empty: the node

    @property
    def key(self) -> tuple[Signal, int | None, tuple[DeviceUuid, ...]]:
        """What makes it the same condition, whatever its words."""
        return self.signal, self.code, self.devices

    @property
    def is_instant(self) -> bool:
        """Seen at one moment: nothing will ever say that it is over."""
        return self.signal in INSTANT


INSTANT = frozenset({Signal.XID, Signal.PROLOG_FAILED, Signal.EPILOG_FAILED})
"""Signals that are seen at an instant and never clear."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A condition at an instant, as an agent tells of it.

    ``observed_us`` counts from the node's boot and rises from sighting to sighting, so that
    one which is told twice is known.
    """

    observed_us: int
    condition: Condition


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthObserved:
    """All that an agent observes now: what a complete picture does not hold any more is over.

    An agent that has just begun to look tells an incomplete one. Told when something changes, and once
    after the agent started; repeated until acknowledged.
    """

    node: NodeName
    boot_id: str
    conditions: tuple[Condition, ...]
    sightings: tuple[Sighting, ...]  # since the last one that was acknowledged
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A condition as the engine knows it."""

    condition: Condition
    since_us: int  # the head's wall clock
    users: tuple[str, ...] = ()  # whose jobs held the device, or the node, when it was seen
    action: HealthAction | None = None  # None: not decided yet


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """A node, or devices of it, out of service until cured."""

    condition: Condition  # the cause
    action: HealthAction
    cure: Cure
    devices: tuple[DeviceUuid, ...] = ()  # empty: the whole node

    @property
    def key(self) -> tuple[object, ...]:
        """What makes it the same outage, however it is to be cured by now."""
        return self.condition.key, self.devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """Ordered: reset ``devices``, then check. ``number`` rises, so that a late answer is known as such."""

    number: int
    devices: tuple[DeviceUuid, ...]  # to reset; may be none
    outages: tuple[Outage, ...]  # that end if the check passes


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHealth:
    """What is known of one node's health: a fold of its events."""

    newest_sighting: int = 0  # the ``observed_us`` of it, in this boot
    findings: tuple[Finding, ...] = ()
    outages: tuple[Outage, ...] = ()
    repair: Repair | None = None  # under way
    repairs: int = 0  # how many were ever ordered
    failures: tuple[str, ...] = ()  # why the last repair did not help; none is tried until something changes
    taken_out_at_us: int | None = None  # last time policy took something out: what the breaker counts
    breaker_at_us: int | None = None  # since when policy would take something out and must not
    faults_at_us: tuple[int, ...] = ()  # infrastructure failures here, oldest first

    @property
    def devices_out(self) -> frozenset[DeviceUuid]:
        """Devices that are out by themselves."""
        return frozenset(uuid for outage in self.outages for uuid in outage.devices)

    @property
    def is_node_out(self) -> bool:
        """Whether the node as a whole is out."""
        return any(not outage.devices for outage in self.outages)


HEALTHY = NodeHealth()
BY_HEALTH = "gpusched"
"""Who cordons, drains and resumes by policy: a node cordoned by anybody else never returns by itself."""

FINDINGS_MAX = 64
FAULTS_MAX = 256
FAULTS_KEPT_US = 28 * 86_400_000_000
"""Lemon nodes are judged over 28 days (Kokolis et al., "Revisiting Reliability in Large-Scale Machine
Learning Research Clusters", arXiv 2410.21680)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class XidRule:
    """What one Xid calls for. ``alone`` decides if it is to be correlated and nothing else was seen."""

    action: HealthAction
    alone: HealthAction | None = None
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """Stops automatic take-outs when they become many: then it is not the nodes that are sick."""

    nodes: int = 2
    share: float = 0.2
    window_s: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthRules:
    """All that an operator can set of the policy."""

    xids: dict[int, XidRule] = field(default_factory=dict)
    unknown_xid: HealthAction = HealthAction.NOTIFY
    signals: dict[Signal, HealthAction] = field(default_factory=dict)  # overrides
    breaker: Breaker = field(default_factory=Breaker)
