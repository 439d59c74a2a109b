"""The attempts that have a folder on this node, and what of each the head has acknowledged."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gpusched.agent.archive import Archive, Retention
from gpusched.agent.attempt_dir import attempt_dir, attempts_folder, parse_attempt_id, read_order
from gpusched.agent.errands import Errands
from gpusched.agent.shim.files import AttemptDir
from gpusched.domain.events import AgentReport, TasksEnded, TasksStarted
from gpusched.domain.ids import AttemptId, DeviceUuid, Epoch, JobId


@dataclass(slots=True)
class Held:
    """An attempt that has a folder here, and the kinds of facts about it that were reported."""

    attempt_id: AttemptId
    files: AttemptDir
    reported: set[type[AgentReport]] = field(default_factory=set)
    accepting: asyncio.Task[None] | None = None
    dumping: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_acknowledged: bool = False


class HeldAttempts:
    """Knows every attempt here, from its order until its folder is removed.

    Args:
        home: The agent's folder.
        retention: What is kept of the past.
        errands: Runs the removal of what has expired.
    """

    def __init__(self, home: Path, retention: Retention, errands: Errands) -> None:
        self._home = home
        self._errands = errands
        self._archive = Archive(home, retention)
        self._held: dict[AttemptId, Held] = {}
        self._of_job: dict[JobId, dict[Epoch, Held]] = {}

    def find_again(self) -> Iterator[Held]:
        """Hold what an earlier runner left, one after another; yield those whose end is not acknowledged.

        Raises:
            OSError: The home cannot be read.
        """
        acknowledged: list[tuple[float, AttemptId]] = []
        for path in sorted(attempts_folder(self._home).iterdir()):
            attempt_id = parse_attempt_id(path.name)
            if attempt_id is None or attempt_id.epoch <= self._archive.highest_removed(attempt_id.job_id):
                continue
            held = self.hold(attempt_id)
            if held.files.acknowledged.exists():
                held.is_acknowledged = True
                held.ended.set()
                acknowledged.append((held.files.acknowledged.stat().st_mtime, attempt_id))
            else:
                yield held
        for since_s, attempt_id in sorted(acknowledged):
            self._archive.add(attempt_id, since_s)

    def find(self, attempt_id: AttemptId) -> Held | None:
        """What is known of an attempt; None if nothing is (any more)."""
        return self._held.get(attempt_id)

    def hold(self, attempt_id: AttemptId) -> Held:
        """Begin to know an attempt."""
        held = Held(attempt_id, attempt_dir(self._home, attempt_id))
        self._held[attempt_id] = held
        self._of_job.setdefault(attempt_id.job_id, {})[attempt_id.epoch] = held
        return held

    def let_go(self, held: Held) -> None:
        """Know an attempt no more."""
        attempt_id = held.attempt_id
        del self._held[attempt_id]
        epochs = self._of_job[attempt_id.job_id]
        del epochs[attempt_id.epoch]
        if not epochs:
            del self._of_job[attempt_id.job_id]

    def newest_epoch(self, job_id: JobId) -> Epoch:
        """The newest attempt of a job that was ever held here; 0 if none was."""
        return max(self._archive.highest_removed(job_id), max(self._of_job.get(job_id, ()), default=Epoch(0)))

    def older_than(self, attempt_id: AttemptId) -> Held | None:
        """The attempt of the same job that is held and came last before this one; None if there is none."""
        epochs = self._of_job.get(attempt_id.job_id, {})
        before = max((epoch for epoch in epochs if epoch < attempt_id.epoch), default=None)
        return None if before is None else epochs[before]

    def acknowledge(self, fact: AgentReport) -> None:
        """Report ``fact`` no more; after the last one of an attempt its folder is kept as the past.

        Raises:
            OSError: This could not be noted, so it will be.
        """
        held = self._held.get(AttemptId(fact.job_id, fact.epoch))
        if held is None or held.is_acknowledged:
            return
        if isinstance(fact, TasksEnded):
            if not held.files.path.exists():  # somebody removed it: nothing is left to keep
                self.let_go(held)
                return
            held.files.acknowledged.touch(mode=0o600)
            held.is_acknowledged = True
            held.reported.clear()
            self._archive.add(held.attempt_id, time.time())
            self._remove_expired()

    def unsettled(self) -> tuple[AttemptId, ...]:
        """Every attempt that runs here, or whose end the head has not acknowledged."""
        return tuple(sorted(id_ for id_, held in self._held.items() if not held.is_acknowledged))

    def devices_in_use(self) -> frozenset[DeviceUuid]:
        """Devices of attempts that have not ended here."""
        orders = (read_order(held.files) for held in self._held.values() if not held.ended.is_set())
        return frozenset(uuid for order in orders if order is not None for uuid in order.launch.devices)

    def running(self) -> tuple[AttemptDir, ...]:
        """The folders of all attempts whose ranks run, as far as is known."""
        return tuple(
            held.files
            for held in self._held.values()
            if TasksStarted in held.reported and not held.ended.is_set()
        )

    def _remove_expired(self) -> None:
        expired = self._archive.expired()
        if expired:
            self._errands.begin(self._remove(expired))

    async def _remove(self, expired: tuple[AttemptId, ...]) -> None:
        await asyncio.to_thread(self._archive.remove, expired)
        for attempt_id in expired:
            self.let_go(self._held[attempt_id])
