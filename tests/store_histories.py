"""Histories for store tests: real batches, made by the engine's own transaction."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from gpusched.domain.allocation import Allocation, GrantedDevice, NodeAllocation
from gpusched.domain.events import (
    AttemptStopping,
    Event,
    JobAllocated,
    JobEnded,
    JobHeld,
    JobReleased,
    JobSubmitted,
    NodeCordoned,
    NodeJoined,
    NodeLost,
    NodeResumed,
    NodeReturned,
    OutageBegan,
    OutagesEnded,
    Recorded,
    TasksEnded,
    TasksStarted,
)
from gpusched.domain.health import Condition, Cure, HealthAction, Outage, Signal
from gpusched.domain.identity import Identity
from gpusched.domain.ids import DeviceUuid, Epoch, JobId, NodeName, RequestId
from gpusched.domain.job import Job, TaskExit
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.node import Device, Node, NodeFacts
from gpusched.domain.telemetry import DeviceUse, NodeUse
from gpusched.engine.ports import Batch, RequestRecord
from gpusched.engine.state import ClusterState
from gpusched.engine.transaction import Transaction
from gpusched.launch.plan import make_launch_plan

PLAN_LAUNCH = partial(make_launch_plan, cluster="test")

ADA = Identity("ada", 1000, 1000)
NODES = (NodeName("n0"), NodeName("n1"), NodeName("n2"))
TICK_US = 1_000_000


def node_facts(name: NodeName, gpus: int = 4) -> NodeFacts:
    return NodeFacts(
        name=name,
        boot_id="b",
        agent_version="1",
        address=f"10.0.0.{name[1:]}",
        interface="eth0",
        cpu_ids=tuple(range(16)),
        cpus_pinnable=True,
        memory_bytes=1 << 36,
        devices=tuple(
            Device(uuid=DeviceUuid(f"GPU-{name}-{n}"), model="NVIDIA H100", memory_bytes=80 << 30)
            for n in range(gpus)
        ),
    )


def allocation(job: Job, at_us: int, nodes: tuple[NodeName, ...] = NODES) -> Allocation:
    return Allocation(
        nodes=tuple(
            NodeAllocation(
                node=name,
                address=f"10.0.0.{name[1:]}",
                interface="eth0",
                devices=(GrantedDevice(DeviceUuid(f"GPU-{name}-0"), "NVIDIA H100", declared=False),),
                cpu_ids=(0, 1),
                cpus_pinnable=True,
                memory_bytes=1 << 30,
            )
            for name in nodes[: job.spec.nodes]
        ),
        master_port=23_000 + job.job_id,
        granted_at_us=at_us,
    )


def answer(name: str, *job_ids: int) -> RequestRecord:
    return RequestRecord(
        request_id=RequestId(name),
        subject="uid:1000",
        digest=b"\x00\xff digest",
        job_ids=tuple(map(JobId, job_ids)),
        answered_at_us=7,
    )


class History:
    """Makes batches one after the other, and remembers the log they add up to."""

    def __init__(self) -> None:
        self.state = ClusterState()
        self.now_us = TICK_US
        self.log: list[Recorded] = []
        self.last_command_seq = 0

    def batch(
        self, *facts: Event, requests: tuple[RequestRecord, ...] = (), acknowledged: tuple[int, ...] = ()
    ) -> Batch:
        """One tick in which these things happened."""
        return self.tick(iter(facts), requests=requests, acknowledged=acknowledged)

    def tick(
        self,
        facts: Iterator[Event],
        *,
        requests: tuple[RequestRecord, ...] = (),
        acknowledged: tuple[int, ...] = (),
    ) -> Batch:
        """As ``batch``; each fact is asked for after the one before has been applied."""
        tx = Transaction(self.state, self.now_us, PLAN_LAUNCH, self.last_command_seq)
        for fact in facts:
            tx.record(fact)
        for record in requests:
            tx.answer(record)
        for seq in acknowledged:
            tx.acknowledge(seq)
        batch = tx.batch()
        self.log += batch.events
        self.last_command_seq = tx.last_command_seq
        self.now_us += TICK_US
        return batch

    # ── facts ─────────────────────────────────────────────────────────────────────────

    def submitted(self, *, ahead: int = 0, spec: JobSpec | None = None) -> JobSubmitted:
        """A submission; ``ahead`` counts the others of the same tick before it."""
        return JobSubmitted(
            job_id=JobId(self.state.next_job_id + ahead), spec=spec or JobSpec(name="train"), owner=ADA
        )

    def allocated(self, job_id: int, nodes: tuple[NodeName, ...] = NODES) -> JobAllocated:
        job = self.state.jobs[JobId(job_id)]
        granted = allocation(job, self.now_us, nodes)
        return JobAllocated(job_id=job.job_id, epoch=job.next_epoch, allocation=granted)

    def started(self, job_id: int, node: NodeName) -> TasksStarted:
        return TasksStarted(job_id=JobId(job_id), epoch=self._epoch(job_id), node=node, pids=(1, 2))

    def ended(
        self, job_id: int, node: NodeName, exit_code: int = 0, cause: EndReason | None = None
    ) -> TasksEnded:
        return TasksEnded(
            job_id=JobId(job_id),
            epoch=self._epoch(job_id),
            node=node,
            exits=(TaskExit(0, exit_code, None),),
            cause=cause,
            detail=None,
            use=NodeUse(wall_s=1.5, devices=(DeviceUse(uuid=DeviceUuid(f"GPU-{node}-0"), busy_s=0.0),)),
        )

    def cancelled(self, job_id: int) -> JobEnded | AttemptStopping:
        job = self.state.jobs[JobId(job_id)]
        if job.state is JobState.PENDING:
            return JobEnded(
                job_id=job.job_id,
                state=JobState.CANCELLED,
                reason=EndReason.CANCELLED,
                detail=None,
                exit_code=None,
            )
        return AttemptStopping(
            job_id=job.job_id,
            epoch=self._epoch(job_id),
            reason=EndReason.CANCELLED,
            detail="asked",
            by="ada",
            exit_code=None,
        )

    def _epoch(self, job_id: int) -> Epoch:
        attempt = self.state.jobs[JobId(job_id)].attempt
        assert attempt is not None
        return attempt.epoch

    # ── chance ────────────────────────────────────────────────────────────────────────

    def possible(self) -> list[Event]:
        """Everything that could happen next, in a fixed order."""
        found: list[Event] = [
            self.submitted(),
            self.submitted(spec=JobSpec(name="gang", nodes=2, requeue=True, account="physics")),
            self.submitted(spec=JobSpec(name="held", hold=True, partition="big")),
        ]
        for name in NODES:
            node = self.state.nodes.get(name)
            if node is None or node.reachable:  # a lost one returns in the tick in which it joins again
                found.append(NodeJoined(node=name, facts=node_facts(name)))
                found.append(NodeJoined(node=name, facts=node_facts(name, gpus=3)))
            if node is not None:
                found.append(
                    NodeLost(node=name, detail="silent") if node.reachable else NodeReturned(node=name)
                )
                found.append(NodeCordoned(node=name, by="ops", reason="fan"))
                found.append(NodeResumed(node=name, by="ops"))
                found += _possible_outages(node)
        for job in list(self.state.jobs.values()):
            if not job.state.is_terminal:
                found += self._possible_of(job)
        return found

    def _possible_of(self, job: Job) -> Iterator[Event]:
        if job.state is JobState.PENDING:
            if job.is_held:
                yield JobReleased(job_id=job.job_id, by="ada")
            else:
                yield JobHeld(job_id=job.job_id, by="ada")
                yield self.allocated(job.job_id)
            yield self.cancelled(job.job_id)
            return
        assert job.attempt is not None
        if job.attempt.stop_reason is None:
            yield self.cancelled(job.job_id)
        for name in job.attempt.node_names:
            if name in job.attempt.nodes_ended:
                continue
            if name not in job.attempt.nodes_started:
                yield self.started(job.job_id, name)
            yield self.ended(job.job_id, name)
            yield self.ended(job.job_id, name, exit_code=1)
            yield self.ended(job.job_id, name, cause=EndReason.NODE_FAIL)


def _possible_outages(node: Node) -> Iterator[Event]:
    for devices in ((), (node.facts.devices[0].uuid,)):
        condition = Condition(signal=Signal.ECC_UNCORRECTED, detail="2", devices=devices)
        outage = Outage(condition=condition, action=HealthAction.RESET, cure=Cure.RESET, devices=devices)
        if outage not in node.health.outages:
            yield OutageBegan(node=node.name, outage=outage)
    if node.health.outages:
        yield OutagesEnded(node=node.name, outages=node.health.outages[:1], by="ops")
