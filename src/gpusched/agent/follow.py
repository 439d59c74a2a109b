"""Follows every attempt from its shim's start to its end, and after a restart from where it stands.

What is reported is always derived from a record, so it can be reported again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from gpusched.agent.attempt_dir import read_order, read_record
from gpusched.agent.errands import Errands
from gpusched.agent.facts_of_attempt import task_failed, tasks_ended, tasks_started
from gpusched.agent.held import Held, HeldAttempts
from gpusched.agent.logs import last_lines
from gpusched.agent.shim.containment import Cgroup, kill_leftovers
from gpusched.agent.shim.notes import remove_notes
from gpusched.agent.shim.order import Order
from gpusched.agent.shim.proc import boot_id, is_same_process
from gpusched.agent.shim.record import Phase, Record, RecordFile, remove_reserve
from gpusched.agent.watch import ShimWatch
from gpusched.agent.zygote import Zygote
from gpusched.domain.errors import LogCorrupt, NodeUnavailable
from gpusched.domain.events import AgentReport, TaskFailed, TasksEnded, TasksStarted
from gpusched.domain.ids import AttemptId, NodeName
from gpusched.domain.job_state import EndReason
from gpusched.domain.telemetry import DeviceUse

SWEEP_PAUSE_S = 0.02
LAST_LINES_MAX = 20
DISK_RETRY_S = 1.0

log = logging.getLogger(__name__)


class Follower:
    """Starts shims, hears what they write down and when they are gone, and reports it.

    Args:
        home: The agent's folder.
        node: This node's name.
        attempts: Those that are here.
        zygote: Forks the shims.
        errands: Runs what follows from a shim's end.
        measure: What an attempt's devices did; asked once it has ended.
    """

    def __init__(
        self,
        home: Path,
        node: NodeName,
        *,
        attempts: HeldAttempts,
        zygote: Zygote,
        errands: Errands,
        measure: Callable[[AttemptId], tuple[DeviceUse, ...]] | None,
    ) -> None:
        self.reports: asyncio.Queue[AgentReport] = asyncio.Queue()
        """Facts, of each attempt in order. After a restart the unacknowledged ones come again."""
        self._node = node
        self._attempts = attempts
        self._zygote = zygote
        self._errands = errands
        self._measure = measure
        self._boot_id = boot_id()
        self._watch = ShimWatch(home / "wake", on_change=self._changed, on_exit=self._exited)

    def open(self) -> None:
        """Begin to listen to the shims.

        Raises:
            OSError: The home cannot be used.
        """
        self._watch.open()

    def close(self) -> None:
        """Listen no more; the shims do not notice."""
        self._watch.close()

    def wake(self, attempt_id: AttemptId) -> None:
        """Make a shim look at its stop order, if there is a shim."""
        self._watch.wake(attempt_id)

    async def adopt(self, held: Held) -> bool:
        """Go on with an attempt of an earlier runner from where it stands; whether it has still to begin."""
        order = None
        try:
            order = read_order(held.files)
            record = read_record(held.files)
        except LogCorrupt as error:
            log.error("attempt %s: %s", held.attempt_id, error)
            if order is not None and order.boot_id == self._boot_id:
                await self._sweep(order, None)  # what cannot be followed may not live
            held.files.record.unlink(missing_ok=True)
            await self.end(held, EndReason.NODE_FAIL, str(error))
            return False
        if record is not None and record.phase is Phase.ENDED:
            self._observe(held)
        elif order is None:
            self._attempts.let_go(held)  # half made: the order was never acknowledged, and comes again
        elif order.boot_id != self._boot_id:
            await self.end(held, EndReason.NODE_FAIL, f"node {self._node} rebooted")
        elif record is None:
            return True
        else:
            self._observe(held)
            self._follow(held, record)
            self._watch.wake(held.attempt_id)  # a stop order may have been written and not told
        return False

    async def start(self, held: Held) -> None:
        """Start the shim of an attempt whose order is written, and follow it."""
        try:
            pid = await self._zygote.fork_shim(held.files.path)
        except NodeUnavailable as error:
            await self.end(held, EndReason.LAUNCH_FAILED, str(error))
            return
        if not self._watch.watch(held.attempt_id, pid):
            self._exited(held.attempt_id)

    async def end(self, held: Held, cause: EndReason | None, detail: str) -> None:
        """Write the last record in place of a shim that never was or is no more."""
        while True:
            record = read_record(held.files)
            if record is not None and record.phase is Phase.ENDED:
                break
            if record is not None and self._is_supervised(record):  # a zygote that died may have forked two
                self._observe(held)
                self._follow(held, record)
                return
            try:
                if self._write_end(held, record, cause, detail):
                    break
            except OSError as error:  # a full disk: the attempt is held until this can be written
                if not held.files.path.exists():
                    self._tell_end(held, self._ended(None, cause, detail))
                    return
                log.error("attempt %s: its end cannot be written: %s", held.attempt_id, error)
                await asyncio.sleep(DISK_RETRY_S)
        remove_reserve(held.files.path)
        self._observe(held)

    def _observe(self, held: Held) -> None:
        """Report whatever the record says and has not been reported."""
        record = read_record(held.files)
        if record is None:
            return
        id_, node = held.attempt_id, self._node
        if TasksStarted not in held.reported:
            self._report(held, tasks_started(id_, node, record))
        if TaskFailed not in held.reported and record.failed_rank is not None:
            words = last_lines(held.files, record.failed_rank, LAST_LINES_MAX)
            self._report(held, task_failed(id_, node, record, words))
        if TasksEnded not in held.reported and record.phase is Phase.ENDED:
            self._tell_end(held, record)

    def _tell_end(self, held: Held, record: Record) -> None:
        devices = () if self._measure is None else self._measure(held.attempt_id)
        held.ended.set()
        self._report(held, tasks_ended(held.attempt_id, self._node, record, devices))

    def _report(self, held: Held, fact: AgentReport | None) -> None:
        if fact is None:
            return
        held.reported.add(type(fact))
        self.reports.put_nowait(fact)

    def _follow(self, held: Held, record: Record) -> None:
        pid, start_ticks = record.shim_pid, record.shim_start_ticks
        if pid is None or not self._watch.watch(held.attempt_id, pid, start_ticks):
            self._exited(held.attempt_id)

    def _changed(self, attempt_id: AttemptId) -> None:
        held = self._attempts.find(attempt_id)
        if held is not None and not held.ended.is_set():
            self._observe(held)

    def _exited(self, attempt_id: AttemptId) -> None:
        held = self._attempts.find(attempt_id)
        if held is not None and not held.ended.is_set():
            self._errands.begin(self._after_exit(held))

    async def _after_exit(self, held: Held) -> None:
        """A shim is gone: it was done, or another has the attempt, or it was lost."""
        record = read_record(held.files)
        if record is not None and record.phase is Phase.ENDED:
            self._observe(held)
            return
        if record is not None and self._is_supervised(record):
            self._follow(held, record)
            return
        order = read_order(held.files)
        if order is None:
            why = f"the folder of attempt {held.attempt_id} on node {self._node} was removed"
            await self.end(held, EndReason.SHIM_LOST, why)
            return
        await self._sweep(order, record)
        why = f"the supervisor of attempt {held.attempt_id} on node {self._node} died; its ranks were killed"
        await self.end(held, EndReason.SHIM_LOST, why)

    async def _sweep(self, order: Order, record: Record | None) -> None:
        """Kill whatever lives of an attempt that has no shim."""
        cgroup = (
            None if order.cgroup_parent is None else Cgroup(Path(order.cgroup_parent) / order.cgroup_name)
        )
        sweep = partial(kill_leftovers, () if record is None else record.ranks, order.token, cgroup)
        while await asyncio.to_thread(sweep):  # noqa: ASYNC110 (the processes of a dead parent tell nobody)
            await asyncio.sleep(SWEEP_PAUSE_S)
        if cgroup is not None:
            cgroup.remove()
        await asyncio.to_thread(remove_notes, order.notes)

    def _is_supervised(self, record: Record) -> bool:
        """Whether the shim that wrote it lives."""
        pid, start_ticks = record.shim_pid, record.shim_start_ticks
        return record.boot_id == self._boot_id and pid is not None and is_same_process(pid, start_ticks or 0)

    def _write_end(self, held: Held, record: Record | None, cause: EndReason | None, detail: str) -> bool:
        file, ended = RecordFile(held.files), self._ended(record, cause, detail)
        if record is None:
            return file.claim(ended)
        file.save(ended)
        return True

    def _ended(self, record: Record | None, cause: EndReason | None, detail: str) -> Record:
        now_us = time.time_ns() // 1000
        ended = replace(
            record or Record(phase=Phase.STARTING, boot_id=self._boot_id),
            phase=Phase.ENDED,
            cause=cause,
            detail=detail,
            ended_at_us=now_us,
        )
        if record is not None and record.started_at_us is not None and record.boot_id == self._boot_id:
            return replace(ended, wall_s=max((now_us - record.started_at_us) / 1e6, record.wall_s))
        return ended
