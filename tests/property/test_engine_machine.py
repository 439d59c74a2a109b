"""The engine under any order of events: what must never happen, whatever happens.

A hypothesis state machine drives the real engine (placement and policy included), with
reports repeated, late and out of order, and checks after every step.
"""

from __future__ import annotations

from collections import Counter

from cluster import ALICE, OPERATOR, Cluster, ended, facts, failed, spec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gpusched.domain.errors import Rejected
from gpusched.domain.events import AgentReport, JobEnded, JobSubmitted, TasksStarted
from gpusched.domain.ids import AttemptId, Epoch, JobId, NodeName
from gpusched.domain.job_spec import JobSpec, RestartOn, StallAction, StallPolicy
from gpusched.domain.job_state import EndReason, JobState
from gpusched.engine.core import Engine
from gpusched.engine.fold import fold
from gpusched.engine.inputs import (
    CancelJob,
    DelayPassed,
    DrainNode,
    GangMoves,
    GangRecovered,
    GangSlowed,
    GangStalled,
    HoldJob,
    NodeConnected,
    NodeHeard,
    NodeSilent,
    ReleaseJob,
    Reported,
    RequeueJob,
    ResumeNode,
    Submit,
)
from gpusched.engine.ports import Loaded
from gpusched.engine.state import ClusterState

NODES = ("n1", "n2", "n3")


def waiting(state: ClusterState) -> list[tuple[JobId, JobSpec]]:
    """The queue, as values: entries themselves are told apart by identity."""
    return [(entry.job_id, entry.spec) for entry in state.queue]


class EngineMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.cluster = Cluster()
        self.sent: list[AgentReport] = []

    @initialize()
    def join(self) -> None:
        self.cluster.join(*(facts(name, gpus=2, cpus=4) for name in NODES))

    @rule(
        nodes=st.integers(1, 3),
        gpus=st.integers(0, 2),
        requeue=st.booleans(),
        hold=st.booleans(),
        limit=st.sampled_from([None, 60]),
        nice=st.integers(0, 2),
    )
    def submit(self, nodes: int, gpus: int, requeue: bool, hold: bool, limit: int | None, nice: int) -> None:
        wanted = spec(
            nodes=nodes,
            gpus_per_node=gpus,
            requeue=requeue,
            hold=hold,
            time_limit_s=limit,
            nice=nice,
            stall=StallPolicy(60, StallAction.REQUEUE) if requeue else None,
            restart_on=RestartOn.ANY if requeue and nice == 2 else None,
        )
        request = Submit(who=ALICE, request_id=self.cluster.request_id(), specs=(wanted,))
        (first,) = self.cluster.step([request])
        (retry,) = self.cluster.step([request])
        assert isinstance(first, tuple) == isinstance(retry, tuple)
        assert not isinstance(first, tuple) or first == retry
        self.cluster.cycle()

    @rule()
    def cycle(self) -> None:
        self.cluster.cycle()

    @rule(data=st.data(), kind=st.sampled_from([CancelJob, HoldJob, ReleaseJob, RequeueJob]))
    def change(self, data: st.DataObject, kind: type[CancelJob]) -> None:
        job_id = JobId(data.draw(st.integers(1, max(1, self.cluster.engine.state.next_job_id))))
        (answer,) = self.cluster.step([kind(who=ALICE, request_id=self.cluster.request_id(), job_id=job_id)])
        assert answer == () or isinstance(answer, Rejected)

    @rule(
        data=st.data(),
        what=st.sampled_from(["started", "failed", "ended", "lost", "reboot"]),
        code=st.sampled_from([0, 0, 1]),
    )
    def report(self, data: st.DataObject, what: str, code: int) -> None:
        running = sorted(self.cluster.engine.state.running)
        if not running:
            return
        job = self.cluster.job(data.draw(st.sampled_from(running)))
        assert job.attempt is not None
        node = data.draw(st.sampled_from(job.attempt.node_names))
        fact: AgentReport
        if what == "started":
            fact = TasksStarted(job_id=job.job_id, epoch=job.attempt.epoch, node=node, pids=(1,))
        elif what == "failed":
            fact = failed(job, node, job.attempt.node_names.index(node), 1, "boom")
        elif what == "ended":
            fact = ended(job, node, code)
        else:
            cause = EndReason.SHIM_LOST if what == "lost" else EndReason.NODE_FAIL
            fact = ended(job, node, 1, cause)
        self.sent.append(fact)
        self.cluster.report(fact)

    @rule(data=st.data())
    def repeat_an_old_report(self, data: st.DataObject) -> None:
        for _ in range(min(len(self.sent), 3)):
            fact = data.draw(st.sampled_from(self.sent[-6:]))
            before = self.cluster.job(fact.job_id)
            already_over = (
                before.attempt is None
                or before.attempt.epoch != fact.epoch
                or fact.node in before.attempt.nodes_ended
            )
            length = len(self.cluster.log)
            self.cluster.step(facts_=[Reported(fact.node, fact)])
            if already_over:
                assert len(self.cluster.log) == length

    @rule(data=st.data(), moves=st.booleans())
    def stall(self, data: st.DataObject, moves: bool) -> None:
        job_id = JobId(data.draw(st.integers(1, max(1, self.cluster.engine.state.next_job_id))))
        attempt_id = AttemptId(job_id, Epoch(data.draw(st.integers(1, 2))))
        node = NodeName(data.draw(st.sampled_from(NODES)))
        stalled = GangStalled(attempt_id, node, global_rank=0, quiet_s=60, evidence="it waits")
        self.cluster.step(facts_=[GangMoves(attempt_id) if moves else stalled])

    @rule(data=st.data(), recovers=st.booleans(), rank=st.sampled_from([None, 0, 1]))
    def slow_down(self, data: st.DataObject, recovers: bool, rank: int | None) -> None:
        job_id = JobId(data.draw(st.integers(1, max(1, self.cluster.engine.state.next_job_id))))
        attempt_id = AttemptId(job_id, Epoch(data.draw(st.integers(1, 2))))
        slowed = GangSlowed(attempt_id, "it is slow", rank, None if rank is None else NodeName(NODES[0]))
        self.cluster.step(facts_=[GangRecovered(attempt_id) if recovers else slowed])

    @rule(data=st.data())
    def delay_passes(self, data: st.DataObject) -> None:
        waiting = sorted(self.cluster.engine.state.delayed)
        if waiting:
            self.cluster.step(facts_=[DelayPassed(data.draw(st.sampled_from(waiting)))])

    @rule(node=st.sampled_from(NODES), heard=st.booleans())
    def silence(self, node: str, heard: bool) -> None:
        name = NodeName(node)
        self.cluster.step(facts_=[NodeHeard(name) if heard else NodeSilent(name, 20.0)])

    @rule(node=st.sampled_from(NODES), gpus=st.integers(0, 2))
    def reconnect(self, node: str, gpus: int) -> None:
        name = NodeName(node)
        held = tuple(
            attempt_id
            for job_id in sorted(self.cluster.engine.state.jobs_on.get(name, ()))
            if (attempt_id := self.cluster.job(job_id).attempt_id) is not None
        )
        self.cluster.step(facts_=[NodeConnected(facts(node, gpus=gpus, cpus=4), held)])

    @rule(node=st.sampled_from(NODES))
    def drain_and_resume(self, node: str) -> None:
        name = NodeName(node)
        kind = (
            ResumeNode(who=OPERATOR, request_id=self.cluster.request_id(), node=name)
            if self.cluster.engine.state.nodes[name].reason
            else DrainNode(
                who=OPERATOR,
                request_id=self.cluster.request_id(),
                node=name,
                reason="test",
                deadline_s=None,
            )
        )
        self.cluster.step([kind])

    @invariant()
    def no_device_or_cpu_is_granted_twice(self) -> None:
        granted: Counter[tuple[str, object]] = Counter()
        for entry in self.cluster.engine.state.running.values():
            for part in entry.nodes:
                granted.update((part.node, device) for device in part.devices)
                granted.update((part.node, cpu) for cpu in part.cpu_ids)
        assert not [item for item, times in granted.items() if times > 1]

    @invariant()
    def a_gang_is_whole_or_absent(self) -> None:
        for job_id, entry in self.cluster.engine.state.running.items():
            job = self.cluster.engine.state.jobs[job_id]
            assert len(entry.nodes) == job.spec.nodes
            assert all(len(part.devices) == job.spec.gpus_per_node for part in entry.nodes)

    @invariant()
    def folding_the_log_gives_the_state(self) -> None:
        state, again = self.cluster.engine.state, fold(self.cluster.log, self.cluster.settings.partitions)
        assert again.jobs == state.jobs
        assert again.nodes == state.nodes
        assert waiting(again) == waiting(state)
        assert again.running == state.running
        assert again.leased_ports == state.leased_ports
        assert again.next_job_id == state.next_job_id

    @invariant()
    def restoring_from_projections_gives_the_state(self) -> None:
        state = self.cluster.engine.state
        jobs = {job.job_id: job for batch in self.cluster.batches for job in batch.jobs}
        loaded = Loaded(
            jobs=tuple(job for job in jobs.values() if not job.state.is_terminal),
            nodes=tuple({n.name: n for b in self.cluster.batches for n in b.nodes}.values()),
            outbox=(),
            last_seq=state.last_seq,
            last_command_seq=0,
            next_job_id=state.next_job_id,
        )
        restored = Engine(loaded, self.cluster.settings).state
        assert restored.jobs == state.jobs
        assert waiting(restored) == waiting(state)
        assert restored.running == state.running
        assert restored.delayed == state.delayed

    @invariant()
    def every_accepted_job_is_alive_or_has_one_end(self) -> None:
        submitted = [r.event.job_id for r in self.cluster.log if isinstance(r.event, JobSubmitted)]
        ends = Counter(r.event.job_id for r in self.cluster.log if isinstance(r.event, JobEnded))
        assert len(set(submitted)) == len(submitted)
        for job_id in submitted:
            assert ends[job_id] == (0 if job_id in self.cluster.engine.state.jobs else 1)

    @invariant()
    def the_log_has_no_gap(self) -> None:
        assert [r.seq for r in self.cluster.log] == list(range(1, len(self.cluster.log) + 1))

    @invariant()
    def pending_jobs_hold_nothing(self) -> None:
        for job in self.cluster.engine.state.jobs.values():
            if job.state is JobState.PENDING:
                assert job.job_id not in self.cluster.engine.state.running


EngineMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
test_engine_machine = EngineMachine.TestCase
