"""What the engine needs from the world, as protocols. Floors above provide them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from gpusched.domain.commands import Queued
from gpusched.domain.events import Recorded
from gpusched.domain.history import History
from gpusched.domain.ids import JobId, RequestId
from gpusched.domain.job import Job
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import Node
from gpusched.engine.past import PastRun


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRecord:
    """A mutation that was answered: a retry with the same id gets the same answer."""

    request_id: RequestId
    subject: str  # "uid:1000": one subject's ids never meet another's
    digest: bytes  # of the body; another body under the same id is refused
    job_ids: tuple[JobId, ...]
    answered_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Everything one tick writes, in one transaction: all of it or nothing."""

    events: tuple[Recorded, ...] = ()
    jobs: tuple[Job, ...] = ()  # projections of every job an event is about
    nodes: tuple[Node, ...] = ()
    requests: tuple[RequestRecord, ...] = ()
    queued: tuple[Queued, ...] = ()  # new outbox rows
    acknowledged: tuple[int, ...] = ()  # outbox rows to delete, by seq
    next_job_id: JobId  # handed out next; grows only

    @property
    def is_empty(self) -> bool:
        """Nothing to write."""
        return not (self.events or self.requests or self.queued or self.acknowledged)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What a starting head reads: projections of everything unfinished."""

    jobs: tuple[Job, ...]  # every job that is not terminal
    nodes: tuple[Node, ...]
    outbox: tuple[Queued, ...]
    last_seq: int
    last_command_seq: int
    next_job_id: JobId
    submitted: tuple[tuple[JobId, JobSpec], ...] = ()  # the last ``demand.RECENT``, oldest first
    runs: tuple[PastRun, ...] = ()  # the last ``past.RUNS_KEPT`` attempts that ended, oldest first
    history: History = field(default_factory=History)
    node_lease_us: int = 0  # the longest that any head gave its nodes; 0: nobody knows


class Store(Protocol):
    """Durable state. One writer. Blocking: the loop calls it in a thread.

    Every method raises ``StoreUnavailable`` when the database does not answer or refuses.
    """

    def load(self) -> Loaded:
        """Read what a starting engine needs."""
        ...

    def commit(self, batch: Batch) -> None:
        """Write a batch in one transaction; on return it survives a crash of anything."""
        ...

    def find_requests(self, keys: Sequence[tuple[str, RequestId]]) -> tuple[RequestRecord, ...]:
        """Earlier answers to requests of these subjects and ids; those never answered are left out."""
        ...


class CommandSink(Protocol):
    """Where committed commands go. Delivery is at least once: the loop repeats until acknowledged."""

    def deliver(self, queued: Queued) -> bool:
        """Hand a command to its node's channel; False if the node is not connected now."""
        ...


class EventFeed(Protocol):
    """Hears of every committed event, in order (watchers, telemetry)."""

    def publish(self, events: Sequence[Recorded]) -> None:
        """Must not block."""
        ...
