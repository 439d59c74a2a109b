"""Every RPC as a value: the request to send and how to read the reply. Both clients send these.

Values make the synchronous and the asynchronous client the same client: they differ in how they wait.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar
from uuid import uuid4

from google.protobuf.message import Message

from gpusched.domain.checkpoints import FailureHistory
from gpusched.domain.defrag import DefragPlan
from gpusched.domain.diagnosis import Diagnosis
from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.events import Recorded
from gpusched.domain.ids import Epoch, JobId, NodeName, RequestId
from gpusched.domain.job import JobFilter
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.logs import LogChunk
from gpusched.domain.membership import CertificateGiven, JoinTokenMade, Trust
from gpusched.domain.node import NodeFacts
from gpusched.domain.topology import Topology
from gpusched.domain.usage import CostReport, DeviceInterval, GroupBy
from gpusched.v1 import job_service_pb2 as job_pb
from gpusched.v1 import member_service_pb2 as member_pb
from gpusched.v1 import node_service_pb2 as node_pb
from gpusched.v1 import report_service_pb2 as report_pb
from gpusched.wire import convert
from gpusched.wire.codec import unsendable
from gpusched.wire.handlers import JobView, NodeView, Page, PlanPreview
from gpusched.wire.methods import METHODS, Method

R = TypeVar("R")
M = TypeVar("M", bound=Message)


@dataclass(frozen=True, slots=True)
class Unary(Generic[R]):
    """One request, one reply."""

    method: Method
    request: Message
    read: Callable[[Any], R]


@dataclass(frozen=True, slots=True)
class Stream(Generic[R]):
    """One request, many replies.

    ``next_request`` is called with every reply, and gives the request that goes on from there after
    the connection was lost.
    """

    method: Method
    request: Message
    read: Callable[[Any], R]
    next_request: Callable[[Any], Message]

    def after(self, reply: Message) -> Stream[R]:
        """The call that goes on after ``reply``."""
        return replace(self, request=self.next_request(reply))


# ── jobs ──────────────────────────────────────────────────────────────────────────────


def submit_job(spec: JobSpec, request_id: RequestId | None) -> Unary[JobId]:
    """Accept one job; the reply comes when it is durable."""
    request = _request(
        job_pb.SubmitJobRequest, request_id=_chosen(request_id), spec=convert.JOB_SPEC.to_proto(spec)
    )
    return Unary(_job("SubmitJob"), request, lambda reply: JobId(reply.job_id))


def submit_jobs(specs: Sequence[JobSpec], request_id: RequestId | None) -> Unary[tuple[JobId, ...]]:
    """Accept all jobs or none."""
    messages = [convert.JOB_SPEC.to_proto(spec) for spec in specs]
    request = _request(job_pb.SubmitJobsRequest, request_id=_chosen(request_id), specs=messages)
    return Unary(_job("SubmitJobs"), request, lambda reply: tuple(map(JobId, reply.job_ids)))


def plan_job(spec: JobSpec) -> Unary[PlanPreview]:
    """Say what a submission would get now."""
    request = _request(job_pb.PlanJobRequest, spec=convert.JOB_SPEC.to_proto(spec))
    return Unary(_job("PlanJob"), request, convert.PLAN_PREVIEW.from_proto)


def get_job(job_id: JobId) -> Unary[JobView]:
    """Read one job."""
    request = _request(job_pb.GetJobRequest, job_id=job_id)
    return Unary(_job("GetJob"), request, lambda reply: convert.JOB_VIEW.from_proto(reply.job))


def list_jobs(where: JobFilter, page_size: int, page_token: str | None) -> Unary[Page]:
    """Read one page of jobs; ``page_size`` 0 is the head's default."""
    request = convert.JOB_FILTER.to_proto(where)
    request.MergeFrom(_request(job_pb.ListJobsRequest, page_size=page_size, page_token=page_token))
    return Unary(_job("ListJobs"), request, _page)


def _page(reply: job_pb.ListJobsResponse) -> Page:
    token = reply.next_page_token if reply.HasField("next_page_token") else None
    return Page(tuple(map(convert.JOB_VIEW.from_proto, reply.jobs)), token)


def cancel_job(job_id: JobId, request_id: RequestId | None) -> Unary[None]:
    """End a job."""
    request = _request(job_pb.CancelJobRequest, request_id=_chosen(request_id), job_id=job_id)
    return Unary(_job("CancelJob"), request, _nothing)


def hold_job(job_id: JobId, request_id: RequestId | None) -> Unary[None]:
    """Keep a pending job from starting."""
    request = _request(job_pb.HoldJobRequest, request_id=_chosen(request_id), job_id=job_id)
    return Unary(_job("HoldJob"), request, _nothing)


def release_job(job_id: JobId, request_id: RequestId | None) -> Unary[None]:
    """Lift a hold."""
    request = _request(job_pb.ReleaseJobRequest, request_id=_chosen(request_id), job_id=job_id)
    return Unary(_job("ReleaseJob"), request, _nothing)


def requeue_job(job_id: JobId, request_id: RequestId | None, *, hold: bool) -> Unary[None]:
    """End the attempt and queue the job again."""
    request = _request(job_pb.RequeueJobRequest, request_id=_chosen(request_id), job_id=job_id, hold=hold)
    return Unary(_job("RequeueJob"), request, _nothing)


def explain_job(job_id: JobId) -> Unary[Diagnosis]:
    """Ask why a job waits."""
    request = _request(job_pb.ExplainJobRequest, job_id=job_id)
    return Unary(_job("ExplainJob"), request, lambda reply: convert.DIAGNOSIS.from_proto(reply.diagnosis))


def plan_defrag(gang: JobId | JobSpec) -> Unary[DefragPlan]:
    """Ask which running jobs would have to move so that a gang fits."""
    if isinstance(gang, JobSpec):
        request = _request(job_pb.PlanDefragRequest, spec=convert.JOB_SPEC.to_proto(gang))
    else:
        request = _request(job_pb.PlanDefragRequest, job_id=gang)
    return Unary(_job("PlanDefrag"), request, convert.DEFRAG_PLAN.from_proto)


def watch_job(job_ids: Sequence[JobId], after_seq: int) -> Stream[Recorded]:
    """Follow the events of jobs; resumable by sequence number."""
    request = _request(job_pb.WatchJobRequest, job_ids=job_ids, after_seq=after_seq)

    def go_on(reply: job_pb.WatchJobResponse) -> Message:
        return job_pb.WatchJobRequest(job_ids=job_ids, after_seq=reply.event.seq)

    return Stream(
        _job("WatchJob"), request, lambda reply: convert.RECORDED.from_proto(reply.event), next_request=go_on
    )


def stream_logs(
    job_id: JobId,
    *,
    epoch: Epoch | None,
    ranks: tuple[int, ...] | None,
    since_us: int | None,
    tail_lines: int | None,
    follow: bool,
) -> Stream[LogChunk]:
    """Read the output of one attempt."""
    request = _request(
        job_pb.StreamLogsRequest,
        job_id=job_id,
        epoch=epoch,
        ranks=ranks,
        since_us=since_us,
        tail_lines=tail_lines,
        follow=follow,
    )
    return _logs(request)


def stream_stacks(job_id: JobId, *, epoch: Epoch | None, ranks: tuple[int, ...] | None) -> Stream[LogChunk]:
    """Read the stacks that are kept of one attempt."""
    source = job_pb.LOG_SOURCE_STACKS
    return _logs(_request(job_pb.StreamLogsRequest, job_id=job_id, epoch=epoch, ranks=ranks, source=source))


def _logs(request: job_pb.StreamLogsRequest) -> Stream[LogChunk]:
    rest = job_pb.StreamLogsRequest()
    rest.CopyFrom(request)
    positions: dict[int, job_pb.LogPosition] = {}

    def go_on(reply: job_pb.StreamLogsResponse) -> Message:
        chunk = reply.chunk
        if chunk.global_rank not in positions:
            positions[chunk.global_rank] = rest.positions.add(global_rank=chunk.global_rank)
        positions[chunk.global_rank].offset = chunk.offset + len(chunk.data)
        if chunk.HasField("epoch"):
            rest.epoch = chunk.epoch  # the last attempt may be another one by then
        return rest

    return Stream(
        _job("StreamLogs"),
        request,
        lambda reply: convert.LOG_CHUNK.from_proto(reply.chunk),
        next_request=go_on,
    )


# ── nodes ─────────────────────────────────────────────────────────────────────────────


def list_nodes() -> Unary[tuple[NodeView, ...]]:
    """Read all nodes."""
    return Unary(
        _node("ListNodes"),
        node_pb.ListNodesRequest(),
        lambda reply: tuple(map(convert.NODE_VIEW.from_proto, reply.nodes)),
    )


def get_node(node: NodeName) -> Unary[NodeView]:
    """Read one node."""
    request = _request(node_pb.GetNodeRequest, node=node)
    return Unary(_node("GetNode"), request, lambda reply: convert.NODE_VIEW.from_proto(reply.node))


def cordon_node(node: NodeName, reason: str, request_id: RequestId | None) -> Unary[None]:
    """No new work on a node."""
    request = _request(node_pb.CordonNodeRequest, request_id=_chosen(request_id), node=node, reason=reason)
    return Unary(_node("CordonNode"), request, _nothing)


def drain_node(
    node: NodeName, reason: str, *, deadline_s: int | None, request_id: RequestId | None
) -> Unary[None]:
    """Cordon a node and empty it by the deadline."""
    request = _request(
        node_pb.DrainNodeRequest,
        request_id=_chosen(request_id),
        node=node,
        reason=reason,
        deadline_s=deadline_s,
    )
    return Unary(_node("DrainNode"), request, _nothing)


def resume_node(node: NodeName, request_id: RequestId | None) -> Unary[None]:
    """Open a node for work again."""
    request = _request(node_pb.ResumeNodeRequest, request_id=_chosen(request_id), node=node)
    return Unary(_node("ResumeNode"), request, _nothing)


def reset_breaker(request_id: RequestId | None) -> Unary[None]:
    """Let policy take nodes out of service again."""
    request = _request(node_pb.ResetBreakerRequest, request_id=_chosen(request_id))
    return Unary(_node("ResetBreaker"), request, _nothing)


def list_node_events(node: NodeName, limit: int) -> Unary[tuple[Recorded, ...]]:
    """Read the last events of a node."""
    request = _request(node_pb.ListNodeEventsRequest, node=node, limit=limit)
    return Unary(
        _node("ListNodeEvents"),
        request,
        lambda reply: tuple(map(convert.RECORDED.from_proto, reply.events)),
    )


def get_topology(node: NodeName | None) -> Unary[tuple[NodeFacts, ...]]:
    """Read how devices are connected, of one node or all."""
    request = _request(node_pb.GetTopologyRequest, node=node)
    return Unary(
        _node("GetTopology"),
        request,
        lambda reply: tuple(map(convert.NODE_FACTS.from_proto, reply.nodes)),
    )


def get_fabric() -> Unary[Topology]:
    """Read how nodes hang together."""
    return Unary(_node("GetFabric"), node_pb.GetFabricRequest(), convert.TOPOLOGY.from_proto)


# ── reports ───────────────────────────────────────────────────────────────────────────


def get_usage(start_us: int | None, end_us: int | None) -> Unary[tuple[DeviceInterval, ...]]:
    """Read every device's time in a window."""
    request = _request(report_pb.GetUsageRequest, start_us=start_us, end_us=end_us)
    return Unary(
        _report("GetUsage"),
        request,
        lambda reply: tuple(map(convert.DEVICE_INTERVAL.from_proto, reply.intervals)),
    )


def get_cost(group_by: GroupBy, start_us: int | None, end_us: int | None) -> Unary[CostReport]:
    """Read the money of a window."""
    request = convert.COST_QUERY.to_proto(convert.CostQuery(group_by, start_us, end_us))
    return Unary(_report("GetCost"), request, convert.COST_REPORT.from_proto)


# ── members ───────────────────────────────────────────────────────────────────────────


def get_trust() -> Unary[Trust]:
    """Read whom the cluster trusts."""
    return Unary(_member("GetTrust"), member_pb.GetTrustRequest(), convert.TRUST.from_proto)


def create_join_token(digest: bytes, node: NodeName | None, lifetime_s: int) -> Unary[JoinTokenMade]:
    """Let in whoever shows the token of this SHA-256."""
    request = _request(member_pb.CreateJoinTokenRequest, digest=digest, node=node, lifetime_s=lifetime_s)
    return Unary(_member("CreateJoinToken"), request, convert.JOIN_TOKEN_MADE.from_proto)


def join_node(token: str, node: NodeName, signing_request: bytes) -> Unary[CertificateGiven]:
    """Ask to be let in."""
    request = _request(member_pb.JoinNodeRequest, token=token, node=node, signing_request=signing_request)
    return Unary(
        _member("JoinNode"), request, lambda reply: CertificateGiven(reply.certificate, reply.trusted)
    )


def revoke_node(node: NodeName) -> Unary[int]:
    """Make a node's certificates worthless."""
    request = _request(member_pb.RevokeNodeRequest, node=node)
    return Unary(_member("RevokeNode"), request, lambda reply: int(reply.revoked))


def get_failures() -> Unary[FailureHistory]:
    """Read how often nodes failed."""
    return Unary(_report("GetFailures"), report_pb.GetFailuresRequest(), convert.FAILURE_HISTORY.from_proto)


# ── making requests ───────────────────────────────────────────────────────────────────


def _job(name: str) -> Method:
    return METHODS[f"/gpusched.v1.JobService/{name}"]


def _node(name: str) -> Method:
    return METHODS[f"/gpusched.v1.NodeService/{name}"]


def _member(name: str) -> Method:
    return METHODS[f"/gpusched.v1.MemberService/{name}"]


def _report(name: str) -> Method:
    return METHODS[f"/gpusched.v1.ReportService/{name}"]


def _chosen(request_id: RequestId | None) -> str:
    """The caller's request id, else a new one: it stays the same over every retry of the call."""
    return uuid4().hex if request_id is None else request_id


def _request(message: type[M], **arguments: Any) -> M:
    """Build a request; a value that its field cannot hold is the caller's error, by name."""
    try:
        return message(**arguments)
    except (TypeError, ValueError) as error:
        for name, value in arguments.items():
            try:
                message(**{name: value})
            except (TypeError, ValueError) as wrong:
                raise InvalidSpec((Violation(name, unsendable(wrong)),)) from error
        raise


def _nothing(_: Message) -> None:
    return None
