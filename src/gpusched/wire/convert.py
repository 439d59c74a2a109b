"""Which domain type travels as which message. How is derived in ``codec.py`` and round-trip tested.

Every codec has ``to_proto`` and ``from_proto``; both raise ``InvalidSpec`` naming the field.
The last two are the two directions of ``Connect``, which are unions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gpusched.domain import (
    allocation,
    checkpoints,
    commands,
    defrag,
    diagnosis,
    events,
    health,
    history,
    identity,
    ids,
    job,
    job_spec,
    launch_plan,
    link,
    logs,
    membership,
    node,
    pulse,
    telemetry,
    topology,
    usage,
)
from gpusched.v1 import (
    agent_service_pb2,
    event_pb2,
    health_pb2,
    job_pb2,
    job_service_pb2,
    member_service_pb2,
    node_pb2,
    node_service_pb2,
)
from gpusched.v1 import report_service_pb2 as report_pb2
from gpusched.wire.codec import Codec, D, M, OneOf
from gpusched.wire.handlers import JobView, NodeView, PlanPreview


@dataclass(frozen=True, slots=True)
class CostQuery:
    """What a cost report is asked with; bounds in microseconds, None: as far as the log goes."""

    group_by: usage.GroupBy
    start_us: int | None
    end_us: int | None


CODECS: dict[Any, Codec[Any, Any]] = {}
"""Every codec by its domain type."""


def _codec(domain: type[D], message: type[M], **options: Any) -> Codec[D, M]:
    return Codec(domain, message, known=CODECS, **options)


# ── jobs ──────────────────────────────────────────────────────────────────────────────

IDENTITY = _codec(identity.Identity, job_pb2.Identity)
ACTIVATION = _codec(job_spec.Activation, job_pb2.Activation)
WARNING_SIGNAL = _codec(job_spec.WarningSignal, job_pb2.WarningSignal)
UTILIZATION_POLICY = _codec(job_spec.UtilizationPolicy, job_pb2.UtilizationPolicy)
STALL_POLICY = _codec(job_spec.StallPolicy, job_pb2.StallPolicy)
SLOW_POLICY = _codec(job_spec.SlowPolicy, job_pb2.SlowPolicy)
SEGMENT = _codec(job_spec.Segment, job_pb2.Segment)
COMPONENT = _codec(job_spec.Component, job_pb2.Component)
JOB_SPEC = _codec(job_spec.JobSpec, job_pb2.JobSpec)
GRANTED_DEVICE = _codec(allocation.GrantedDevice, job_pb2.GrantedDevice)
NODE_ALLOCATION = _codec(allocation.NodeAllocation, job_pb2.NodeAllocation)
ALLOCATION = _codec(allocation.Allocation, job_pb2.Allocation)
TASK_EXIT = _codec(job.TaskExit, job_pb2.TaskExit)
STALL = _codec(job.Stall, job_pb2.Stall)
SLOWNESS = _codec(job.Slowness, job_pb2.Slowness)
ATTEMPT = _codec(job.Attempt, job_pb2.Attempt)
DEVICE_USE = _codec(telemetry.DeviceUse, job_pb2.DeviceUse)
NODE_USE = _codec(telemetry.NodeUse, job_pb2.NodeUse)
TASK_LAUNCH = _codec(launch_plan.TaskLaunch, job_pb2.TaskLaunch)
NODE_LAUNCH = _codec(launch_plan.NodeLaunch, job_pb2.NodeLaunch)
LAUNCH_PLAN = _codec(launch_plan.LaunchPlan, job_pb2.LaunchPlan)
JOB = _codec(job.Job, job_pb2.Job, leaves=("pending_reason", "uses", "cost", "currency", "plan", "ring"))
RING_COST = _codec(topology.RingCost, job_pb2.RingCost)
JOB_VIEW = _codec(JobView, job_pb2.Job, inline=("job",))
RULED_OUT = _codec(diagnosis.RuledOut, job_pb2.RuledOut)
FIELD_CHANGE = _codec(diagnosis.FieldChange, job_pb2.FieldChange)
RELAXATION = _codec(diagnosis.Relaxation, job_pb2.Relaxation)
DIAGNOSIS = _codec(diagnosis.Diagnosis, job_pb2.Diagnosis)
JOB_MOVE = _codec(defrag.JobMove, job_service_pb2.JobMove)
DEFRAG_PLAN = _codec(defrag.DefragPlan, job_service_pb2.PlanDefragResponse)
JOB_FILTER = _codec(job.JobFilter, job_service_pb2.ListJobsRequest, leaves=("page_size", "page_token"))
PLAN_PREVIEW = _codec(PlanPreview, job_service_pb2.PlanJobResponse)
LOG_CHUNK = _codec(logs.LogChunk, job_service_pb2.LogChunk)
LOG_POSITION = _codec(logs.LogPosition, job_service_pb2.LogPosition)
LOG_QUERY = _codec(logs.LogQuery, agent_service_pb2.LogRequest, leaves=("stream_id", "credit"))

# ── nodes ─────────────────────────────────────────────────────────────────────────────

PEER_LINK = _codec(node.PeerLink, node_pb2.PeerLink)
DEVICE = _codec(node.Device, node_pb2.Device)
NODE_FACTS = _codec(node.NodeFacts, node_pb2.NodeFacts, names={"numa_cpu_ids": "numa_nodes"})
DEVICE_SAMPLE = _codec(telemetry.DeviceSample, node_pb2.DeviceSample, names={"process_pids": "processes"})
NODE_SAMPLE = _codec(telemetry.NodeSample, node_pb2.NodeSample)
CONDITION = _codec(health.Condition, health_pb2.Condition)
SIGHTING = _codec(health.Sighting, health_pb2.Sighting)
HEALTH_OBSERVED = _codec(health.HealthObserved, health_pb2.HealthObserved)
FINDING = _codec(health.Finding, health_pb2.Finding)
OUTAGE = _codec(health.Outage, health_pb2.Outage)
REPAIR = _codec(health.Repair, health_pb2.Repair)
NODE_HEALTH = _codec(health.NodeHealth, health_pb2.NodeHealth)
ATTEMPT_ID = _codec(ids.AttemptId, node_pb2.AttemptRef)
AHEAD = _codec(history.Ahead, node_pb2.Ahead)
NODE = _codec(
    node.Node,
    node_pb2.Node,
    leaves=(
        "sample",
        "job_ids",
        "gpus_allocated",
        "cpus_allocated",
        "memory_allocated_bytes",
        "gpu_milli_allocated",
        "is_suspended",
    ),
)
NODE_VIEW = _codec(NodeView, node_pb2.Node, inline=("node",), names={"jobs": "job_ids"})

TOPOLOGY_LEVEL = _codec(topology.TopologyLevel, node_service_pb2.TopologyLevel)
NODE_PATH = _codec(topology.NodePath, node_service_pb2.NodePath)
TOPOLOGY = _codec(topology.Topology, node_service_pb2.GetFabricResponse)

# ── events ────────────────────────────────────────────────────────────────────────────

JOB_SUBMITTED = _codec(events.JobSubmitted, event_pb2.JobSubmitted)
JOB_HELD = _codec(events.JobHeld, event_pb2.JobHeld)
JOB_RELEASED = _codec(events.JobReleased, event_pb2.JobReleased)
JOB_ALLOCATED = _codec(events.JobAllocated, event_pb2.JobAllocated)
TASKS_STARTED = _codec(events.TasksStarted, event_pb2.TasksStarted)
TASK_FAILED = _codec(events.TaskFailed, event_pb2.TaskFailed)
TASKS_ENDED = _codec(events.TasksEnded, event_pb2.TasksEnded)
JOB_STALLED = _codec(events.JobStalled, event_pb2.JobStalled)
JOB_UNDERUSED = _codec(events.JobUnderused, event_pb2.JobUnderused)
STALL_ENDED = _codec(events.StallEnded, event_pb2.StallEnded)
JOB_SLOWED = _codec(events.JobSlowed, event_pb2.JobSlowed)
SLOWNESS_ENDED = _codec(events.SlownessEnded, event_pb2.SlownessEnded)
ATTEMPT_STOPPING = _codec(events.AttemptStopping, event_pb2.AttemptStopping)
ATTEMPT_ENDED = _codec(events.AttemptEnded, event_pb2.AttemptEnded)
JOB_REQUEUED = _codec(events.JobRequeued, event_pb2.JobRequeued)
JOB_ENDED = _codec(events.JobEnded, event_pb2.JobEnded)
NODE_JOINED = _codec(events.NodeJoined, event_pb2.NodeJoined)
NODE_LOST = _codec(events.NodeLost, event_pb2.NodeLost)
NODE_RETURNED = _codec(events.NodeReturned, event_pb2.NodeReturned)
NODE_CORDONED = _codec(events.NodeCordoned, event_pb2.NodeCordoned)
NODE_DRAIN_STARTED = _codec(events.NodeDrainStarted, event_pb2.NodeDrainStarted)
NODE_DRAINED = _codec(events.NodeDrained, event_pb2.NodeDrained)
NODE_RESUMED = _codec(events.NodeResumed, event_pb2.NodeResumed)
NODE_AHEAD = _codec(events.NodeAhead, event_pb2.NodeAhead)
NODE_RECONCILED = _codec(events.NodeReconciled, event_pb2.NodeReconciled)
HEALTH_REPORTED = _codec(events.HealthReported, event_pb2.HealthReported)
HEALTH_CLEARED = _codec(events.HealthCleared, event_pb2.HealthCleared)
HEALTH_JUDGED = _codec(events.HealthJudged, event_pb2.HealthJudged)
OUTAGE_BEGAN = _codec(events.OutageBegan, event_pb2.OutageBegan)
OUTAGES_ENDED = _codec(events.OutagesEnded, event_pb2.OutagesEnded)
REPAIR_STARTED = _codec(events.RepairStarted, event_pb2.RepairStarted)
REPAIR_ENDED = _codec(events.RepairEnded, event_pb2.RepairEnded)
NODE_FAULTED = _codec(events.NodeFaulted, event_pb2.NodeFaulted)
BREAKER_TRIPPED = _codec(events.BreakerTripped, event_pb2.BreakerTripped)
BREAKER_RESET = _codec(events.BreakerReset, event_pb2.BreakerReset)
RECORDED = _codec(events.Recorded, event_pb2.Event, names={"event": "fact"})

# ── reports ───────────────────────────────────────────────────────────────────────────

DEVICE_INTERVAL = _codec(usage.DeviceInterval, report_pb2.DeviceInterval)
CHARGE_LINE = _codec(usage.ChargeLine, report_pb2.ChargeLine)
COST_QUERY = _codec(CostQuery, report_pb2.GetCostRequest)
FAILURE_HISTORY = _codec(checkpoints.FailureHistory, report_pb2.GetFailuresResponse)
COST_REPORT = _codec(usage.CostReport, report_pb2.GetCostResponse)

# ── members ───────────────────────────────────────────────────────────────────────────

TRUST = _codec(membership.Trust, member_service_pb2.GetTrustResponse)
JOIN_TOKEN_MADE = _codec(membership.JoinTokenMade, member_service_pb2.CreateJoinTokenResponse)

# ── the agent's stream ────────────────────────────────────────────────────────────────

MARK = _codec(history.Mark, agent_service_pb2.Mark)
HELLO = _codec(link.Hello, agent_service_pb2.Hello)
QUIET_RANK = _codec(pulse.QuietRank, agent_service_pb2.QuietRank)
RANK_PACE = _codec(pulse.RankPace, agent_service_pb2.RankPace)
HEARTBEAT = _codec(link.Heartbeat, agent_service_pb2.Heartbeat)
REPORT = _codec(link.Report, agent_service_pb2.Report)
COMMAND_TAKEN = _codec(link.CommandTaken, agent_service_pb2.CommandTaken)
COMMAND_REFUSED = _codec(link.CommandRefused, agent_service_pb2.CommandRefused)
LOG_DATA = _codec(link.LogData, agent_service_pb2.LogData)
WELCOME = _codec(link.Welcome, agent_service_pb2.Welcome)
REPORT_TAKEN = _codec(link.ReportTaken, agent_service_pb2.ReportTaken)
LOG_REQUEST = _codec(link.LogRequest, agent_service_pb2.LogRequest, inline=("query",))
LEASE_RENEWED = _codec(link.LeaseRenewed, agent_service_pb2.LeaseRenewed)
LOG_CREDIT = _codec(link.LogCredit, agent_service_pb2.LogCredit)
LOG_CANCEL = _codec(link.LogCancel, agent_service_pb2.LogCancel)
CERTIFICATE_WANTED = _codec(link.CertificateWanted, agent_service_pb2.CertificateWanted)
CERTIFICATE_GIVEN = _codec(membership.CertificateGiven, agent_service_pb2.CertificateGiven)
RANK_TOKENS_WANTED = _codec(link.RankTokensWanted, agent_service_pb2.RankTokensWanted)
RANK_TOKEN = _codec(link.RankToken, agent_service_pb2.RankToken)
RANK_TOKENS = _codec(link.RankTokens, agent_service_pb2.RankTokens)
DUMP_STACKS = _codec(commands.DumpStacks, agent_service_pb2.DumpStacks)
STOP_TASKS = _codec(commands.StopTasks, agent_service_pb2.StopTasks)
LAUNCH_TASKS = _codec(
    commands.LaunchTasks,
    agent_service_pb2.LaunchTasks,
    implied={"job_id": "launch.job_id", "epoch": "launch.epoch", "node": "launch.node"},
)
REPAIR_NODE = _codec(commands.RepairNode, agent_service_pb2.RepairNode)
QUEUED = _codec(commands.Queued, agent_service_pb2.Command, names={"command": "order"})

FROM_AGENT: OneOf[link.FromAgent, agent_service_pb2.ConnectRequest] = OneOf(
    agent_service_pb2.ConnectRequest, "message", link.FromAgent, known=CODECS
)
FROM_HEAD: OneOf[link.FromHead, agent_service_pb2.ConnectResponse] = OneOf(
    agent_service_pb2.ConnectResponse, "message", link.FromHead, known=CODECS
)


def log_source_of(request: job_service_pb2.StreamLogsRequest) -> logs.LogSource | None:
    """What a reader of logs asks for; None if it does not say, as older ones do not.

    Raises:
        InvalidSpec: Something that this version does not have.
    """
    return LOG_QUERY.from_proto(agent_service_pb2.LogRequest(source=request.source)).source
