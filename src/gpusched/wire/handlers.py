"""What the servicers call: the API in domain types. ``api`` implements these; grpc stays in ``wire``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from gpusched.domain.checkpoints import FailureHistory
from gpusched.domain.defrag import DefragPlan
from gpusched.domain.diagnosis import Diagnosis
from gpusched.domain.events import Recorded
from gpusched.domain.identity import Principal
from gpusched.domain.ids import Epoch, JobId, NodeName, RequestId
from gpusched.domain.job import Job, JobFilter
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import PendingReason
from gpusched.domain.launch_plan import LaunchPlan
from gpusched.domain.link import FromAgent, FromHead
from gpusched.domain.logs import LogChunk, LogPosition, LogSource
from gpusched.domain.membership import CertificateGiven, JoinTokenMade, Trust
from gpusched.domain.node import Node
from gpusched.domain.telemetry import NodeSample, NodeUse
from gpusched.domain.topology import RingCost, Topology
from gpusched.domain.usage import CostReport, DeviceInterval, GroupBy


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job as readers see it: the projection and what is derived from it."""

    job: Job
    pending_reason: PendingReason | None
    uses: tuple[tuple[NodeName, NodeUse], ...] = ()  # measured, of the last attempt; GetJob only
    cost: str | None = None  # so far, e.g. "1.2345"; GetJob only
    currency: str | None = None
    plan: LaunchPlan | None = None  # of the last attempt; GetJob only
    ring: RingCost | None = None  # of the last attempt's nodes, on the topology of now; GetJob only


@dataclass(frozen=True, slots=True)
class Page:
    """``token`` continues the listing; None at the end."""

    jobs: tuple[JobView, ...]
    token: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node with its newest sample and what runs there."""

    node: Node
    sample: NodeSample | None
    jobs: tuple[JobId, ...]
    gpus_allocated: int  # devices of which any part is held
    gpu_milli_allocated: int  # the same in thousandths of a device
    cpus_allocated: int
    memory_allocated_bytes: int
    is_suspended: bool = False  # with every other: the database went back in time, nothing is started


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPreview:
    """What a submission would get now, without submitting it."""

    diagnosis: Diagnosis
    plan: LaunchPlan | None  # None: it would wait; ``diagnosis`` says why
    price_per_hour: str | None
    currency: str | None
    ring: RingCost | None = None


class JobHandlers(Protocol):
    """Jobs. Every method may raise any ``GpuschedError``; mutations return after the commit."""

    async def submit(
        self, who: Principal, request_id: RequestId, specs: Sequence[JobSpec]
    ) -> tuple[JobId, ...]: ...
    async def plan(self, who: Principal, spec: JobSpec) -> PlanPreview: ...
    async def get(self, who: Principal, job_id: JobId) -> JobView: ...
    async def list(
        self, who: Principal, where: JobFilter, page_size: int, page_token: str | None
    ) -> Page: ...
    async def cancel(self, who: Principal, request_id: RequestId, job_id: JobId) -> None: ...
    async def hold(self, who: Principal, request_id: RequestId, job_id: JobId) -> None: ...
    async def release(self, who: Principal, request_id: RequestId, job_id: JobId) -> None: ...
    async def requeue(self, who: Principal, request_id: RequestId, job_id: JobId, *, hold: bool) -> None: ...
    def watch(self, who: Principal, job_ids: Sequence[JobId], after_seq: int) -> AsyncIterator[Recorded]: ...
    def logs(
        self,
        who: Principal,
        job_id: JobId,
        *,
        epoch: Epoch | None,
        ranks: tuple[int, ...] | None,
        since_us: int | None,
        tail_lines: int | None,
        follow: bool,
        source: LogSource | None,
        positions: tuple[LogPosition, ...],
    ) -> AsyncIterator[LogChunk]: ...
    async def explain(self, who: Principal, job_id: JobId) -> Diagnosis: ...
    async def plan_defrag(self, who: Principal, gang: JobId | JobSpec) -> DefragPlan: ...


class NodeHandlers(Protocol):
    """Nodes."""

    async def list(self, who: Principal) -> tuple[NodeView, ...]: ...
    async def get(self, who: Principal, node: NodeName) -> NodeView: ...
    async def fabric(self, who: Principal) -> Topology: ...
    async def cordon(self, who: Principal, request_id: RequestId, node: NodeName, reason: str) -> None: ...
    async def drain(
        self, who: Principal, request_id: RequestId, node: NodeName, reason: str, deadline_s: int | None
    ) -> None: ...
    async def resume(self, who: Principal, request_id: RequestId, node: NodeName) -> None: ...
    async def reset_breaker(self, who: Principal, request_id: RequestId) -> None: ...
    async def events(self, who: Principal, node: NodeName, limit: int) -> tuple[Recorded, ...]: ...


class AgentHandlers(Protocol):
    """The agents' streams."""

    def connect(self, who: Principal, incoming: AsyncIterator[FromAgent]) -> AsyncIterator[FromHead]:
        """One agent's session: yields orders while reading facts; ends when either side does."""
        ...


class ReportHandlers(Protocol):
    """Usage and money. Read only; the engine is not disturbed."""

    async def usage(
        self, who: Principal, start_us: int | None, end_us: int | None
    ) -> tuple[DeviceInterval, ...]: ...
    async def failures(self, who: Principal) -> FailureHistory: ...
    async def cost(
        self, who: Principal, group_by: GroupBy, start_us: int | None, end_us: int | None
    ) -> CostReport: ...


class MemberHandlers(Protocol):
    """Which nodes belong to the cluster."""

    async def trust(self) -> Trust: ...
    async def create_token(
        self, who: Principal, digest: bytes, node: NodeName | None, lifetime_s: int
    ) -> JoinTokenMade: ...
    async def join(self, token: str, node: NodeName, signing_request: bytes) -> CertificateGiven: ...
    async def revoke(self, who: Principal, node: NodeName) -> int: ...


@dataclass(frozen=True, slots=True)
class Handlers:
    """All services of one head."""

    jobs: JobHandlers
    nodes: NodeHandlers
    agents: AgentHandlers
    reports: ReportHandlers
    members: MemberHandlers
