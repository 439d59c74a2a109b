"""Device time and money. Time is integer microseconds, money is Decimal, never float."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from gpusched.domain.allocation import Allocation
from gpusched.domain.ids import DeviceUuid, Epoch, JobId, NodeName
from gpusched.domain.job_state import EndReason
from gpusched.domain.node import WHOLE_MILLI
from gpusched.domain.telemetry import NodeUse


class UsageClass(StrEnum):
    """Each microsecond of each device is in exactly one."""

    PRODUCTIVE = "productive"  # allocated, ranks running, in an attempt not lost to a failure
    ALLOCATED_IDLE = "allocated_idle"  # allocated and running, but measured not busy
    STARTUP = "startup"  # from the grant until every rank runs
    LOST = "lost"  # running time of an attempt that infrastructure ended
    UNALLOCATED = "unallocated"  # nobody's
    DOWN = "down"  # the node was not reachable, or nobody held the device and it was out of service


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceInterval:
    """A device or a share of it, in one class from ``start_us`` (inclusive) to ``end_us`` (exclusive)."""

    node: NodeName
    device: DeviceUuid
    model: str
    usage_class: UsageClass
    start_us: int
    end_us: int
    milli: int = WHOLE_MILLI  # of the device: at each moment those of all its intervals add up to the whole
    job_id: JobId | None = None
    epoch: Epoch | None = None
    user: str | None = None
    account: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSpan:
    """One allocation from grant to release: a fold of the events of one attempt."""

    job_id: JobId
    epoch: Epoch
    user: str
    account: str
    allocation: Allocation  # ``granted_at_us`` is its start
    running_at_us: int | None = None
    ended_at_us: int | None = None
    end_reason: EndReason | None = None
    uses: tuple[tuple[NodeName, NodeUse], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSpan:
    """A node with the same devices, reachability and outages from ``start_us`` to ``end_us``."""

    node: NodeName
    devices: tuple[tuple[DeviceUuid, str], ...]  # uuid, model
    is_up: bool
    start_us: int
    end_us: int | None = None  # None: until now
    out: tuple[DeviceUuid, ...] = ()  # of ``devices``, those that are out of service


@dataclass(frozen=True, slots=True)
class Rate:
    """Price of one hour of one device of ``model``, in force from ``effective_from_us`` until the next."""

    model: str  # words all of which the device's model must hold; "*" matches any
    per_gpu_hour: Decimal
    effective_from_us: int


@dataclass(frozen=True, slots=True)
class RateBook:
    """All rates, in one currency (ISO 4217)."""

    currency: str
    rates: tuple[Rate, ...]


class GroupBy(StrEnum):
    """What a cost report sums over."""

    ACCOUNT = "account"
    USER = "user"
    JOB = "job"
    MODEL = "model"


@dataclass(frozen=True, slots=True)
class ChargeLine:
    """One row of a report. ``billed_cost`` is rounded so that the rows add up to the total's cents."""

    key: str
    usage_class: UsageClass
    gpu_us: int  # rounded so that the rows add up to the whole; exact where no device was shared
    cost: Decimal  # exact
    billed_cost: Decimal  # in cents


@dataclass(frozen=True, slots=True)
class CostReport:
    """``sum(line.billed_cost) == total`` and ``sum(line.gpu_us)`` is every device's whole window."""

    currency: str
    start_us: int
    end_us: int
    group_by: GroupBy
    lines: tuple[ChargeLine, ...]
    total: Decimal
    unpriced_models: tuple[str, ...]  # had no rate: counted at 0 and said so
