"""What a cycle decides, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import PendingReason
from gpusched.placement.placement import Counts, NodePlacement, Placement


@dataclass(frozen=True, slots=True)
class QueueEntry:
    """A pending job that may be started. The queue is handed over in priority order.

    An object that is handed over again costs the next cycle a look-up; an equal one a little more.
    """

    job_id: JobId
    spec: JobSpec
    failed_on: tuple[NodeName, ...] = ()  # nodes whose fault ended its attempts


@dataclass(frozen=True, slots=True)
class RunningEntry:
    """What a started job holds, and until when at the latest (None: no time limit)."""

    job_id: JobId
    nodes: tuple[NodePlacement, ...]
    ends_by_us: int | None
    licenses: Counts = ()  # of the whole cluster


@dataclass(frozen=True, slots=True)
class Start:
    """Start this job here."""

    job_id: JobId
    placement: Placement


@dataclass(frozen=True, slots=True)
class Plan:
    """Made on one ``generation`` of the cluster; commit refuses it on any other."""

    generation: int
    starts: tuple[Start, ...] = ()
    reasons: Mapping[JobId, PendingReason] = field(default_factory=dict)  # of examined, waiting jobs
    forecasts: Mapping[JobId, int] = field(default_factory=dict)  # earliest start, wall microseconds
