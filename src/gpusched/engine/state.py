"""The state of the cluster: everything unfinished, and what is held and free. ``fold.py`` writes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gpusched.domain.health import HealthRules
from gpusched.domain.history import History
from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.job import Job
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import JobState
from gpusched.domain.node import WHOLE_MILLI, Node
from gpusched.domain.partition import Partitions
from gpusched.domain.topology import Topology
from gpusched.engine.demand import Demand
from gpusched.engine.queue import PendingQueue
from gpusched.placement.placement import Counts, NodePlacement
from gpusched.placement.request import counters_of
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.plan import RunningEntry
from gpusched.policy.quota import Quotas

FIRST_JOB_ID = JobId(1)
MASTER_PORTS = range(23_000, 28_000)
"""Below Linux's ephemeral range (32768-60999), so that no outgoing connection takes one, and without
well-known servers."""


@dataclass(slots=True)
class ClusterState:
    """Everything unfinished. Only ``fold.apply`` writes it."""

    partitions: Partitions = field(default_factory=Partitions)
    topology: Topology = field(default_factory=Topology)
    quotas: Quotas = field(default_factory=Quotas)
    health_rules: HealthRules = field(default_factory=HealthRules)
    licenses: Counts = ()  # that the cluster has
    master_ports: range = MASTER_PORTS  # leased as MASTER_PORT
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
        master_ports: range = MASTER_PORTS,
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
            master_ports=master_ports,
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
