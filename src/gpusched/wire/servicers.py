"""The services of a head: each RPC turned into one call of ``Handlers``, in domain types.

A servicer's methods take the caller and the request, and give the reply; ``rpc_handlers.py`` puts
them on a server. They raise; nothing here knows of status codes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.identity import Principal
from gpusched.domain.ids import Epoch, JobId, NodeName, RequestId
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import NodeFacts
from gpusched.v1 import agent_service_pb2 as agent_pb
from gpusched.v1 import job_service_pb2 as job_pb
from gpusched.v1 import member_service_pb2 as member_pb
from gpusched.v1 import node_service_pb2 as node_pb
from gpusched.v1 import report_service_pb2 as report_pb
from gpusched.wire import convert
from gpusched.wire.handlers import AgentHandlers, JobHandlers, MemberHandlers, NodeHandlers, ReportHandlers
from gpusched.wire.newer_agent import readable

A = TypeVar("A")
B = TypeVar("B")


class JobService:
    """``gpusched.v1.JobService``."""

    def __init__(self, jobs: JobHandlers) -> None:
        self._jobs = jobs

    async def SubmitJob(self, who: Principal, request: job_pb.SubmitJobRequest) -> job_pb.SubmitJobResponse:
        spec = _spec(request)
        (job_id,) = await self._jobs.submit(who, RequestId(request.request_id), (spec,))
        return job_pb.SubmitJobResponse(job_id=job_id)

    async def SubmitJobs(
        self, who: Principal, request: job_pb.SubmitJobsRequest
    ) -> job_pb.SubmitJobsResponse:
        specs = convert.JOB_SPEC.from_protos("specs", request.specs)
        job_ids = await self._jobs.submit(who, RequestId(request.request_id), specs)
        return job_pb.SubmitJobsResponse(job_ids=job_ids)

    async def PlanJob(self, who: Principal, request: job_pb.PlanJobRequest) -> job_pb.PlanJobResponse:
        preview = await self._jobs.plan(who, _spec(request))
        return convert.PLAN_PREVIEW.to_proto(preview)

    async def GetJob(self, who: Principal, request: job_pb.GetJobRequest) -> job_pb.GetJobResponse:
        view = await self._jobs.get(who, JobId(request.job_id))
        return job_pb.GetJobResponse(job=convert.JOB_VIEW.to_proto(view))

    async def ListJobs(self, who: Principal, request: job_pb.ListJobsRequest) -> job_pb.ListJobsResponse:
        where = convert.JOB_FILTER.from_proto(request)
        page = await self._jobs.list(who, where, request.page_size, _given(request, "page_token"))
        jobs = map(convert.JOB_VIEW.to_proto, page.jobs)
        return job_pb.ListJobsResponse(jobs=jobs, next_page_token=page.token)

    async def CancelJob(self, who: Principal, request: job_pb.CancelJobRequest) -> job_pb.CancelJobResponse:
        await self._jobs.cancel(who, RequestId(request.request_id), JobId(request.job_id))
        return job_pb.CancelJobResponse()

    async def HoldJob(self, who: Principal, request: job_pb.HoldJobRequest) -> job_pb.HoldJobResponse:
        await self._jobs.hold(who, RequestId(request.request_id), JobId(request.job_id))
        return job_pb.HoldJobResponse()

    async def ReleaseJob(
        self, who: Principal, request: job_pb.ReleaseJobRequest
    ) -> job_pb.ReleaseJobResponse:
        await self._jobs.release(who, RequestId(request.request_id), JobId(request.job_id))
        return job_pb.ReleaseJobResponse()

    async def RequeueJob(
        self, who: Principal, request: job_pb.RequeueJobRequest
    ) -> job_pb.RequeueJobResponse:
        job_id = JobId(request.job_id)
        await self._jobs.requeue(who, RequestId(request.request_id), job_id, hold=request.hold)
        return job_pb.RequeueJobResponse()

    def WatchJob(
        self, who: Principal, request: job_pb.WatchJobRequest
    ) -> AsyncIterator[job_pb.WatchJobResponse]:
        events = self._jobs.watch(who, tuple(map(JobId, request.job_ids)), request.after_seq)
        return _map(events, lambda event: job_pb.WatchJobResponse(event=convert.RECORDED.to_proto(event)))

    def StreamLogs(
        self, who: Principal, request: job_pb.StreamLogsRequest
    ) -> AsyncIterator[job_pb.StreamLogsResponse]:
        epoch = _given(request, "epoch")
        chunks = self._jobs.logs(
            who,
            JobId(request.job_id),
            epoch=None if epoch is None else Epoch(epoch),
            ranks=tuple(request.ranks) or None,
            since_us=_given(request, "since_us"),
            tail_lines=_given(request, "tail_lines"),
            follow=request.follow,
            source=convert.log_source_of(request),
            positions=tuple(map(convert.LOG_POSITION.from_proto, request.positions)),
        )
        return _map(chunks, lambda chunk: job_pb.StreamLogsResponse(chunk=convert.LOG_CHUNK.to_proto(chunk)))

    async def ExplainJob(
        self, who: Principal, request: job_pb.ExplainJobRequest
    ) -> job_pb.ExplainJobResponse:
        diagnosis = await self._jobs.explain(who, JobId(request.job_id))
        return job_pb.ExplainJobResponse(diagnosis=convert.DIAGNOSIS.to_proto(diagnosis))

    async def PlanDefrag(
        self, who: Principal, request: job_pb.PlanDefragRequest
    ) -> job_pb.PlanDefragResponse:
        is_queued = request.WhichOneof("gang") == "job_id"
        gang = JobId(request.job_id) if is_queued else _spec(request)
        return convert.DEFRAG_PLAN.to_proto(await self._jobs.plan_defrag(who, gang))


class NodeService:
    """``gpusched.v1.NodeService``."""

    def __init__(self, nodes: NodeHandlers) -> None:
        self._nodes = nodes

    async def ListNodes(self, who: Principal, _: node_pb.ListNodesRequest) -> node_pb.ListNodesResponse:
        views = await self._nodes.list(who)
        return node_pb.ListNodesResponse(nodes=map(convert.NODE_VIEW.to_proto, views))

    async def GetNode(self, who: Principal, request: node_pb.GetNodeRequest) -> node_pb.GetNodeResponse:
        view = await self._nodes.get(who, NodeName(request.node))
        return node_pb.GetNodeResponse(node=convert.NODE_VIEW.to_proto(view))

    async def CordonNode(
        self, who: Principal, request: node_pb.CordonNodeRequest
    ) -> node_pb.CordonNodeResponse:
        await self._nodes.cordon(who, RequestId(request.request_id), NodeName(request.node), request.reason)
        return node_pb.CordonNodeResponse()

    async def DrainNode(self, who: Principal, request: node_pb.DrainNodeRequest) -> node_pb.DrainNodeResponse:
        await self._nodes.drain(
            who,
            RequestId(request.request_id),
            NodeName(request.node),
            request.reason,
            _given(request, "deadline_s"),
        )
        return node_pb.DrainNodeResponse()

    async def ResumeNode(
        self, who: Principal, request: node_pb.ResumeNodeRequest
    ) -> node_pb.ResumeNodeResponse:
        await self._nodes.resume(who, RequestId(request.request_id), NodeName(request.node))
        return node_pb.ResumeNodeResponse()

    async def ResetBreaker(
        self, who: Principal, request: node_pb.ResetBreakerRequest
    ) -> node_pb.ResetBreakerResponse:
        await self._nodes.reset_breaker(who, RequestId(request.request_id))
        return node_pb.ResetBreakerResponse()

    async def ListNodeEvents(
        self, who: Principal, request: node_pb.ListNodeEventsRequest
    ) -> node_pb.ListNodeEventsResponse:
        events = await self._nodes.events(who, NodeName(request.node), request.limit)
        return node_pb.ListNodeEventsResponse(events=map(convert.RECORDED.to_proto, events))

    async def GetTopology(
        self, who: Principal, request: node_pb.GetTopologyRequest
    ) -> node_pb.GetTopologyResponse:
        facts = await self._facts(who, _given(request, "node"))
        return node_pb.GetTopologyResponse(nodes=map(convert.NODE_FACTS.to_proto, facts))

    async def GetFabric(self, who: Principal, _: node_pb.GetFabricRequest) -> node_pb.GetFabricResponse:
        return convert.TOPOLOGY.to_proto(await self._nodes.fabric(who))

    async def _facts(self, who: Principal, node: str | None) -> tuple[NodeFacts, ...]:
        views = await self._nodes.list(who) if node is None else (await self._nodes.get(who, NodeName(node)),)
        return tuple(view.node.facts for view in views)


class AgentService:
    """``gpusched.v1.AgentService``."""

    def __init__(self, agents: AgentHandlers) -> None:
        self._agents = agents

    def Connect(
        self, who: Principal, requests: AsyncIterator[agent_pb.ConnectRequest]
    ) -> AsyncIterator[agent_pb.ConnectResponse]:
        return _map(
            self._agents.connect(who, readable(requests)),
            convert.FROM_HEAD.to_proto,
        )


class ReportService:
    """``gpusched.v1.ReportService``."""

    def __init__(self, reports: ReportHandlers) -> None:
        self._reports = reports

    async def GetUsage(
        self, who: Principal, request: report_pb.GetUsageRequest
    ) -> report_pb.GetUsageResponse:
        start_us, end_us = _given(request, "start_us"), _given(request, "end_us")
        intervals = await self._reports.usage(who, start_us, end_us)
        return report_pb.GetUsageResponse(intervals=map(convert.DEVICE_INTERVAL.to_proto, intervals))

    async def GetFailures(
        self, who: Principal, _: report_pb.GetFailuresRequest
    ) -> report_pb.GetFailuresResponse:
        return convert.FAILURE_HISTORY.to_proto(await self._reports.failures(who))

    async def GetCost(self, who: Principal, request: report_pb.GetCostRequest) -> report_pb.GetCostResponse:
        query = convert.COST_QUERY.from_proto(request)
        report = await self._reports.cost(who, query.group_by, query.start_us, query.end_us)
        return convert.COST_REPORT.to_proto(report)


class MemberService:
    """``gpusched.v1.MemberService``."""

    def __init__(self, members: MemberHandlers) -> None:
        self._members = members

    async def GetTrust(self, _: Principal, __: member_pb.GetTrustRequest) -> member_pb.GetTrustResponse:
        return convert.TRUST.to_proto(await self._members.trust())

    async def CreateJoinToken(
        self, who: Principal, request: member_pb.CreateJoinTokenRequest
    ) -> member_pb.CreateJoinTokenResponse:
        node = _given(request, "node")
        made = await self._members.create_token(
            who, request.digest, None if node is None else NodeName(node), request.lifetime_s
        )
        return convert.JOIN_TOKEN_MADE.to_proto(made)

    async def JoinNode(self, _: Principal, request: member_pb.JoinNodeRequest) -> member_pb.JoinNodeResponse:
        given = await self._members.join(request.token, NodeName(request.node), request.signing_request)
        return member_pb.JoinNodeResponse(certificate=given.certificate, trusted=given.trusted)

    async def RevokeNode(
        self, who: Principal, request: member_pb.RevokeNodeRequest
    ) -> member_pb.RevokeNodeResponse:
        revoked = await self._members.revoke(who, NodeName(request.node))
        return member_pb.RevokeNodeResponse(revoked=revoked)


def _spec(
    request: job_pb.SubmitJobRequest | job_pb.PlanJobRequest | job_pb.PlanDefragRequest,
) -> JobSpec:
    if not request.HasField("spec"):
        raise InvalidSpec((Violation("spec", "is required"),))
    return convert.JOB_SPEC.from_proto(request.spec)


def _given(request: Any, field: str) -> Any:
    """The value of an optional field, None if it was not sent."""
    return getattr(request, field) if request.HasField(field) else None


async def _map(items: AsyncIterator[A], convert_one: Callable[[A], B]) -> AsyncIterator[B]:
    """Convert as they come; ending this one ends ``items`` too, at once and not when collected."""
    try:
        async for item in items:
            yield convert_one(item)
    finally:
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
