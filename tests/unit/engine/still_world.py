"""A loop's surroundings in which nothing happens by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gpusched.domain.commands import Queued
from gpusched.domain.events import Recorded
from gpusched.domain.ids import JobId
from gpusched.engine.ports import Batch, Loaded, RequestRecord


class SetClock:
    """Stands still between the readings; each reading of the wall clock takes ``step_us``."""

    def __init__(self) -> None:
        self.at_us, self.step_us = 1_000_000, 0

    def now_us(self) -> int:
        self.at_us += self.step_us
        return self.at_us

    def monotonic_us(self) -> int:
        return self.at_us


class World:
    """Store, sink and feed that keep nothing but how many jobs each transaction held."""

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.committed: list[int] = []

    def load(self) -> Loaded:
        return Loaded(jobs=(), nodes=(), outbox=(), last_seq=0, last_command_seq=0, next_job_id=JobId(1))

    def commit(self, batch: Batch) -> None:
        self.committed.append(len(batch.jobs))

    def find_requests(self, keys: object) -> tuple[RequestRecord, ...]:
        return ()

    def deliver(self, queued: Queued) -> bool:
        return True

    def publish(self, events: Sequence[Recorded]) -> None:
        self.changed.set()
