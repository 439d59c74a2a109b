"""``Client`` on asyncio: the same nouns and verbs, awaited; iterators become asynchronous ones.

    >>> async with AsyncClient() as client:
    ...     job_id = await client.jobs.submit(spec)
    ...     async for chunk in client.jobs.logs(job_id, follow=True):
    ...         sys.stdout.buffer.write(chunk.data)

What the verbs promise, their units and errors are told in ``client.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from gpusched.domain.checkpoints import FailureHistory
from gpusched.domain.defrag import DefragPlan
from gpusched.domain.diagnosis import Diagnosis
from gpusched.domain.events import Recorded
from gpusched.domain.ids import Epoch, JobId, NodeName, RequestId
from gpusched.domain.job import JobFilter
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.logs import LogChunk
from gpusched.domain.membership import JoinTokenMade
from gpusched.domain.node import NodeFacts
from gpusched.domain.topology import Topology
from gpusched.domain.usage import CostReport, DeviceInterval, GroupBy
from gpusched.wire import calls
from gpusched.wire.async_transport import AsyncTransport
from gpusched.wire.channel import TIMEOUT_S, Reaches
from gpusched.wire.handlers import JobView, NodeView, PlanPreview

EVERY_JOB = JobFilter()


class AsyncJobs:
    """Submit, look, change. Mutations return when they are durable.

    Mutations take a ``request_id``: calling again with the same id and arguments changes nothing
    and gives the first answer, so a caller that was interrupted may repeat itself. Without one a
    new id is made per call, and kept over the client's own retries.
    """

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def submit(self, spec: JobSpec, *, request_id: RequestId | None = None) -> JobId:
        """Accept one job."""
        return await self._transport.unary(calls.submit_job(spec, request_id))

    async def submit_many(
        self, specs: Sequence[JobSpec], *, request_id: RequestId | None = None
    ) -> tuple[JobId, ...]:
        """Accept all jobs or none, in one transaction; ids are in the order of ``specs``."""
        return await self._transport.unary(calls.submit_jobs(specs, request_id))

    async def plan(self, spec: JobSpec) -> PlanPreview:
        """Say what ``submit`` would get now: nodes, devices, environment, price; submits nothing."""
        return await self._transport.unary(calls.plan_job(spec))

    async def get(self, job_id: JobId) -> JobView:
        """Read one job with its measured use, its cost and its last launch plan."""
        return await self._transport.unary(calls.get_job(job_id))

    async def list(self, where: JobFilter = EVERY_JOB, *, page_size: int = 0) -> AsyncIterator[JobView]:
        """Iterate over all jobs that fit ``where``, newest first, fetching pages as needed."""
        token: str | None = None
        while True:
            page = await self._transport.unary(calls.list_jobs(where, page_size, token))
            for job in page.jobs:
                yield job
            token = page.token
            if token is None:
                return

    async def cancel(self, job_id: JobId, *, request_id: RequestId | None = None) -> None:
        """End a job wherever it is: queued or running."""
        await self._transport.unary(calls.cancel_job(job_id, request_id))

    async def hold(self, job_id: JobId, *, request_id: RequestId | None = None) -> None:
        """Keep a pending job from starting."""
        await self._transport.unary(calls.hold_job(job_id, request_id))

    async def release(self, job_id: JobId, *, request_id: RequestId | None = None) -> None:
        """Lift a hold."""
        await self._transport.unary(calls.release_job(job_id, request_id))

    async def requeue(
        self, job_id: JobId, *, hold: bool = False, request_id: RequestId | None = None
    ) -> None:
        """End the running attempt and queue the job again; with ``hold``, not to start until released."""
        await self._transport.unary(calls.requeue_job(job_id, request_id, hold=hold))

    def watch(self, job_ids: Sequence[JobId], after_seq: int = 0) -> AsyncIterator[Recorded]:
        """Follow the events of jobs: those in the log first, then as they happen."""
        return self._transport.stream(calls.watch_job(job_ids, after_seq))

    def logs(
        self,
        job_id: JobId,
        *,
        epoch: Epoch | None = None,
        ranks: tuple[int, ...] | None = None,
        since_us: int | None = None,
        tail_lines: int | None = None,
        follow: bool = False,
    ) -> AsyncIterator[LogChunk]:
        """Read the output of one attempt, merged over ranks, in order within a rank."""
        return self._transport.stream(
            calls.stream_logs(
                job_id, epoch=epoch, ranks=ranks, since_us=since_us, tail_lines=tail_lines, follow=follow
            )
        )

    def stacks(
        self, job_id: JobId, *, epoch: Epoch | None = None, ranks: tuple[int, ...] | None = None
    ) -> AsyncIterator[LogChunk]:
        """Read what ranks were doing when their gang stalled: one chunk per rank, empty if not kept."""
        return self._transport.stream(calls.stream_stacks(job_id, epoch=epoch, ranks=ranks))

    async def explain(self, job_id: JobId) -> Diagnosis:
        """Say why a job waits: every constraint and how many nodes it rules out."""
        return await self._transport.unary(calls.explain_job(job_id))

    async def plan_defrag(self, gang: JobId | JobSpec) -> DefragPlan:
        """Say which running jobs would have to move so that a pending or imagined gang fits; moves none."""
        return await self._transport.unary(calls.plan_defrag(gang))

    async def wait(self, job_id: JobId) -> JobView:
        """Return the job when it is terminal, however long that takes."""
        async for _ in self.watch((job_id,)):
            pass
        return await self.get(job_id)


class AsyncNodes:
    """Look at nodes, take them out of service and put them back. Changes need the operator's role."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def list(self) -> tuple[NodeView, ...]:
        """All nodes by name, each with its newest sample and its jobs."""
        return await self._transport.unary(calls.list_nodes())

    async def get(self, node: NodeName) -> NodeView:
        """One node."""
        return await self._transport.unary(calls.get_node(node))

    async def cordon(self, node: NodeName, reason: str, *, request_id: RequestId | None = None) -> None:
        """No new work there; running work stays."""
        await self._transport.unary(calls.cordon_node(node, reason, request_id))

    async def drain(
        self,
        node: NodeName,
        reason: str,
        deadline_s: int | None = None,
        *,
        request_id: RequestId | None = None,
    ) -> None:
        """Cordon, then wait for its jobs; what runs ``deadline_s`` seconds from now is ended."""
        await self._transport.unary(
            calls.drain_node(node, reason, deadline_s=deadline_s, request_id=request_id)
        )

    async def resume(self, node: NodeName, *, request_id: RequestId | None = None) -> None:
        """Open for work again."""
        await self._transport.unary(calls.resume_node(node, request_id))

    async def reset_breaker(self, *, request_id: RequestId | None = None) -> None:
        """Let policy take nodes out of service again."""
        await self._transport.unary(calls.reset_breaker(request_id))

    async def events(self, node: NodeName, limit: int = 100) -> tuple[Recorded, ...]:
        """What happened to a node itself, oldest first: the last ``limit`` events."""
        return await self._transport.unary(calls.list_node_events(node, limit))

    async def topology(self, node: NodeName | None = None) -> tuple[NodeFacts, ...]:
        """Devices and how they are connected, of one node or of all."""
        return await self._transport.unary(calls.get_topology(node))

    async def fabric(self) -> Topology:
        """How nodes hang together; no levels where it was not described."""
        return await self._transport.unary(calls.get_fabric())


class AsyncReports:
    """Usage and money, folded from the event log. Bounds in microseconds; None: as far as it goes."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def usage(
        self, start_us: int | None = None, end_us: int | None = None
    ) -> tuple[DeviceInterval, ...]:
        """Every device's time in the window, each microsecond in exactly one class."""
        return await self._transport.unary(calls.get_usage(start_us, end_us))

    async def failures(self) -> FailureHistory:
        """Read how often nodes in use failed in the last 28 days."""
        return await self._transport.unary(calls.get_failures())

    async def cost(
        self, group_by: GroupBy, start_us: int | None = None, end_us: int | None = None
    ) -> CostReport:
        """The money of the window; the rows add up to the total, to the cent."""
        return await self._transport.unary(calls.get_cost(group_by, start_us, end_us))


class AsyncMembers:
    """Which nodes of other machines belong to the cluster. Needs the operator's role."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def create_join_token(self, digest: bytes, node: NodeName | None, lifetime_s: int) -> JoinTokenMade:
        """Let in whoever shows the token of this SHA-256, once, as ``node`` or as any new node."""
        return await self._transport.unary(calls.create_join_token(digest, node, lifetime_s))

    async def revoke(self, node: NodeName) -> int:
        """Make every certificate of ``node`` worthless; returns how many held."""
        return await self._transport.unary(calls.revoke_node(node))


class AsyncClient:
    """A connection to a head, made when first used. Belongs to the event loop on which it was made.

    Args:
        address: ``unix:///path/head.sock`` or ``host:port``, or those of several heads, separated by
            commas: one leads, and the client finds it. None: ``$GPUSCHED_ADDRESS``, else the head of
            ``$GPUSCHED_HOME`` (``~/.gpusched``).
        token: Shown with every call; None: ``$GPUSCHED_TOKEN``, ``$GPUSCHED_TOKEN_FILE``, else one
            fetched from the local head, and again when it has ended.
        ca_file: Whose certificates to trust (PEM); None: ``$GPUSCHED_CA_FILE``, else the system's.
            Heads on other machines are spoken to over TLS only.
        timeout_s: How long one call may take.
        retry_s: How long to go on trying while nobody answers; None: 5 s, with several heads 30 s.

    Raises:
        ConfigInvalid: The address or the CA file cannot be used.
        Unauthenticated: The head is on another machine and there is no token.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        token: str | None = None,
        ca_file: Path | None = None,
        timeout_s: float = TIMEOUT_S,
        retry_s: float | None = None,
    ) -> None:
        self._transport = AsyncTransport(
            Reaches(address, token=token, ca_file=ca_file, timeout_s=timeout_s, retry_s=retry_s)
        )
        self.jobs = AsyncJobs(self._transport)
        self.nodes = AsyncNodes(self._transport)
        self.reports = AsyncReports(self._transport)
        self.members = AsyncMembers(self._transport)

    async def close(self) -> None:
        """Close the connection; calls in flight fail."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        await self.close()
