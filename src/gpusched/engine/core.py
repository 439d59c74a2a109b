"""The engine: inputs step it, and what it wants written, answered and sent is a value.

It holds no connection and reads no clock. ``loop.Loop`` feeds it in the daemon, the
simulator feeds it in virtual time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from gpusched.domain.commands import LaunchTasks, Queued
from gpusched.domain.errors import Rejected, RequestIdReused
from gpusched.domain.events import Recorded
from gpusched.domain.health import HealthRules
from gpusched.domain.history import Mark
from gpusched.domain.identity import Principal
from gpusched.domain.ids import AttemptId, JobId, NodeName, RequestId
from gpusched.domain.job_state import PendingReason
from gpusched.domain.launch_plan import LaunchPlan
from gpusched.domain.partition import Partitions
from gpusched.domain.topology import Topology
from gpusched.engine.commit import commit_plan
from gpusched.engine.facts import forgotten, is_ahead, never_granted, take
from gpusched.engine.inputs import CommandAcknowledged, Fact, LeaseEnded, NodeConnected, Request
from gpusched.engine.lifecycle import PlanLaunch
from gpusched.engine.past import past_of
from gpusched.engine.ports import Batch, Loaded, RequestRecord
from gpusched.engine.requests import decide
from gpusched.engine.state import MASTER_PORTS, ClusterState
from gpusched.engine.transaction import Transaction
from gpusched.launch.plan import make_launch_plan
from gpusched.policy.backfill import make_plan
from gpusched.policy.memo import CycleMemo
from gpusched.policy.order import OrderSettings, arrange
from gpusched.policy.plan import QueueEntry
from gpusched.policy.quota import Quotas
from gpusched.policy.retry import retry_spec

Answer = tuple[JobId, ...] | Rejected


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the last cycle thought of the jobs that wait."""

    reasons: Mapping[JobId, PendingReason] = field(default_factory=dict)
    forecasts: Mapping[JobId, int] = field(default_factory=dict)  # earliest start, microseconds
    places: Mapping[JobId, int] | None = None  # in line; None where the queue itself is the order


@dataclass(frozen=True, slots=True)
class Tick:
    """The outcome of one step: commit ``batch``, *then* answer, publish and deliver."""

    batch: Batch
    answers: tuple[Answer, ...] = ()  # one per request, in order
    events: tuple[Recorded, ...] = ()
    commands: tuple[Queued, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """What an operator can set."""

    cluster: str = "gpusched"
    partitions: Partitions = field(default_factory=Partitions)
    topology: Topology = field(default_factory=Topology)
    health: HealthRules = field(default_factory=HealthRules)
    licenses: tuple[tuple[str, int], ...] = ()  # that the cluster has, by name
    master_ports: range = MASTER_PORTS  # leased as MASTER_PORT, each to one attempt on an address
    cycle_depth_max: int = 10_000  # pending jobs that one cycle looks at
    ordering: OrderSettings = field(default_factory=OrderSettings)
    quotas: Quotas = field(default_factory=Quotas)


class Engine:
    """The whole of the state, and the three ways to step it: ``handle``, ``cycle``, ``committed``."""

    def __init__(
        self,
        loaded: Loaded,
        settings: EngineSettings,
        *,
        plan_launch: Callable[..., LaunchPlan] = make_launch_plan,
    ) -> None:
        self.settings = settings
        self._plan_launch: PlanLaunch = partial(plan_launch, cluster=settings.cluster)
        self.state = ClusterState.of(
            settings.partitions,
            topology=settings.topology,
            quotas=settings.quotas,
            health_rules=settings.health,
            licenses=settings.licenses,
            master_ports=settings.master_ports,
            jobs=loaded.jobs,
            nodes=loaded.nodes,
            submitted=loaded.submitted,
            next_job_id=loaded.next_job_id,
            last_seq=loaded.last_seq,
        )
        self.state.history = loaded.history
        self.outlook = Outlook()
        self._outbox = {queued.seq: queued for queued in loaded.outbox}
        self._last_command_seq = loaded.last_command_seq
        self._memo = CycleMemo()
        self._past = past_of(settings.ordering, loaded.runs)
        self._cycled_at: tuple[int, int] | None = None

    @property
    def mark(self) -> Mark | None:
        """How far somebody has seen who has seen all that was recorded; None: the store keeps no terms."""
        return self.state.history.mark(self.state.last_seq, self.state.next_job_id)

    def handle(
        self,
        requests: Sequence[Request],
        facts: Sequence[Fact],
        answered: Mapping[tuple[str, RequestId], RequestRecord],
        now_us: int,
    ) -> Tick:
        """Take facts, then decide requests, in the order given.

        Args:
            requests: Each gets one answer.
            facts: May repeat what is known.
            answered: Earlier answers to requests with the same subject and id.
            now_us: Wall clock, for the stamps of what is recorded.
        """
        tx = self._transaction(now_us)
        for fact in facts:
            if not self._is_foreign(fact):
                take(tx, fact, self._launches_for(fact))
        fresh = dict(answered)
        answers = tuple(self._answer(tx, request, fresh) for request in requests)
        if self._past is not None:
            for run in tx.runs:
                self._past.note(run)
        return Tick(tx.batch(), answers, tx.events, tx.commands)

    def cycle(self, now_us: int) -> Tick | None:
        """Start what can start; None if nothing changed since the last cycle."""
        state = self.state
        if self._cycled_at == (state.generation, state.queue_version) or state.is_suspended:
            return None
        tx = self._transaction(now_us)
        depth = self.settings.cycle_depth_max
        queue = self._queue(depth, now_us)
        plan = make_plan(
            state.snapshot,
            [self._retried(entry) for entry in queue],
            tuple(state.running.values()),
            now_us,
            depth_max=depth,
            memo=self._memo,
            gate=state.quotas.gate(state.jobs[job_id].spec for job_id in state.running),
        )
        commit_plan(tx, plan)
        places = None if self._past is None else {e.job_id: place for place, e in enumerate(queue)}
        self.outlook = Outlook(plan.reasons, plan.forecasts, places)
        self._cycled_at = (state.generation, state.queue_version)
        return Tick(tx.batch(), (), tx.events, tx.commands)

    def _queue(self, depth: int, now_us: int) -> list[QueueEntry]:
        """The first in line, in the order that the operator chose."""
        state = self.state
        if self._past is None:
            return state.queue.head(depth)
        jobs = [state.jobs[entry.job_id] for entry in state.queue]
        running = [state.jobs[job_id] for job_id in state.running]
        rank = self._past.ranks(jobs, running, now_us)
        ordered = arrange(jobs, rank, now_us, self.settings.ordering.ageing_s)
        return [state.queue.entry(job.job_id) for job in ordered[:depth]]

    def ahead_of(self, job_id: JobId) -> int | None:
        """How many jobs go before this one; None if it is not in line, or no cycle has looked at it yet."""
        if self.outlook.places is None:
            return self.state.queue.ahead_of(job_id)
        return self.outlook.places.get(job_id)

    def _retried(self, entry: QueueEntry) -> QueueEntry:
        if not entry.failed_on:
            return entry
        return replace(entry, spec=retry_spec(self.state.snapshot, entry.spec, entry.failed_on))

    def committed(self, tick: Tick) -> None:
        """The tick's batch is durable: its commands are now in the outbox, its acks out of it."""
        self._last_command_seq = max(self._last_command_seq, *(q.seq for q in tick.commands), 0)
        self._outbox.update((queued.seq, queued) for queued in tick.commands)
        for seq in tick.batch.acknowledged:
            self._outbox.pop(seq, None)

    def outbox_of(self, node: NodeName) -> tuple[Queued, ...]:
        """Commands that a node has not acknowledged, oldest first: sent again when it connects."""
        return tuple(q for _, q in sorted(self._outbox.items()) if q.command.node == node)

    def forgotten_by(self, hello: NodeConnected) -> tuple[AttemptId, ...]:
        """The attempts that were launched on a node and that its agent does not know."""
        known = frozenset((*hello.attempts, *self._launches_for(hello)))
        unknown = forgotten(self.state, hello.facts.name, known)
        return () if unknown and is_ahead(self.state, hello) else unknown  # or is it we who have forgotten?

    def never_granted(self, hello: NodeConnected) -> tuple[AttemptId, ...]:
        """The attempts that a node says it holds, and whose turn has not come by a log that it knows."""
        return never_granted(self.state, hello)

    def repeatable(self, fact: Fact) -> Fact:
        """The fact as it may be taken again after a commit of unknown fate.

        A hello then names the launches under way as well: its node may have taken them since, and
        their acknowledgements may be among what was written.
        """
        if not isinstance(fact, NodeConnected):
            return fact
        return replace(fact, attempts=tuple(sorted({*fact.attempts, *self._launches_for(fact)})))

    def _transaction(self, now_us: int) -> Transaction:
        return Transaction(self.state, now_us, self._plan_launch, self._last_command_seq)

    def _is_foreign(self, fact: Fact) -> bool:
        """An acknowledgement of a command that was another node's."""
        if not isinstance(fact, CommandAcknowledged):
            return False
        queued = self._outbox.get(fact.command_seq)
        return queued is not None and queued.command.node != fact.node

    def _launches_for(self, fact: Fact) -> dict[AttemptId, int]:
        match fact:
            case NodeConnected():
                node = fact.facts.name
            case LeaseEnded():
                node = fact.node
            case _:
                return {}
        return {
            AttemptId(q.command.job_id, q.command.epoch): q.seq
            for q in self.outbox_of(node)
            if isinstance(q.command, LaunchTasks)
        }

    def _answer(
        self,
        tx: Transaction,
        request: Request,
        answered: dict[tuple[str, RequestId], RequestRecord],
    ) -> Answer:
        subject, digest = subject_of(request.who), digest_of(request)
        earlier = answered.get((subject, request.request_id))
        if earlier is not None:
            if earlier.digest != digest:
                return RequestIdReused(
                    f"request id {request.request_id!r} was used for another request: use a new id"
                )
            return earlier.job_ids
        try:
            job_ids = decide(tx, request)
        except Rejected as refusal:
            return refusal
        record = RequestRecord(
            request_id=request.request_id,
            subject=subject,
            digest=digest,
            job_ids=job_ids,
            answered_at_us=tx.now_us,
        )
        answered[subject, request.request_id] = record
        tx.answer(record)
        return job_ids


def subject_of(who: Principal) -> str:
    """The name under which a principal's request ids are kept apart from others'."""
    return f"uid:{who.identity.uid}"


def digest_of(request: Request) -> bytes:
    """A fingerprint of what a request asks for; who asks and the request id are not in it."""
    body = [(name, getattr(request, name)) for name in request.__slots__ if name not in ("who", "request_id")]
    return hashlib.sha256(f"{type(request).__name__}{body!r}".encode()).digest()


def is_urgent(fact: Fact) -> bool:
    """Whether a fact should start a tick at once; an acknowledgement can wait for the next one."""
    return not isinstance(fact, CommandAcknowledged)
