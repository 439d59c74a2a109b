"""The head's store under faults: the real one on SQLite, or a model that keeps the same contract."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Protocol

from simulation.options import Options

from gpusched.domain.commands import Queued
from gpusched.domain.errors import LogCorrupt, StoreUnavailable
from gpusched.domain.events import Recorded
from gpusched.domain.ids import JobId, NodeName, RequestId
from gpusched.domain.job import Job
from gpusched.domain.node import Node
from gpusched.engine.ports import Batch, Loaded, RequestRecord, Store
from gpusched.store.database import SqlStore, open_store
from gpusched.store.reader import Reader

LOG_MAX = 1_000_000


class Disk(Protocol):
    """What outlives heads."""

    def open(self) -> Store: ...

    def close(self) -> None:
        """What the kernel does when the process that had it open dies."""

    def log(self) -> tuple[Recorded, ...]: ...


class ModelStore:
    """Keeps what a database would, and refuses what it would refuse."""

    def __init__(self) -> None:
        self.jobs: dict[JobId, Job] = {}
        self.nodes: dict[NodeName, Node] = {}
        self.requests: dict[tuple[str, RequestId], RequestRecord] = {}
        self.outbox: dict[int, Queued] = {}
        self.events: list[Recorded] = []
        self.last_command_seq = 0
        self.next_job_id = JobId(1)

    def open(self) -> Store:
        return self

    def close(self) -> None:
        pass

    def log(self) -> tuple[Recorded, ...]:
        return tuple(self.events)

    def load(self) -> Loaded:
        return Loaded(
            jobs=tuple(job for _, job in sorted(self.jobs.items()) if not job.state.is_terminal),
            nodes=tuple(node for _, node in sorted(self.nodes.items())),
            outbox=tuple(queued for _, queued in sorted(self.outbox.items())),
            last_seq=len(self.events),
            last_command_seq=self.last_command_seq,
            next_job_id=self.next_job_id,
        )

    def commit(self, batch: Batch) -> None:
        self._refuse_contradictions(batch)
        self.events += batch.events
        self.jobs.update((job.job_id, job) for job in batch.jobs)
        self.nodes.update((node.name, node) for node in batch.nodes)
        self.requests.update(((r.subject, r.request_id), r) for r in batch.requests)
        self.outbox.update((queued.seq, queued) for queued in batch.queued)
        self.last_command_seq = max(self.last_command_seq, *(q.seq for q in batch.queued), 0)
        for seq in batch.acknowledged:
            self.outbox.pop(seq, None)
        self.next_job_id = batch.next_job_id

    def _refuse_contradictions(self, batch: Batch) -> None:
        for expected, recorded in enumerate(batch.events, len(self.events) + 1):
            if recorded.seq != expected:
                raise LogCorrupt(f"seq {recorded.seq} where {expected} is next")
        if any(queued.seq <= self.last_command_seq for queued in batch.queued):
            raise LogCorrupt("a command's seq was used before")
        if batch.next_job_id < self.next_job_id:
            raise LogCorrupt(f"next job id {batch.next_job_id} after {self.next_job_id}")
        if any((r.subject, r.request_id) in self.requests for r in batch.requests):
            raise LogCorrupt("a request was answered before")

    def find_requests(self, keys: Sequence[tuple[str, RequestId]]) -> tuple[RequestRecord, ...]:
        return tuple(self.requests[key] for key in dict.fromkeys(keys) if key in self.requests)


class SqliteDisk:
    """A SQLite file and the real store on it."""

    def __init__(self, path: Path) -> None:
        self._url = f"sqlite:///{path}"
        self._store: SqlStore | None = None

    def open(self) -> Store:
        self._store = open_store(self._url)
        return self._store

    def close(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def log(self) -> tuple[Recorded, ...]:
        with Reader(self._url) as reader:
            return reader.events(0, limit=LOG_MAX)


class FaultyStore:
    """Fails as the seed says, before or after it did what it was asked. Notes when each event was committed.

    Args:
        witness: Called with every committed event and the true time, in microseconds.
    """

    def __init__(
        self, inner: Store, random: Random, options: Options, witness: Callable[[Recorded, int], None]
    ) -> None:
        self._inner, self._random, self._options, self._witness = inner, random, options, witness
        self.is_down = False
        self.has_faults = True

    def load(self) -> Loaded:
        self._answer()
        return self._inner.load()

    def find_requests(self, keys: Sequence[tuple[str, RequestId]]) -> tuple[RequestRecord, ...]:
        self._answer()
        return self._inner.find_requests(keys)

    def commit(self, batch: Batch) -> None:
        self._answer()
        dice = self._random.random() if self.has_faults else 1.0
        if dice < self._options.commit_refused:
            raise StoreUnavailable("simulated: refused")
        self._inner.commit(batch)
        at_us = round(asyncio.get_running_loop().time() * 1e6)
        for recorded in batch.events:
            self._witness(recorded, at_us)
        if dice < self._options.commit_refused + self._options.commit_unknown:
            raise StoreUnavailable("simulated: the answer to the commit was lost")

    def _answer(self) -> None:
        if self.is_down:
            raise StoreUnavailable("simulated: no answer")
