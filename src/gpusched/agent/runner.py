"""Runs attempts on this node: carries out the head's orders and reports what became of them.

Everything that must survive the agent is in the attempts' folders; the shims do the work. The
runner starts them, wakes them, notices what they write down, and after its own death finds them
again. What it reports is always derived from a record, so it can be reported again.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from gpusched.agent.archive import Archive, Retention
from gpusched.agent.attempt_dir import (
    FOLDER_MODE,
    attempt_dir,
    attempts_folder,
    parse_attempt_id,
    read_order,
    read_record,
    write_order,
    write_stop_order,
)
from gpusched.agent.facts_of_attempt import task_failed, tasks_ended, tasks_started
from gpusched.agent.logs import last_lines, read_logs
from gpusched.agent.shim.containment import Cgroup, kill_leftovers
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.lease import Lease
from gpusched.agent.shim.notes import remove_notes
from gpusched.agent.shim.order import Callback, LeaseTerm, Order, StopOrder
from gpusched.agent.shim.proc import boot_id, is_same_process
from gpusched.agent.shim.record import Phase, Record, RecordFile, remove_reserve
from gpusched.agent.stacks import write_stacks
from gpusched.agent.watch import ShimWatch
from gpusched.agent.zygote import Zygote
from gpusched.domain.errors import LogCorrupt, NodeUnavailable
from gpusched.domain.events import AgentReport, TaskFailed, TasksEnded, TasksStarted
from gpusched.domain.ids import AttemptId, DeviceUuid, Epoch, JobId, NodeName
from gpusched.domain.job_spec import OnDisconnect
from gpusched.domain.job_state import EndReason
from gpusched.domain.launch_plan import NodeLaunch
from gpusched.domain.logs import LogChunk, LogQuery
from gpusched.domain.telemetry import DeviceUse

LAST_LINES_MAX = 20
SWEEP_PAUSE_S = 0.02
DISK_RETRY_S = 1.0
STACKS_LIMIT_S = 20.0  # how long a stop waits for them

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Held:
    """An attempt that has a folder here. ``facts`` were reported, ``open_facts`` not yet acknowledged."""

    attempt_id: AttemptId
    files: AttemptDir
    facts: dict[type[AgentReport], AgentReport] = field(default_factory=dict)
    open_facts: dict[type[AgentReport], AgentReport] = field(default_factory=dict)
    accepting: asyncio.Task[None] | None = None
    dumping: asyncio.Task[None] | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    is_acknowledged: bool = False


class Runner:
    """The attempts of one node. Use it from one event loop; one runner per ``home`` at a time.

    Args:
        home: The agent's folder, on a local disk.
        node: This node's name.
        cgroup_parent: Where attempts get their control groups (``containment.own_cgroup()``); None
            does without and relies on the shim being their subreaper.
        measure: What an attempt's devices did; asked once it has ended.
        retention: What is kept of the past.
        callback: How an attempt's ranks reach the head; None: they are not told.
    """

    def __init__(
        self,
        home: Path,
        node: NodeName,
        *,
        cgroup_parent: Path | None = None,
        measure: Callable[[AttemptId], tuple[DeviceUse, ...]] | None = None,
        retention: Retention | None = None,
        callback: Callable[[AttemptId], Callback] | None = None,
    ) -> None:
        self.reports: asyncio.Queue[AgentReport] = asyncio.Queue()
        """Facts, of each attempt in order. After a restart the unacknowledged ones come again."""
        home.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        attempts_folder(home).mkdir(mode=FOLDER_MODE, exist_ok=True)
        self._home = home
        self._node = node
        self._cgroup_parent = cgroup_parent
        self._measure, self._callback = measure, callback
        self._boot_id = boot_id()
        self.lease = Lease(home / f"lease-{self._boot_id}")
        """The session renews it; without one, nothing that is fenced is started."""
        self._archive = Archive(home, retention or Retention())
        self._held: dict[AttemptId, _Held] = {}
        self._newest: dict[JobId, Epoch] = {}  # of those held
        self._tasks: set[asyncio.Task[None]] = set()
        self._zygote = Zygote(home / "shims.log")
        self._watch = ShimWatch(home / "wake", on_change=self._changed, on_exit=self._exited)

    async def start(self) -> None:
        """Take on again whatever an earlier runner left: running, ended, or ordered and not begun.

        Raises:
            OSError: The home cannot be used.
        """
        self._watch.open()
        acknowledged: list[tuple[float, AttemptId]] = []
        for path in sorted(attempts_folder(self._home).iterdir()):
            attempt_id = parse_attempt_id(path.name)
            if attempt_id is None or attempt_id.epoch <= self._archive.highest_removed(attempt_id.job_id):
                continue
            held = self._hold(attempt_id)
            if held.files.acknowledged.exists():
                held.is_acknowledged = True
                held.ended.set()
                acknowledged.append((held.files.acknowledged.stat().st_mtime, attempt_id))
            else:
                await self._adopt(held)
        for since_s, attempt_id in sorted(acknowledged):
            self._archive.add(attempt_id, since_s)

    async def close(self) -> None:
        """Let go of everything; the attempts run on."""
        self._watch.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._zygote.close()
        self.lease.close()

    # ── orders ───────────────────────────────────────────────────────────────────────────

    async def launch(self, launch: NodeLaunch) -> None:
        """Start the ranks, once. When it returns, the order is durable and need not be repeated.

        An attempt that is known already is left alone, and one whose epoch has passed is ignored:
        the head has given that attempt up, or stopped it before it came here.

        Raises:
            NodeUnavailable: The order could not be made durable, or it is fenced and there is no lease;
                nothing was started.
        """
        attempt_id = AttemptId(launch.job_id, launch.epoch)
        held = self._held.get(attempt_id)
        if held is None:
            newest = self._newest_epoch(launch.job_id)
            if launch.epoch <= newest:
                log.warning("attempt %s is not launched: epoch %d is known here", attempt_id, newest)
                return
            lease = self._lease_for(launch)
            held = self._hold(attempt_id)
            older = self._held.get(AttemptId(launch.job_id, newest))
            held.accepting = self._supervise(self._accept(held, older, launch, lease))
        if held.accepting is not None:
            await asyncio.shield(held.accepting)

    async def stop(self, job_id: JobId, epoch: Epoch, kill_wait_s: int, reason: str) -> None:
        """End the ranks: SIGTERM, ``kill_wait_s``, SIGKILL. ``TasksEnded`` follows in every case.

        An attempt that never came here is refused from now on, also after a restart.

        Raises:
            NodeUnavailable: The order could not be made durable.
        """
        attempt_id = AttemptId(job_id, epoch)
        held = self._held.get(attempt_id)
        try:
            if held is not None:
                await self._stop_held(held, StopOrder(kill_wait_s=kill_wait_s, reason=reason))
            elif epoch > self._newest_epoch(job_id):
                await self._refuse_for_good(
                    self._hold(attempt_id), None, f"stopped before it was launched: {reason}"
                )
            else:
                over = Record(phase=Phase.ENDED, boot_id=self._boot_id, detail="it is over on this node")
                self.reports.put_nowait(tasks_ended(attempt_id, self._node, over, ()))
        except OSError as error:
            raise NodeUnavailable(
                f"{self._home} cannot be written: {error.strerror}; free some space"
            ) from error

    async def dump_stacks(self, attempt_id: AttemptId) -> None:
        """Keep what the attempt's ranks are doing (``stacks.write_stacks``); nothing if none run here."""
        held = self._held.get(attempt_id)
        if held is None or held.ended.is_set():
            return
        if held.dumping is None or held.dumping.done():
            held.dumping = self._supervise(write_stacks(held.files))
        await asyncio.shield(held.dumping)

    async def refuse(self, attempt_id: AttemptId, cause: EndReason, detail: str) -> None:
        """End an attempt that must not be launched here; one that is known or out of date stays as it is.

        Raises:
            NodeUnavailable: That could not be made durable.
        """
        if attempt_id in self._held or attempt_id.epoch <= self._newest_epoch(attempt_id.job_id):
            return
        try:
            await self._refuse_for_good(self._hold(attempt_id), cause, detail)
        except OSError as error:
            raise NodeUnavailable(
                f"{self._home} cannot be written: {error.strerror}; free some space"
            ) from error

    def acknowledge(self, fact: AgentReport) -> None:
        """The head has committed ``fact``; it will not be reported again.

        Raises:
            OSError: This could not be noted, so it will be.
        """
        held = self._held.get(AttemptId(fact.job_id, fact.epoch))
        if held is None or held.is_acknowledged:
            return
        held.open_facts.pop(type(fact), None)
        if isinstance(fact, TasksEnded):
            held.files.acknowledged.touch(mode=0o600)
            held.is_acknowledged = True
            held.facts.clear()
            held.open_facts.clear()
            self._archive.add(held.attempt_id, time.time())
            self._remove_expired()

    def held_attempts(self) -> tuple[AttemptId, ...]:
        """Every attempt that runs here, or whose end the head has not acknowledged."""
        return tuple(sorted(id_ for id_, held in self._held.items() if not held.is_acknowledged))

    def devices_in_use(self) -> frozenset[DeviceUuid]:
        """Devices of attempts that have not ended here."""
        orders = (read_order(held.files) for held in self._held.values() if not held.ended.is_set())
        return frozenset(uuid for order in orders if order is not None for uuid in order.launch.devices)

    def unacknowledged(self) -> tuple[AgentReport, ...]:
        """Every fact reported and not acknowledged, of each attempt in order: repeat them to a new head."""
        return tuple(fact for held in self._held.values() for fact in held.open_facts.values())

    def running(self) -> tuple[AttemptDir, ...]:
        """The folders of all attempts whose ranks run, as far as is known."""
        return tuple(
            held.files
            for held in self._held.values()
            if TasksStarted in held.facts and not held.ended.is_set()
        )

    def read_logs(self, query: LogQuery) -> AsyncIterator[LogChunk]:
        """The output of an attempt's ranks on this node (``logs.read_logs``)."""
        return read_logs(self._home, self._node, query)

    # ── carrying out ─────────────────────────────────────────────────────────────────────

    def _hold(self, attempt_id: AttemptId) -> _Held:
        held = _Held(attempt_id, attempt_dir(self._home, attempt_id))
        self._held[attempt_id] = held
        self._newest[attempt_id.job_id] = max(attempt_id.epoch, self._newest.get(attempt_id.job_id, Epoch(0)))
        return held

    def _let_go(self, held: _Held) -> None:
        del self._held[held.attempt_id]
        job_id = held.attempt_id.job_id
        if self._newest[job_id] == held.attempt_id.epoch:
            del self._newest[job_id]

    def _newest_epoch(self, job_id: JobId) -> Epoch:
        return max(self._newest.get(job_id, Epoch(0)), self._archive.highest_removed(job_id))

    def _lease_for(self, launch: NodeLaunch) -> LeaseTerm | None:
        if launch.on_disconnect is OnDisconnect.KEEP_RUNNING:
            return None
        term = self.lease.term
        if term is None:
            raise NodeUnavailable(
                f"attempt {launch.job_id}.{launch.epoch} is not started: the lease of {self._node} has run "
                "out, so the head may have given the job to another node"
            )
        return LeaseTerm(str(self.lease.path), term)

    async def _accept(
        self, held: _Held, older: _Held | None, launch: NodeLaunch, lease: LeaseTerm | None
    ) -> None:
        parent = self._cgroup_parent
        order = Order(
            boot_id=self._boot_id,
            token=secrets.token_hex(16),
            cgroup_parent=None if parent is None else str(parent),
            launch=launch,
            lease=lease,
            callback=None if self._callback is None else self._callback(held.attempt_id),
        )
        try:
            await asyncio.to_thread(write_order, held.files, order)
        except OSError as error:
            self._let_go(held)
            raise NodeUnavailable(f"{held.files.path} cannot be written: {error.strerror}") from error
        if older is not None and not older.ended.is_set():  # at most one attempt of a job lives
            await self._end_older(older, f"attempt {held.attempt_id} begins")
        await self._start_shim(held)
        held.accepting = None

    async def _end_older(self, older: _Held, reason: str) -> None:
        while True:
            try:
                await self._stop_held(older, StopOrder(kill_wait_s=0, reason=reason))
                break
            except OSError as error:  # a full disk: the newer attempt is durable and waits its turn
                log.error("attempt %s: its stop cannot be written: %s", older.attempt_id, error)
                await asyncio.sleep(DISK_RETRY_S)
        await older.ended.wait()

    async def _start_shim(self, held: _Held) -> None:
        try:
            pid = await self._zygote.fork_shim(held.files.path)
        except NodeUnavailable as error:
            await self._end_here(held, EndReason.LAUNCH_FAILED, str(error))
            return
        if not self._watch.watch(held.attempt_id, pid):
            self._exited(held.attempt_id)

    async def _stop_held(self, held: _Held, order: StopOrder) -> None:
        if held.accepting is not None:
            await asyncio.shield(held.accepting)
        record = read_record(held.files)
        if record is not None and record.phase is Phase.ENDED:
            self.reports.put_nowait(tasks_ended(held.attempt_id, self._node, record, ()))
            return
        if held.dumping is not None:  # stacks are worth the seconds: nobody sees them afterwards
            await asyncio.wait({held.dumping}, timeout=STACKS_LIMIT_S)
        await asyncio.to_thread(write_stop_order, held.files, order)
        self._watch.wake(held.attempt_id)

    async def _refuse_for_good(self, held: _Held, cause: EndReason | None, detail: str) -> None:
        try:
            held.files.path.mkdir(mode=FOLDER_MODE, exist_ok=True)
        except OSError:
            self._let_go(held)  # without a folder nothing is held: the order comes again
            raise
        await self._end_here(held, cause, detail)

    def _remove_expired(self) -> None:
        expired = self._archive.expired()
        if expired:
            self._supervise(self._remove(expired))

    async def _remove(self, expired: tuple[AttemptId, ...]) -> None:
        await asyncio.to_thread(self._archive.remove, expired)
        for attempt_id in expired:
            self._let_go(self._held[attempt_id])

    # ── noticing ─────────────────────────────────────────────────────────────────────────

    async def _adopt(self, held: _Held) -> None:
        """Find out where an attempt of an earlier runner stands, and go on from there."""
        try:
            order, record = read_order(held.files), read_record(held.files)
        except LogCorrupt as error:
            log.error("attempt %s: %s", held.attempt_id, error)
            held.files.record.unlink(missing_ok=True)
            await self._end_here(held, EndReason.NODE_FAIL, str(error))
            return
        if record is not None and record.phase is Phase.ENDED:
            self._observe(held)
        elif order is None:
            self._let_go(held)  # half made: the order was never acknowledged, and comes again
        elif order.boot_id != self._boot_id:
            await self._end_here(held, EndReason.NODE_FAIL, f"node {self._node} rebooted")
        elif record is None:
            await self._start_shim(held)
        else:
            self._observe(held)
            self._follow(held, record)
            self._watch.wake(held.attempt_id)  # a stop order may have been written and not told

    def _follow(self, held: _Held, record: Record) -> None:
        pid, start_ticks = record.shim_pid, record.shim_start_ticks
        if pid is None or not self._watch.watch(held.attempt_id, pid, start_ticks):
            self._exited(held.attempt_id)

    def _changed(self, attempt_id: AttemptId) -> None:
        held = self._held.get(attempt_id)
        if held is not None and not held.ended.is_set():
            self._observe(held)

    def _exited(self, attempt_id: AttemptId) -> None:
        held = self._held.get(attempt_id)
        if held is not None and not held.ended.is_set():
            self._supervise(self._after_exit(held))

    async def _after_exit(self, held: _Held) -> None:
        """A shim is gone: it was done, or another has the attempt, or it was lost."""
        record = read_record(held.files)
        if record is not None and record.phase is Phase.ENDED:
            self._observe(held)
            return
        if record is not None and self._is_supervised(record):
            self._follow(held, record)
            return
        order = read_order(held.files)
        assert order is not None, f"attempt {held.attempt_id} had a shim but no order"
        cgroup = (
            None if order.cgroup_parent is None else Cgroup(Path(order.cgroup_parent) / order.cgroup_name)
        )
        sweep = partial(kill_leftovers, () if record is None else record.ranks, order.token, cgroup)
        while await asyncio.to_thread(sweep):  # noqa: ASYNC110 (the processes of a dead parent tell nobody)
            await asyncio.sleep(SWEEP_PAUSE_S)
        if cgroup is not None:
            cgroup.remove()
        await asyncio.to_thread(remove_notes, order.notes)
        detail = (
            f"the supervisor of attempt {held.attempt_id} on node {self._node} died; its ranks were killed"
        )
        await self._end_here(held, EndReason.SHIM_LOST, detail)

    def _is_supervised(self, record: Record) -> bool:
        """Whether the shim that wrote it lives."""
        pid, start_ticks = record.shim_pid, record.shim_start_ticks
        return record.boot_id == self._boot_id and pid is not None and is_same_process(pid, start_ticks or 0)

    async def _end_here(self, held: _Held, cause: EndReason | None, detail: str) -> None:
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
                log.error("attempt %s: its end cannot be written: %s", held.attempt_id, error)
                await asyncio.sleep(DISK_RETRY_S)
        remove_reserve(held.files.path)
        self._observe(held)

    def _write_end(self, held: _Held, record: Record | None, cause: EndReason | None, detail: str) -> bool:
        file = RecordFile(held.files)
        now_us = time.time_ns() // 1000
        ended = replace(
            record or Record(phase=Phase.STARTING, boot_id=self._boot_id),
            phase=Phase.ENDED,
            cause=cause,
            detail=detail,
            ended_at_us=now_us,
        )
        if record is None:
            return file.claim(ended)
        if record.started_at_us is not None and record.boot_id == self._boot_id:
            ended = replace(ended, wall_s=max((now_us - record.started_at_us) / 1e6, record.wall_s))
        file.save(ended)
        return True

    def _observe(self, held: _Held) -> None:
        """Report whatever the record says and has not been reported."""
        record = read_record(held.files)
        if record is None:
            return
        id_, node = held.attempt_id, self._node
        if TasksStarted not in held.facts:
            self._report(held, tasks_started(id_, node, record))
        if TaskFailed not in held.facts and record.failed_rank is not None:
            words = last_lines(held.files, record.failed_rank, LAST_LINES_MAX)
            self._report(held, task_failed(id_, node, record, words))
        if TasksEnded not in held.facts and record.phase is Phase.ENDED:
            devices = () if self._measure is None else self._measure(id_)
            held.ended.set()
            self._report(held, tasks_ended(id_, node, record, devices))

    def _report(self, held: _Held, fact: AgentReport | None) -> None:
        if fact is None:
            return
        held.facts[type(fact)] = fact
        held.open_facts[type(fact)] = fact
        self.reports.put_nowait(fact)

    def _supervise(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the runner of node %s: %s", self._node, error, exc_info=error)
