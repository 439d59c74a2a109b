"""The public client: a head's jobs, nodes and reports, in domain types.

    >>> from gpusched import Client, JobSpec
    >>> with Client() as client:
    ...     spec = JobSpec(name="train", command=("python", "train.py"), gpus_per_node=8)
    ...     job_id = client.jobs.submit(spec)
    ...     for chunk in client.jobs.logs(job_id, follow=True):
    ...         sys.stdout.buffer.write(chunk.data)
    ...     print(client.jobs.get(job_id).job.state)

``AsyncClient`` has the same nouns and verbs, to be awaited. Units everywhere: bytes, seconds for
durations, microseconds since the epoch for instants. Any call may raise any ``GpuschedError``; all
may raise ``HeadUnavailable`` (nobody answers) and ``Unauthenticated``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
from gpusched.wire.channel import TIMEOUT_S, Reaches
from gpusched.wire.handlers import JobView, NodeView, PlanPreview
from gpusched.wire.transport import Transport

EVERY_JOB = JobFilter()


class Jobs:
    """Submit, look, change. Mutations return when they are durable.

    Mutations take a ``request_id``: calling again with the same id and arguments changes nothing
    and gives the first answer, so a caller that was interrupted may repeat itself. Without one a
    new id is made per call, and kept over the client's own retries.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def submit(self, spec: JobSpec, *, request_id: RequestId | None = None) -> JobId:
        """Accept one job.

        Raises:
            InvalidSpec: ``violations`` names every wrong field.
            InfeasibleRequest: It can never run on this cluster; the message says what could.
        """
        return self._transport.unary(calls.submit_job(spec, request_id))

    def submit_many(
        self, specs: Sequence[JobSpec], *, request_id: RequestId | None = None
    ) -> tuple[JobId, ...]:
        """Accept all jobs or none, in one transaction; ids are in the order of ``specs``.

        Raises:
            InvalidSpec: Fields are named ``specs[3].nodes``.
            OverLimit: More than the head takes at once.
        """
        return self._transport.unary(calls.submit_jobs(specs, request_id))

    def plan(self, spec: JobSpec) -> PlanPreview:
        """Say what ``submit`` would get now: nodes, devices, environment, price; submits nothing."""
        return self._transport.unary(calls.plan_job(spec))

    def get(self, job_id: JobId) -> JobView:
        """Read one job with its measured use, its cost and its last launch plan.

        Raises:
            NotFound: There is no such job.
        """
        return self._transport.unary(calls.get_job(job_id))

    def list(self, where: JobFilter = EVERY_JOB, *, page_size: int = 0) -> Iterator[JobView]:
        """Iterate over all jobs that fit ``where``, newest first, fetching pages as needed.

        Args:
            where: All given conditions must hold.
            page_size: Jobs per request, 1 to 1000; 0 leaves it to the head.
        """
        token: str | None = None
        while True:
            page = self._transport.unary(calls.list_jobs(where, page_size, token))
            yield from page.jobs
            token = page.token
            if token is None:
                return

    def cancel(self, job_id: JobId, *, request_id: RequestId | None = None) -> None:
        """End a job wherever it is: queued or running."""
        self._transport.unary(calls.cancel_job(job_id, request_id))

    def hold(self, job_id: JobId, *, request_id: RequestId | None = None) -> None:
        """Keep a pending job from starting."""
        self._transport.unary(calls.hold_job(job_id, request_id))

    def release(self, job_id: JobId, *, request_id: RequestId | None = None) -> None:
        """Lift a hold."""
        self._transport.unary(calls.release_job(job_id, request_id))

    def requeue(self, job_id: JobId, *, hold: bool = False, request_id: RequestId | None = None) -> None:
        """End the running attempt and queue the job again; with ``hold``, not to start until released."""
        self._transport.unary(calls.requeue_job(job_id, request_id, hold=hold))

    def watch(self, job_ids: Sequence[JobId], after_seq: int = 0) -> Iterator[Recorded]:
        """Follow the events of jobs: those in the log first, then as they happen.

        Ends when every named job is terminal. Goes on by itself over a restart of the head, with
        no event lost or repeated.

        Args:
            job_ids: None named: all jobs, without end.
            after_seq: Only events with a greater sequence number.
        """
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
    ) -> Iterator[LogChunk]:
        """Read the output of one attempt, merged over ranks, in order within a rank.

        Args:
            job_id: Whose.
            epoch: Which attempt; None: the last.
            ranks: Global ranks; None: all.
            since_us: Only what was written at or after this instant, by its node's clock.
            tail_lines: Only the last lines of each rank that are there at the start.
            follow: Go on until every rank has ended and its last byte was sent.

        Goes on by itself over a restart of the head, or with the head that takes over, at the byte
        where it was cut off.

        Raises:
            NodeUnavailable: The output lies on a node that is not connected.
        """
        return self._transport.stream(
            calls.stream_logs(
                job_id, epoch=epoch, ranks=ranks, since_us=since_us, tail_lines=tail_lines, follow=follow
            )
        )

    def stacks(
        self, job_id: JobId, *, epoch: Epoch | None = None, ranks: tuple[int, ...] | None = None
    ) -> Iterator[LogChunk]:
        """Read what ranks were doing when their gang stalled: one chunk per rank, empty if not kept."""
        return self._transport.stream(calls.stream_stacks(job_id, epoch=epoch, ranks=ranks))

    def explain(self, job_id: JobId) -> Diagnosis:
        """Say why a job waits: every constraint and how many nodes it rules out."""
        return self._transport.unary(calls.explain_job(job_id))

    def plan_defrag(self, gang: JobId | JobSpec) -> DefragPlan:
        """Say which running jobs would have to move so that a pending or imagined gang fits; moves none."""
        return self._transport.unary(calls.plan_defrag(gang))

    def wait(self, job_id: JobId) -> JobView:
        """Return the job when it is terminal, however long that takes."""
        for _ in self.watch((job_id,)):
            pass
        return self.get(job_id)


class Nodes:
    """Look at nodes, take them out of service and put them back. Changes need the operator's role."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> tuple[NodeView, ...]:
        """All nodes by name, each with its newest sample and its jobs."""
        return self._transport.unary(calls.list_nodes())

    def get(self, node: NodeName) -> NodeView:
        """One node.

        Raises:
            NotFound: There is no such node.
        """
        return self._transport.unary(calls.get_node(node))

    def cordon(self, node: NodeName, reason: str, *, request_id: RequestId | None = None) -> None:
        """No new work there; running work stays."""
        self._transport.unary(calls.cordon_node(node, reason, request_id))

    def drain(
        self,
        node: NodeName,
        reason: str,
        deadline_s: int | None = None,
        *,
        request_id: RequestId | None = None,
    ) -> None:
        """Cordon, then wait for its jobs; what runs ``deadline_s`` seconds from now is ended."""
        self._transport.unary(calls.drain_node(node, reason, deadline_s=deadline_s, request_id=request_id))

    def resume(self, node: NodeName, *, request_id: RequestId | None = None) -> None:
        """Open for work again."""
        self._transport.unary(calls.resume_node(node, request_id))

    def reset_breaker(self, *, request_id: RequestId | None = None) -> None:
        """Let policy take nodes out of service again."""
        self._transport.unary(calls.reset_breaker(request_id))

    def events(self, node: NodeName, limit: int = 100) -> tuple[Recorded, ...]:
        """What happened to a node itself, oldest first: the last ``limit`` events."""
        return self._transport.unary(calls.list_node_events(node, limit))

    def topology(self, node: NodeName | None = None) -> tuple[NodeFacts, ...]:
        """Devices and how they are connected, of one node or of all."""
        return self._transport.unary(calls.get_topology(node))

    def fabric(self) -> Topology:
        """How nodes hang together; no levels where it was not described."""
        return self._transport.unary(calls.get_fabric())


class Reports:
    """Usage and money, folded from the event log. Bounds in microseconds; None: as far as it goes."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def usage(self, start_us: int | None = None, end_us: int | None = None) -> tuple[DeviceInterval, ...]:
        """Every device's time in the window, each microsecond in exactly one class."""
        return self._transport.unary(calls.get_usage(start_us, end_us))

    def failures(self) -> FailureHistory:
        """Read how often nodes in use failed in the last 28 days."""
        return self._transport.unary(calls.get_failures())

    def cost(self, group_by: GroupBy, start_us: int | None = None, end_us: int | None = None) -> CostReport:
        """The money of the window; the rows add up to the total, to the cent."""
        return self._transport.unary(calls.get_cost(group_by, start_us, end_us))


class Members:
    """Which nodes of other machines belong to the cluster. Needs the operator's role."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create_join_token(self, digest: bytes, node: NodeName | None, lifetime_s: int) -> JoinTokenMade:
        """Let in whoever shows the token of this SHA-256, once, as ``node`` or as any new node."""
        return self._transport.unary(calls.create_join_token(digest, node, lifetime_s))

    def revoke(self, node: NodeName) -> int:
        """Make every certificate of ``node`` worthless; returns how many held."""
        return self._transport.unary(calls.revoke_node(node))


class Client:
    """A connection to a head, made when first used. Safe to share between threads, not over a fork.

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
        self._transport = Transport(
            Reaches(address, token=token, ca_file=ca_file, timeout_s=timeout_s, retry_s=retry_s)
        )
        self.jobs = Jobs(self._transport)
        self.nodes = Nodes(self._transport)
        self.reports = Reports(self._transport)
        self.members = Members(self._transport)

    def close(self) -> None:
        """Close the connection; calls in flight fail."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()
