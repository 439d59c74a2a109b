"""Runs attempts on this node: carries out the head's orders and reports what became of them.

Everything that must survive the agent is in the attempts' folders; the shims do the work. The
runner knows its attempts again after its own death (``held.py``), starts their shims and hears
how they end (``follow.py``).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from gpusched.agent.archive import Retention
from gpusched.agent.attempt_dir import (
    FOLDER_MODE,
    attempts_folder,
    read_record,
    write_order,
    write_stop_order,
)
from gpusched.agent.errands import Errands
from gpusched.agent.facts_of_attempt import tasks_ended
from gpusched.agent.follow import DISK_RETRY_S, Follower
from gpusched.agent.held import Held, HeldAttempts
from gpusched.agent.logs import read_logs
from gpusched.agent.shim.lease import Lease
from gpusched.agent.shim.order import Callback, LeaseTerm, Order, StopOrder
from gpusched.agent.shim.proc import boot_id
from gpusched.agent.shim.record import Phase, Record
from gpusched.agent.stacks import write_stacks
from gpusched.agent.zygote import Zygote
from gpusched.domain.errors import NodeUnavailable
from gpusched.domain.events import AgentReport
from gpusched.domain.ids import AttemptId, Epoch, JobId, NodeName
from gpusched.domain.job_spec import OnDisconnect
from gpusched.domain.job_state import EndReason
from gpusched.domain.launch_plan import NodeLaunch
from gpusched.domain.logs import LogChunk, LogQuery
from gpusched.domain.telemetry import DeviceUse

STACKS_LIMIT_S = 20.0  # how long a stop waits for them

log = logging.getLogger(__name__)


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
        home.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        attempts_folder(home).mkdir(mode=FOLDER_MODE, exist_ok=True)
        self._home = home
        self._node = node
        self._cgroup_parent = cgroup_parent
        self._callback = callback
        self._boot_id = boot_id()
        self.lease = Lease(home / f"lease-{self._boot_id}")
        """The session renews it; without one, nothing that is fenced is started."""
        self._errands = Errands(f"the runner of node {node}")
        self._zygote = Zygote(home / "shims.log")
        self.attempts = HeldAttempts(home, retention or Retention(), self._errands)
        """Those that are here, and what the head has acknowledged of them."""
        self._follower = Follower(
            home,
            node,
            attempts=self.attempts,
            zygote=self._zygote,
            errands=self._errands,
            measure=measure,
        )
        self.reports = self._follower.reports
        """Facts, of each attempt in order. After a restart the unacknowledged ones come again."""

    async def start(self) -> None:
        """Take on again whatever an earlier runner left: running, ended, or ordered and not begun.

        Raises:
            OSError: The home cannot be used.
        """
        self._follower.open()
        to_begin = [held for held in self.attempts.find_again() if await self._follower.adopt(held)]
        for held in to_begin:
            held.accepting = self._errands.begin(self._begin(held))

    async def close(self) -> None:
        """Let go of everything; the attempts run on."""
        self._follower.close()
        await self._errands.close()
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
        held = self.attempts.find(attempt_id)
        if held is None:
            newest = self.attempts.newest_epoch(launch.job_id)
            if launch.epoch <= newest:
                log.warning("attempt %s is not launched: epoch %d is known here", attempt_id, newest)
                return
            lease = self._lease_for(launch)
            held = self.attempts.hold(attempt_id)
            held.accepting = self._errands.begin(self._accept(held, launch, lease))
        if held.accepting is not None:
            await asyncio.shield(held.accepting)

    async def stop(self, job_id: JobId, epoch: Epoch, kill_wait_s: int, reason: str) -> None:
        """End the ranks: SIGTERM, ``kill_wait_s``, SIGKILL. ``TasksEnded`` follows in every case.

        An attempt that never came here is refused from now on, also after a restart.

        Raises:
            NodeUnavailable: The order could not be made durable.
        """
        attempt_id = AttemptId(job_id, epoch)
        held = self.attempts.find(attempt_id)
        try:
            if held is not None:
                await self._stop_held(held, StopOrder(kill_wait_s=kill_wait_s, reason=reason))
            elif epoch > self.attempts.newest_epoch(job_id):
                await self._refuse_for_good(
                    self.attempts.hold(attempt_id), None, f"stopped before it was launched: {reason}"
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
        held = self.attempts.find(attempt_id)
        if held is None or held.ended.is_set():
            return
        if held.dumping is None or held.dumping.done():
            held.dumping = self._errands.begin(write_stacks(held.files))
        await asyncio.shield(held.dumping)

    async def refuse(self, attempt_id: AttemptId, cause: EndReason, detail: str) -> None:
        """End an attempt that must not be launched here; one that is known or out of date stays as it is.

        Raises:
            NodeUnavailable: That could not be made durable.
        """
        newest = self.attempts.newest_epoch(attempt_id.job_id)
        if self.attempts.find(attempt_id) is not None or attempt_id.epoch <= newest:
            return
        try:
            await self._refuse_for_good(self.attempts.hold(attempt_id), cause, detail)
        except OSError as error:
            raise NodeUnavailable(
                f"{self._home} cannot be written: {error.strerror}; free some space"
            ) from error

    def acknowledge(self, fact: AgentReport) -> None:
        """The head has committed ``fact``; it will not be reported again.

        Raises:
            OSError: This could not be noted, so it will be.
        """
        self.attempts.acknowledge(fact)

    def read_logs(self, query: LogQuery) -> AsyncIterator[LogChunk]:
        """The output of an attempt's ranks on this node (``logs.read_logs``)."""
        return read_logs(self._home, self._node, query)

    # ── carrying out ─────────────────────────────────────────────────────────────────────

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

    async def _accept(self, held: Held, launch: NodeLaunch, lease: LeaseTerm | None) -> None:
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
            self.attempts.let_go(held)
            raise NodeUnavailable(f"{held.files.path} cannot be written: {error.strerror}") from error
        await self._begin(held)

    async def _begin(self, held: Held) -> None:
        older = self.attempts.older_than(held.attempt_id)
        if older is not None and not older.ended.is_set():  # at most one attempt of a job lives
            await self._end_older(older, f"attempt {held.attempt_id} begins")
        await self._follower.start(held)
        held.accepting = None

    async def _end_older(self, older: Held, reason: str) -> None:
        while True:
            try:
                await self._stop_held(older, StopOrder(kill_wait_s=0, reason=reason))
                break
            except OSError as error:  # a full disk: the newer attempt is durable and waits its turn
                log.error("attempt %s: its stop cannot be written: %s", older.attempt_id, error)
                await asyncio.sleep(DISK_RETRY_S)
        await older.ended.wait()

    async def _stop_held(self, held: Held, order: StopOrder) -> None:
        if held.accepting is not None:
            await asyncio.shield(held.accepting)
        record = read_record(held.files)
        if record is not None and record.phase is Phase.ENDED:
            self.reports.put_nowait(tasks_ended(held.attempt_id, self._node, record, ()))
            return
        if held.dumping is not None:  # stacks are worth the seconds: nobody sees them afterwards
            await asyncio.wait({held.dumping}, timeout=STACKS_LIMIT_S)
        await asyncio.to_thread(write_stop_order, held.files, order)
        self._follower.wake(held.attempt_id)

    async def _refuse_for_good(self, held: Held, cause: EndReason | None, detail: str) -> None:
        try:
            held.files.path.mkdir(mode=FOLDER_MODE, exist_ok=True)
        except OSError:
            self.attempts.let_go(held)  # without a folder nothing is held: the order comes again
            raise
        await self._follower.end(held, cause, detail)
