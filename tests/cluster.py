"""Small clusters and jobs for tests of the engine: real engine, real placement, no store."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from gpusched.domain.events import AgentReport, Recorded, TaskFailed, TasksEnded, TasksStarted
from gpusched.domain.identity import Identity, Principal, Role
from gpusched.domain.ids import AttemptId, DeviceUuid, Epoch, JobId, NodeName, RequestId
from gpusched.domain.job import Job, TaskExit
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import EndReason
from gpusched.domain.node import Device, NodeFacts
from gpusched.domain.telemetry import NodeUse
from gpusched.engine.core import Answer, Engine, EngineSettings, Tick
from gpusched.engine.inputs import Fact, NodeConnected, Reported, Request, Submit
from gpusched.engine.ports import Batch, Loaded, RequestRecord

ALICE = Principal(Identity("alice", 1000, 1000), frozenset({Role.USER}))
BOB = Principal(Identity("bob", 1001, 1001), frozenset({Role.USER}))
OPERATOR = Principal(Identity("root", 0, 0), frozenset({Role.USER, Role.OPERATOR}))
SECOND_US = 1_000_000


def facts(name: str, *, gpus: int = 4, model: str = "NVIDIA H100 80GB HBM3", cpus: int = 16) -> NodeFacts:
    node = NodeName(name)
    return NodeFacts(
        name=node,
        boot_id=f"boot-{name}",
        agent_version="test",
        address=f"host-{name}",
        interface="eth0",
        cpu_ids=tuple(range(cpus)),
        cpus_pinnable=True,
        memory_bytes=64 << 30,
        devices=tuple(
            Device(uuid=DeviceUuid(f"GPU-{name}-{i}"), model=model, memory_bytes=80 << 30)
            for i in range(gpus)
        ),
    )


def spec(**changes: object) -> JobSpec:
    given: dict[str, object] = {"name": "train", "command": ("true",), "workdir": "/tmp", **changes}
    return JobSpec(**given)  # type: ignore[arg-type]


class Cluster:
    """An engine with a log and a store of answers, stepped by hand. Time moves one second a step."""

    def __init__(self, settings: EngineSettings | None = None) -> None:
        self.settings = settings or EngineSettings()
        loaded = Loaded(jobs=(), nodes=(), outbox=(), last_seq=0, last_command_seq=0, next_job_id=JobId(1))
        self.engine = Engine(loaded, self.settings)
        self.now_us = 1_700_000_000 * SECOND_US
        self.log: list[Recorded] = []
        self.batches: list[Batch] = []
        self.answered: dict[tuple[str, RequestId], RequestRecord] = {}
        self._request_ids = count(1)

    def request_id(self) -> RequestId:
        return RequestId(f"r{next(self._request_ids)}")

    def step(self, requests: Sequence[Request] = (), facts_: Sequence[Fact] = ()) -> tuple[Answer, ...]:
        self.now_us += SECOND_US
        tick = self.engine.handle(requests, facts_, self.answered, self.now_us)
        self._commit(tick)
        return tick.answers

    def cycle(self) -> tuple[Recorded, ...]:
        tick = self.engine.cycle(self.now_us)
        if tick is None:
            return ()
        self._commit(tick)
        return tick.events

    def _commit(self, tick: Tick) -> None:
        self.engine.committed(tick)
        self.log.extend(tick.events)
        self.batches.append(tick.batch)
        for record in tick.batch.requests:
            self.answered[record.subject, record.request_id] = record

    def join(self, *nodes: NodeFacts, attempts: tuple[AttemptId, ...] = ()) -> None:
        self.step(facts_=[NodeConnected(node, attempts) for node in nodes])

    def submit(self, *specs: JobSpec, who: Principal = ALICE) -> tuple[JobId, ...]:
        answer = self.step([Submit(who=who, request_id=self.request_id(), specs=specs)])[0]
        if not isinstance(answer, tuple):
            raise answer
        return answer

    def job(self, job_id: int) -> Job:
        """The job now; the last projection written for one that has ended."""
        alive = self.engine.state.jobs.get(JobId(job_id))
        if alive is not None:
            return alive
        return next(job for batch in reversed(self.batches) for job in batch.jobs if job.job_id == job_id)

    def report(self, fact: AgentReport) -> None:
        self.step(facts_=[Reported(fact.node, fact)])

    def start_all(self, job_id: int) -> None:
        """Every node of the job's attempt reports its ranks started."""
        attempt = self.job(job_id).attempt
        assert attempt is not None
        for node in attempt.node_names:
            self.report(TasksStarted(job_id=JobId(job_id), epoch=attempt.epoch, node=node, pids=(1,)))

    def end_all(self, job_id: int, exit_code: int = 0, cause: EndReason | None = None) -> None:
        """Every node of the job's attempt reports its ranks gone."""
        job = self.job(job_id)
        assert job.attempt is not None
        for node in job.attempt.node_names:
            if node not in job.attempt.nodes_ended:
                self.report(ended(job, node, exit_code, cause))


def ended(job: Job, node: NodeName, exit_code: int = 0, cause: EndReason | None = None) -> TasksEnded:
    assert job.attempt is not None
    node_rank = job.attempt.node_names.index(node)
    first = node_rank * job.spec.tasks_per_node
    return TasksEnded(
        job_id=job.job_id,
        epoch=job.attempt.epoch,
        node=node,
        exits=tuple(TaskExit(first + i, exit_code, None) for i in range(job.spec.tasks_per_node)),
        cause=cause,
        detail=None if cause is None else f"{cause.value} on {node}",
        use=NodeUse(wall_s=1.0),
    )


def failed(job: Job, node: NodeName, rank: int, exit_code: int, *lines: str) -> TaskFailed:
    assert job.attempt is not None
    return TaskFailed(
        job_id=job.job_id,
        epoch=Epoch(job.attempt.epoch),
        node=node,
        exit=TaskExit(rank, exit_code, None),
        last_lines=lines,
    )
