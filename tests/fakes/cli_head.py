"""A head made of values: it answers what it was given and notes what it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path

from gpusched.cli.session import Session
from gpusched.domain.allocation import Allocation, GrantedDevice, NodeAllocation
from gpusched.domain.checkpoints import FailureHistory
from gpusched.domain.defrag import DefragPlan, JobMove
from gpusched.domain.diagnosis import Constraint, Diagnosis, FieldChange, Relaxation, RuledOut
from gpusched.domain.errors import NotFound
from gpusched.domain.events import (
    HealthJudged,
    HealthReported,
    NodeDrainStarted,
    NodeResumed,
    OutageBegan,
    OutagesEnded,
    Recorded,
    RepairEnded,
    RepairStarted,
)
from gpusched.domain.health import Condition, Cure, Finding, HealthAction, NodeHealth, Outage, Repair, Signal
from gpusched.domain.identity import Identity
from gpusched.domain.job import Attempt, Job
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import EndReason, JobState, PendingReason
from gpusched.domain.launch_plan import LaunchPlan, NodeLaunch, TaskLaunch
from gpusched.domain.logs import LogChunk
from gpusched.domain.node import Device, Node, NodeFacts, PciAncestor, PeerLink, Schedulability
from gpusched.domain.telemetry import DeviceSample, DeviceUse, NodeSample, NodeUse
from gpusched.domain.topology import NodePath, RingCost, Topology, TopologyLevel
from gpusched.domain.usage import ChargeLine, CostReport, DeviceInterval, GroupBy, UsageClass
from gpusched.wire.handlers import JobView, NodeView, PlanPreview

NOW_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
MINUTE_US = 60_000_000
ADA = Identity("ada", 1000, 1000)
SPEC = JobSpec(
    name="digits",
    command=("python", "train.py"),
    workdir="/home/ada",
    nodes=2,
    gpus_per_node=2,
    tasks_per_node=2,
    cpus_per_task=2,
    memory_bytes=8 << 30,
    gpu_model="H100",
    time_limit_s=3600,
    account="vision",
)


def grant(node: str, *, declared: bool) -> NodeAllocation:
    prefix = f"DECLARED-{node}" if declared else f"GPU-{node}"
    return NodeAllocation(
        node=node,
        address="10.0.0.1",
        interface="eth0",
        devices=tuple(GrantedDevice(f"{prefix}-{i}", "NVIDIA H100 80GB HBM3", declared) for i in range(2)),
        cpu_ids=(0, 1, 2, 3),
        cpus_pinnable=True,
        memory_bytes=8 << 30,
    )


def allocation(*, declared: bool = False) -> Allocation:
    parts = (grant("n1", declared=declared), grant("n2", declared=declared))
    return Allocation(nodes=parts, master_port=29500, granted_at_us=NOW_US - 10 * MINUTE_US)


def launch_plan() -> LaunchPlan:
    return LaunchPlan(tuple(_node_launch(i, part) for i, part in enumerate(allocation(declared=True).nodes)))


def _node_launch(node_rank: int, part: NodeAllocation) -> NodeLaunch:
    tasks = tuple(
        TaskLaunch(
            global_rank=node_rank * 2 + local,
            local_rank=local,
            argv=SPEC.command,
            env=(("MASTER_ADDR", "10.0.0.1"), ("RANK", str(node_rank * 2 + local)), ("WORLD_SIZE", "4")),
            cpu_ids=part.cpu_ids[local * 2 : local * 2 + 2],
            devices=(part.devices[local].uuid,),
        )
        for local in range(2)
    )
    return NodeLaunch(
        job_id=17,
        epoch=1,
        node=part.node,
        node_rank=node_rank,
        owner=ADA,
        workdir="/home/ada",
        tasks=tasks,
        devices=tuple(gpu.uuid for gpu in part.devices),
        script=None,
        time_limit_s=3600,
        signal=SPEC.signal,
        kill_wait_s=30,
        log_cap_bytes=SPEC.log_cap_bytes,
    )


def pending_view() -> JobView:
    job = Job(
        job_id=18, spec=replace(SPEC, name="wait\x1b[31m"), owner=ADA, submitted_at_us=NOW_US - MINUTE_US
    )
    return JobView(job=job, pending_reason=PendingReason.RESOURCES)


def running_view(*, declared: bool = True) -> JobView:
    attempt = Attempt(epoch=1, allocation=allocation(declared=declared), running_at_us=NOW_US - 9 * MINUTE_US)
    job = Job(
        job_id=17,
        spec=SPEC,
        owner=ADA,
        submitted_at_us=NOW_US - 11 * MINUTE_US,
        state=JobState.RUNNING,
        attempt=attempt,
        started_at_us=NOW_US - 10 * MINUTE_US,
    )
    return JobView(
        job=job,
        pending_reason=None,
        plan=launch_plan(),
        cost="1.2345",
        currency="EUR",
        ring=RingCost(4, 0.005),
    )


def failed_view() -> JobView:
    """Measured, on real devices, with a zero among the measurements."""
    running = running_view(declared=False)
    job = replace(
        running.job,
        job_id=16,
        state=JobState.FAILED,
        ended_at_us=NOW_US - 5 * MINUTE_US,
        end_reason=EndReason.RANK_FAILED,
        end_detail="rank 3 on n2 exited with code 7; its last output:\n  | ValueError: bad batch\x1b[31m",
        exit_code=7,
    )
    uses = tuple(
        (
            node,
            NodeUse(
                wall_s=300.0,
                cpu_s=600.0,
                memory_peak_bytes=3 << 30,
                devices=(
                    DeviceUse(
                        uuid=f"GPU-{node}-0", busy_s=240.0, energy_j=36_000.0, memory_peak_bytes=40 << 30
                    ),
                    DeviceUse(uuid=f"GPU-{node}-1", busy_s=0.0, energy_j=0.0, memory_peak_bytes=0),
                ),
            ),
        )
        for node in ("n1", "n2")
    )
    return replace(running, job=job, uses=uses)


def diagnosis() -> Diagnosis:
    return Diagnosis(
        message="Waits for 2 nodes with 2 free H100 each; 1 has them now",
        reason=PendingReason.RESOURCES,
        nodes_wanted=2,
        nodes_total=3,
        nodes_fitting_now=1,
        nodes_fitting_empty=2,
        ruled_out=(
            RuledOut(Constraint.GPU_MODEL, 1, 4, "wants H100; 1 node has NVIDIA A10"),
            RuledOut(Constraint.GPUS_FREE, 1, 2, "wants 2; 1 node has 0 free"),
        ),
        jobs_ahead=0,
        forecast_start_us=NOW_US + 50 * MINUTE_US,
        relaxations=(
            Relaxation(
                "any GPU model (4 NVIDIA A10 free) instead of H100", (FieldChange("gpu_model", None),)
            ),
            Relaxation("1 node instead of 2", (FieldChange("nodes", "1"),)),
        ),
    )


def defrag_plan() -> DefragPlan:
    def move(job_id: int, user: str, gpus: int, to: str, lost_gpu_s: float | None) -> JobMove:
        return JobMove(
            job_id=job_id,
            name="sweep",
            user=user,
            gpus=gpus,
            from_nodes=("n1",),
            to_nodes=(to,),
            lost_gpu_s=lost_gpu_s,
        )

    return DefragPlan(
        message="moving 2 jobs with 3 GPUs makes room",
        gang_nodes=("n1", "n2"),
        moves=(move(12, "ada", 1, "n3", 5400.0), move(15, "bob", 2, "n4", None)),
        jobs_ahead=3,
    )


def node_views() -> tuple[NodeView, ...]:
    real = Device(
        uuid="GPU-n1-0",
        model="NVIDIA H100 80GB HBM3",
        memory_bytes=80 << 30,
        numa_node=0,
        cpu_ids=(0, 1, 2, 3),
        peers=(PeerLink("GPU-n1-1", 18, 450_000, PciAncestor.SYSTEM),),
    )
    other = replace(real, uuid="GPU-n1-1", peers=(PeerLink("GPU-n1-0", 18, 450_000, PciAncestor.SYSTEM),))
    declared = tuple(
        Device(uuid=f"DECLARED-n2-{i}", model="H100", memory_bytes=None, declared=True) for i in range(2)
    )
    sample = NodeSample(
        node="n1",
        sampled_at_us=NOW_US,
        cpu_percent=0.0,
        devices=(
            DeviceSample(uuid="GPU-n1-0", busy_percent=97.0, memory_used_bytes=60 << 30, power_w=640.0),
            DeviceSample(uuid="GPU-n1-1", busy_percent=0.0, memory_used_bytes=0, temperature_c=31.0),
        ),
    )
    return (
        NodeView(
            node=Node(facts=_facts("n1", (real, other)), joined_at_us=NOW_US - 60 * MINUTE_US),
            sample=sample,
            jobs=(17,),
            gpus_allocated=2,
            gpu_milli_allocated=2000,
            cpus_allocated=4,
            memory_allocated_bytes=8 << 30,
        ),
        NodeView(
            node=Node(
                facts=_facts("n2", declared),
                joined_at_us=NOW_US - 60 * MINUTE_US,
                schedulability=Schedulability.DRAINING,
                reason="fan\x1b]0;pwned\x07",
                drain_deadline_us=NOW_US + 30 * MINUTE_US,
            ),
            sample=None,
            jobs=(),
            gpus_allocated=0,
            gpu_milli_allocated=0000,
            cpus_allocated=0,
            memory_allocated_bytes=0,
        ),
        NodeView(
            node=Node(facts=_facts("n3", ()), joined_at_us=NOW_US, reachable=False, reason="silent for 40 s"),
            sample=None,
            jobs=(),
            gpus_allocated=0,
            gpu_milli_allocated=0000,
            cpus_allocated=0,
            memory_allocated_bytes=0,
        ),
    )


XID = Condition(signal=Signal.XID, code=95, devices=("GPU-n1-0",), detail="pid=1, uncontained memory error")
DISK = Condition(signal=Signal.DISK_FULL, detail="/ is 97 % full")
OUT = Outage(condition=XID, action=HealthAction.RESET, cure=Cure.RESET, devices=XID.devices)


def sick_views() -> tuple[NodeView, ...]:
    """A node with a device out, one that drains because its disk is full, and one that is well."""
    since_us = NOW_US - 5 * MINUTE_US
    drained = Outage(condition=DISK, action=HealthAction.DRAIN, cure=Cure.CLEAR)
    first = NodeHealth(
        findings=(Finding(condition=XID, since_us=since_us, users=("alice",), action=HealthAction.RESET),),
        outages=(OUT,),
        repair=Repair(number=1, devices=XID.devices, outages=(OUT,)),
        repairs=1,
        faults_at_us=(since_us - 60 * MINUTE_US, since_us),
    )
    second = NodeHealth(
        findings=(Finding(condition=DISK, since_us=since_us, action=HealthAction.DRAIN),),
        outages=(drained,),
        faults_at_us=(since_us,),
        breaker_at_us=since_us,
    )
    views = node_views()
    return tuple(
        replace(view, node=replace(view.node, health=health))
        for view, health in zip(views, (first, second, NodeHealth()), strict=True)
    )


def node_history() -> tuple[Recorded, ...]:
    """A device goes out and comes back, a node drains and is resumed."""
    repair = Repair(number=1, devices=XID.devices, outages=(OUT,))
    events = (
        HealthReported(node="n1", condition=XID, observed_us=1, users=("alice",)),
        HealthJudged(node="n1", condition=XID, action=HealthAction.RESET),
        OutageBegan(node="n1", outage=OUT),
        RepairStarted(node="n1", repair=repair),
        RepairEnded(node="n1", number=1, failures=()),
        OutagesEnded(node="n1", outages=(OUT,), by="gpusched"),
        NodeDrainStarted(node="n1", by="root", reason="new fan", deadline_us=None),
        NodeResumed(node="n1", by="root"),
    )
    return tuple(Recorded(seq, NOW_US + seq, event) for seq, event in enumerate(events, 1))


def _facts(name: str, devices: tuple[Device, ...]) -> NodeFacts:
    return NodeFacts(
        name=name,
        boot_id="b",
        agent_version="0.1.0",
        address="10.0.0.1",
        interface="eth0",
        cpu_ids=tuple(range(16)),
        cpus_pinnable=True,
        memory_bytes=64 << 30,
        devices=devices,
        kernel="6.1",
    )


def cost_report() -> CostReport:
    lines = (
        ChargeLine("vision", UsageClass.PRODUCTIVE, 7_200_000_000, Decimal("5.0049"), Decimal("5.00")),
        ChargeLine("-", UsageClass.UNALLOCATED, 3_600_500_000, Decimal("2.5051"), Decimal("2.51")),
    )
    return CostReport(
        "EUR", NOW_US - 60 * MINUTE_US, NOW_US, GroupBy.ACCOUNT, lines, Decimal("7.51"), ("A10",)
    )


@dataclass
class FakeJobs:
    views: dict[int, JobView]
    asked: list[tuple]
    preview: PlanPreview
    events: list[Recorded] = field(default_factory=list)
    chunks: list[LogChunk] = field(default_factory=list)

    def submit(self, spec):
        self.asked.append(("submit", spec))
        return 19

    def submit_many(self, specs):
        self.asked.append(("submit_many", tuple(specs)))
        return tuple(range(19, 19 + len(specs)))

    def plan(self, spec):
        self.asked.append(("plan", spec))
        return self.preview

    def get(self, job_id):
        if job_id not in self.views:
            raise NotFound(f"no job {job_id}")
        return self.views[job_id]

    def list(self, where=None):
        self.asked.append(("list", where))
        states = () if where is None else where.states
        return (view for view in self.views.values() if not states or view.job.state in states)

    def _change(self, verb, job_id):
        self.get(job_id)
        self.asked.append((verb, job_id))

    def cancel(self, job_id):
        self._change("cancel", job_id)

    def hold(self, job_id):
        self._change("hold", job_id)

    def release(self, job_id):
        self._change("release", job_id)

    def requeue(self, job_id, *, hold=False):
        self._change("requeue_held" if hold else "requeue", job_id)

    def plan_defrag(self, gang):
        self.asked.append(("plan_defrag", gang))
        return defrag_plan()

    def watch(self, job_ids, after_seq=0) -> Iterator[Recorded]:
        return iter(self.events)

    def logs(self, job_id, **query):
        self.asked.append(("logs", job_id, query))
        return iter(self.chunks)

    def stacks(self, job_id, **query):
        self.asked.append(("stacks", job_id, query))
        return iter(self.chunks)

    def explain(self, job_id):
        self.get(job_id)
        return diagnosis()


FABRIC = Topology(
    (TopologyLevel("spine", 400_000.0), TopologyLevel("leaf")),
    (NodePath("n1", ("s1", "l1")), NodePath("n2", ("s1", "l2"))),
)


@dataclass
class FakeNodes:
    views: tuple[NodeView, ...]
    asked: list[tuple]

    def list(self):
        return self.views

    def get(self, node):
        found = [view for view in self.views if view.node.name == node]
        if not found:
            raise NotFound(f"no node {node}")
        return found[0]

    def cordon(self, node, reason):
        self.asked.append(("cordon", node, reason))

    def drain(self, node, reason, deadline_s=None):
        self.asked.append(("drain", node, reason, deadline_s))

    def resume(self, node):
        self.asked.append(("resume", node))

    def reset_breaker(self):
        self.asked.append(("reset_breaker",))

    def events(self, node, limit=100):
        self.asked.append(("events", node, limit))
        return node_history()

    def fabric(self):
        return FABRIC

    def topology(self, node=None):
        return tuple(view.node.facts for view in self.views if node in {None, view.node.name})


@dataclass
class FakeReports:
    asked: list[tuple]

    def usage(self, start_us=None, end_us=None):
        device = ("n1", "GPU-n1-0", "H100")
        return (
            DeviceInterval(
                node=device[0],
                device=device[1],
                model=device[2],
                usage_class=UsageClass.PRODUCTIVE,
                start_us=NOW_US - MINUTE_US,
                end_us=NOW_US,
                job_id=17,
                epoch=1,
                user="ada",
                account="vision",
            ),
        )

    def failures(self):
        return FailureHistory(node_us=63 * 73 * 86_400_000_000, failures=28, restart_s=660.0)

    def cost(self, group_by, start_us=None, end_us=None):
        self.asked.append(("cost", group_by, start_us, end_us))
        return cost_report()


class FakeHead:
    """What ``Session.client`` is in tests."""

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        preview = PlanPreview(
            diagnosis=replace(diagnosis(), message="Would start now", reason=None),
            plan=launch_plan(),
            price_per_hour="10.00",
            currency="EUR",
            ring=RingCost(4, None),
        )
        views = {17: running_view(), 18: pending_view(), 16: failed_view()}
        self.jobs = FakeJobs(views, self.asked, preview)
        self.nodes = FakeNodes(node_views(), self.asked)
        self.reports = FakeReports(self.asked)
        self.is_closed = False

    def close(self) -> None:
        self.is_closed = True

    def session(self, cwd: Path) -> Session:
        return Session(connect=lambda: self, now_us=lambda: NOW_US, cwd=lambda: cwd)
