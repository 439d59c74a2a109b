"""The state of the cluster as a fold over the event log.

``apply`` updates, and does nothing else. It is called for every event as it is recorded
and gives the same state when the whole log is folded again from the start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import assert_never

from gpusched.domain.events import (
    AttemptEnded,
    AttemptStopping,
    Event,
    HealthEvent,
    JobAllocated,
    JobEnded,
    JobHeld,
    JobReleased,
    JobRequeued,
    JobStalled,
    JobSubmitted,
    JobUnderused,
    NodeAhead,
    NodeCordoned,
    NodeDrained,
    NodeDrainStarted,
    NodeEvent,
    NodeJoined,
    NodeLost,
    NodeReconciled,
    NodeResumed,
    NodeReturned,
    Recorded,
    StallEnded,
    TaskFailed,
    TasksEnded,
    TasksStarted,
)
from gpusched.domain.health import HealthRules
from gpusched.domain.history import History
from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.job import Attempt, Job, Stall
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import INFRASTRUCTURE_REASONS, JobState, next_state
from gpusched.domain.node import WHOLE_MILLI, Node, Schedulability
from gpusched.domain.partition import Partitions
from gpusched.domain.topology import Topology
from gpusched.engine import restarts
from gpusched.engine.demand import Demand
from gpusched.engine.health_fold import health_after, rebooted, with_fault
from gpusched.engine.queue import PendingQueue
from gpusched.placement.placement import Counts, NodePlacement
from gpusched.placement.request import counters_of
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.plan import RunningEntry
from gpusched.policy.quota import Quotas

FIRST_JOB_ID = JobId(1)


@dataclass(slots=True)
class ClusterState:
    """Everything unfinished. Only ``apply`` writes it."""

    partitions: Partitions = field(default_factory=Partitions)
    topology: Topology = field(default_factory=Topology)
    quotas: Quotas = field(default_factory=Quotas)
    health_rules: HealthRules = field(default_factory=HealthRules)
    licenses: Counts = ()  # that the cluster has
    jobs: dict[JobId, Job] = field(default_factory=dict)
    nodes: dict[NodeName, Node] = field(default_factory=dict)
    queue: PendingQueue = field(default_factory=PendingQueue)
    demand: Demand = field(default_factory=Demand)
    running: dict[JobId, RunningEntry] = field(default_factory=dict)
    jobs_on: dict[NodeName, set[JobId]] = field(default_factory=dict)
    delayed: dict[JobId, int] = field(default_factory=dict)  # held jobs that the head releases, and when
    leased_ports: set[tuple[str, int]] = field(default_factory=set)  # (address, port)
    next_job_id: JobId = FIRST_JOB_ID
    history: History = field(default_factory=History)
    last_seq: int = 0
    at_us: int = 0  # of the last event
    generation: int = 0  # of the cluster: nodes and what is free on them
    queue_version: int = 0  # of the queue: a cycle without either change finds nothing new
    _snapshot: ClusterSnapshot | None = None
    _overbooked: set[NodeName] = field(default_factory=set)  # came back with less than is granted there

    @property
    def is_suspended(self) -> bool:
        """Whether nothing may be started: what runs may be more than is known here."""
        if self.history.accepts_loss:
            return False
        return self.history.is_behind or any(node.ahead is not None for node in self.nodes.values())

    @property
    def snapshot(self) -> ClusterSnapshot:
        """Nodes and what is free on them now. Rebuilt only after a node changed."""
        if self._snapshot is None:
            self._snapshot = ClusterSnapshot.of(
                self.nodes.values(), self.partitions, self.generation, self.topology, self.licenses
            )
            self._overbooked.clear()
            for entry in self.running.values():
                self._snapshot.owe_licenses(entry.licenses)
                for part in entry.nodes:
                    self._take_again(self._snapshot, self._still_there(part))
        self._snapshot.generation = self.generation
        self._snapshot.expect(self.demand.mix)
        return self._snapshot

    def _take_again(self, snapshot: ClusterSnapshot, part: NodePlacement) -> None:
        """Hold a grant in a new snapshot, as much of what is counted as is left there."""
        node = snapshot.index[part.node]
        counters = ((name, min(amount, snapshot.counter_free(name, node))) for name, amount in part.counters)
        left = replace(
            part,
            memory_bytes=min(part.memory_bytes, int(snapshot.memory_free[node])),
            counters=tuple((name, amount) for name, amount in counters if amount > 0),
        )
        if left != part:
            self._overbooked.add(part.node)
        snapshot.take(left)

    def _still_there(self, part: NodePlacement) -> NodePlacement:
        """What of a grant is in service: a card that is lost or out stays granted, not placed."""
        node = self.nodes[part.node]
        fitted = {device.uuid for device in node.facts.devices} - node.health.devices_out
        cpu_ids = set(node.facts.cpu_ids)
        return replace(
            part,
            devices=tuple(uuid for uuid in part.devices if uuid in fitted),
            cpu_ids=tuple(cpu for cpu in part.cpu_ids if cpu in cpu_ids),
        )

    @classmethod
    def of(
        cls,
        partitions: Partitions,
        *,
        topology: Topology | None = None,
        quotas: Quotas | None = None,
        health_rules: HealthRules | None = None,
        licenses: Counts = (),
        jobs: Iterable[Job] = (),
        nodes: Iterable[Node] = (),
        submitted: Iterable[tuple[JobId, JobSpec]] = (),
        next_job_id: JobId = FIRST_JOB_ID,
        last_seq: int = 0,
    ) -> ClusterState:
        """Restore from projections: the same state that folding the log gives."""
        state = cls(
            partitions=partitions,
            topology=topology or Topology(),
            quotas=quotas or Quotas(),
            health_rules=health_rules or HealthRules(),
            licenses=licenses,
            next_job_id=next_job_id,
            last_seq=last_seq,
        )
        state.demand = Demand.of(submitted)
        state.nodes = {node.name: node for node in nodes}
        for job in jobs:
            state.jobs[job.job_id] = job
            if job.state is JobState.PENDING:
                state.note_delay(job)
                if not job.is_held:
                    state.line_up(job)
            else:
                state.hold_resources(job)
        return state

    def line_up(self, job: Job) -> None:
        """Queue a job that may start."""
        self.queue.add(job, self.partitions.open_to(job.spec, job.restarts))

    def note_delay(self, job: Job) -> None:
        """Note when the head is to release a job, if it is."""
        if job.held_until_us is None:
            self.delayed.pop(job.job_id, None)
        else:
            self.delayed[job.job_id] = job.held_until_us

    def hold_resources(self, job: Job) -> None:
        """Note what a started job holds. ``job.attempt`` must be set."""
        assert job.attempt is not None
        allocation = job.attempt.allocation
        limit = job.spec.time_limit_s
        parts = tuple(
            NodePlacement(
                part.node,
                tuple(device.uuid for device in part.devices),
                part.cpu_ids,
                part.memory_bytes,
                job.spec.gpu_milli,
                counters_of(job.spec.disk_bytes, job.spec.gres),
            )
            for part in allocation.nodes
        )
        ends_by_us = None if limit is None else allocation.granted_at_us + limit * 1_000_000
        self.running[job.job_id] = RunningEntry(job.job_id, parts, ends_by_us, job.spec.licenses)
        self.leased_ports.add((allocation.nodes[0].address, allocation.master_port))
        if self._snapshot is not None:
            self._snapshot.take_licenses(job.spec.licenses)
        for part in parts:
            self.jobs_on.setdefault(part.node, set()).add(job.job_id)
            if self._snapshot is not None:
                self._snapshot.take(part)
        self.generation += 1

    def free_resources(self, job: Job) -> None:
        """Forget what an ended attempt held."""
        assert job.attempt is not None
        allocation = job.attempt.allocation
        self.leased_ports.discard((allocation.nodes[0].address, allocation.master_port))
        held = self.running.pop(job.job_id)
        if self._snapshot is not None:
            self._snapshot.give_back_licenses(held.licenses)
        for part in held.nodes:
            self.jobs_on[part.node].discard(job.job_id)
            if part.node in self._overbooked:
                self._snapshot = None  # what it holds of each grant there is not what was granted
            if self._snapshot is not None:
                self._snapshot.give_back(self._still_there(part))
        self.generation += 1

    def gpus_held_by(self, account: str) -> float:
        """GPUs that the running jobs of an account hold together; a share of one counts as its part."""
        specs = (self.jobs[job_id].spec for job_id in self.running)
        return sum(spec.gpu_milli_total for spec in specs if spec.account == account) / WHOLE_MILLI

    def put_node(self, node: Node) -> None:
        """Add or replace a node; the snapshot is rebuilt when next needed."""
        self.nodes[node.name] = node
        self.generation += 1
        self._snapshot = None


def fold(log: Iterable[Recorded], partitions: Partitions) -> ClusterState:
    """Fold a whole log from its start."""
    state = ClusterState(partitions=partitions)
    for recorded in log:
        apply(state, recorded)
    return state


def apply(state: ClusterState, recorded: Recorded) -> Job | Node:
    """Update ``state`` by one event and return the projection of its subject.

    A job that ended leaves the state; its last projection is the one returned.

    Raises:
        InvalidTransition: The event asks for a move that no job can make: a bug.
    """
    state.last_seq, state.at_us = recorded.seq, recorded.at_us
    event = recorded.event
    if isinstance(event, NodeEvent):
        node = _node_after(state.nodes.get(event.node), event, recorded.at_us)
        state.put_node(node)
        if node.ahead is not None:  # its ids were handed out, though nobody here remembers to whom
            state.next_job_id = max(state.next_job_id, node.ahead.next_job_id)
        return node
    if isinstance(event, JobSubmitted):
        _submit(state, event, recorded.at_us)
    else:
        _apply_to_job(state, state.jobs[event.job_id], event, recorded.at_us)
    job = state.jobs[event.job_id]
    if job.state.is_terminal:
        del state.jobs[job.job_id]
    return job


def _node_after(node: Node | None, event: NodeEvent, at_us: int) -> Node:
    if isinstance(event, NodeJoined):
        if node is None:
            return Node(facts=event.facts, joined_at_us=at_us)
        is_same_boot = event.facts.boot_id == node.facts.boot_id
        return replace(node, facts=event.facts, health=node.health if is_same_boot else rebooted(node.health))
    assert node is not None, f"{type(event).__name__} of {event.node}, which never joined"
    if isinstance(event, HealthEvent):
        return replace(node, health=health_after(node.health, event, at_us))
    match event:
        case NodeLost():
            return replace(node, reachable=False, lost_at_us=at_us, health=with_fault(node.health, at_us))
        case NodeAhead():
            return replace(node, ahead=event.ahead)
        case NodeReconciled():
            return replace(node, ahead=None)
        case NodeReturned():
            return replace(node, reachable=True, lost_at_us=None)
        case NodeCordoned():
            return replace(
                node,
                schedulability=Schedulability.CORDONED,
                reason=event.reason,
                cordoned_by=event.by,
                drain_deadline_us=None,
            )
        case NodeDrainStarted():
            return replace(
                node,
                schedulability=Schedulability.DRAINING,
                reason=event.reason,
                cordoned_by=event.by,
                drain_deadline_us=event.deadline_us,
            )
        case NodeDrained():
            return replace(node, schedulability=Schedulability.DRAINED, drain_deadline_us=None)
        case NodeResumed():
            return replace(
                node,
                schedulability=Schedulability.OPEN,
                reason=None,
                cordoned_by=None,
                drain_deadline_us=None,
            )
        case _:
            assert_never(event)


def _submit(state: ClusterState, event: JobSubmitted, at_us: int) -> None:
    job = Job(
        job_id=event.job_id,
        spec=event.spec,
        owner=event.owner,
        submitted_at_us=at_us,
        is_held=event.spec.hold,
    )
    state.jobs[job.job_id] = job
    state.next_job_id = JobId(max(state.next_job_id, job.job_id + 1))
    state.demand.note(job.job_id, job.spec)
    if not job.is_held:
        state.line_up(job)
        state.queue_version += 1


def _apply_to_job(state: ClusterState, job: Job, event: Event, at_us: int) -> None:
    match event:
        case JobHeld():
            state.jobs[job.job_id] = job = restarts.held(job, event, at_us)
            state.note_delay(job)
            _dequeue(state, job)
        case JobReleased():
            state.jobs[job.job_id] = job = restarts.released(job, event)
            state.note_delay(job)
            _enqueue(state, job)
        case JobAllocated():
            _allocate(state, job, event)
        case (
            TasksStarted()
            | TaskFailed()
            | TasksEnded()
            | AttemptStopping()
            | JobStalled()
            | StallEnded()
            | JobUnderused()
        ):
            assert job.attempt is not None
            state.jobs[job.job_id] = _attempt_progress(job, job.attempt, event, at_us)
        case AttemptEnded():
            _end_attempt(state, job, event, at_us)
        case JobRequeued():
            state.jobs[job.job_id] = job = replace(
                restarts.counted(job),
                state=next_state(job.state, JobState.PENDING),
                started_at_us=None,
                ended_at_us=None,
            )
            _enqueue(state, job)
        case JobEnded():
            next_state(job.state, event.state)
            state.delayed.pop(job.job_id, None)
            _dequeue(state, job)
            state.jobs[job.job_id] = replace(
                job,
                state=event.state,
                ended_at_us=at_us,
                end_reason=event.reason,
                end_detail=event.detail,
                exit_code=event.exit_code,
            )
        case _:
            raise AssertionError(f"{type(event).__name__} is not an event of a known job")


def _enqueue(state: ClusterState, job: Job) -> None:
    if job.state is JobState.PENDING and not job.is_held:
        state.line_up(job)
        state.queue_version += 1


def _dequeue(state: ClusterState, job: Job) -> None:
    if state.queue.ahead_of(job.job_id) is not None:
        state.queue.remove(job.job_id)
        state.queue_version += 1  # it may have been the head, which kept others back


def _allocate(state: ClusterState, job: Job, event: JobAllocated) -> None:
    state.queue.remove(job.job_id)
    job = replace(
        job,
        state=next_state(job.state, JobState.CONFIGURING),
        attempt=Attempt(epoch=event.epoch, allocation=event.allocation),
        started_at_us=event.allocation.granted_at_us,
        ended_at_us=None,
    )
    state.jobs[job.job_id] = job
    state.hold_resources(job)


def _attempt_progress(
    job: Job,
    attempt: Attempt,
    event: TasksStarted | TaskFailed | TasksEnded | AttemptStopping | JobStalled | StallEnded | JobUnderused,
    at_us: int,
) -> Job:
    state = job.state
    match event:
        case TaskFailed():
            return job  # what follows from it is AttemptStopping
        case JobStalled():
            stall = Stall(
                global_rank=event.global_rank,
                node=event.node,
                noticed_at_us=at_us,
                evidence=event.evidence,
            )
            attempt = replace(attempt, stall=stall)
        case StallEnded():
            attempt = replace(attempt, stall=None)
        case JobUnderused():
            attempt = replace(attempt, underused=event.evidence)
        case AttemptStopping():
            attempt = replace(
                attempt,
                stop_reason=event.reason,
                stop_detail=event.detail,
                stop_by=event.by,
                exit_code=event.exit_code,
            )
            job = _blamed(job, event.node)
            if job.state is not JobState.COMPLETING:
                state = next_state(job.state, JobState.COMPLETING)
        case TasksStarted():
            started, running_at_us = attempt.nodes_started | {event.node}, attempt.running_at_us
            if job.state is JobState.CONFIGURING and started.issuperset(attempt.node_names):
                running_at_us, state = at_us, JobState.RUNNING
            attempt = replace(attempt, nodes_started=started, running_at_us=running_at_us)
        case TasksEnded():
            attempt = replace(attempt, nodes_ended=attempt.nodes_ended | {event.node})
            if event.cause in INFRASTRUCTURE_REASONS:
                job = _blamed(job, event.node)
            if attempt.nodes_ended.issuperset(attempt.node_names) and job.state is not JobState.COMPLETING:
                state = next_state(job.state, JobState.COMPLETING)
    return replace(job, attempt=attempt, state=state)


def _blamed(job: Job, node: NodeName | None) -> Job:
    if node is None or node in job.failed_on:
        return job
    return replace(job, failed_on=(*job.failed_on, node))


def _end_attempt(state: ClusterState, job: Job, event: AttemptEnded, at_us: int) -> None:
    assert job.attempt is not None
    state.free_resources(job)
    state.jobs[job.job_id] = replace(
        restarts.forgiven(job, at_us),
        attempt=replace(
            job.attempt,
            stop_reason=event.reason,
            stop_detail=event.detail,
            exit_code=event.exit_code,
        ),
        ended_at_us=at_us,
    )
