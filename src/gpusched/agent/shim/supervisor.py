"""The shim: starts the ranks of one attempt on one node, pumps their output, ends them, records it.

One thread and one loop. It stops its ranks when the time limit passes, when a rank fails, when the
agent asks (``stop.json`` and SIGUSR1) or when the machine shuts down (SIGTERM); all four take the
same path: SIGTERM, a grace, SIGKILL. Whatever the reason, its last acts are to kill every process
below it, to write down how it went, and only then to go.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gpusched.agent.shim.containment import TOKEN_VARIABLE, Cgroup, kill_descendants
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.lease import boot_time_us, read_lease
from gpusched.agent.shim.notes import keep_traces, make_notes, remove_notes
from gpusched.agent.shim.oom import OomWitness
from gpusched.agent.shim.order import Order, read_order, read_stop_order
from gpusched.agent.shim.output import RankOutput
from gpusched.agent.shim.proc import (
    PR_SET_CHILD_SUBREAPER,
    PR_SET_NAME,
    boot_id,
    catches,
    descendants,
    prctl,
    process_table,
    read_process,
)
from gpusched.agent.shim.record import Phase, RankRecord, Record, RecordFile
from gpusched.agent.shim.spawn import Forked, LaunchError, Setting, await_exec, fork_rank, groups_to_take
from gpusched.domain.job_state import EndReason
from gpusched.domain.launch_plan import TaskLaunch

READ_BYTES = 64 * 1024
RETRY_S = 0.5  # after a full disk or a full fifo
GRACE_POLL_S = 0.05  # while waiting for the last members of a rank's process group


@dataclass(slots=True)
class Rank:
    """A rank that was started."""

    record: RankRecord
    pipe_fd: int | None  # None: every writer has closed it
    output: RankOutput


class Supervisor:
    """One attempt on one node, from the claim to the last record."""

    def __init__(self, attempt: AttemptDir) -> None:
        self._attempt = attempt
        self._order: Order = read_order(attempt.order)
        self._launch = self._order.launch
        self._file = RecordFile(attempt)
        self._selector = selectors.DefaultSelector()
        self._ranks: list[Rank] = []
        self._cgroup: Cgroup | None = None
        self._oom = OomWitness(self._launch.owner.uid)
        self._began_s = _clock_s()
        self._cpu_s = 0.0
        self._memory_peak_bytes = 0
        self._warn_at_s: float | None = None
        self._limit_at_s: float | None = None
        self._kill_at_s: float | None = None  # set exactly while stopping
        self._lease_at_s: float | None = None  # when to look at the lease again
        self._is_saved = True
        self._is_told = True
        self._signals: set[int] = set()  # arrived and not yet acted upon
        me = read_process(os.getpid())
        assert me is not None
        self._record = Record(
            phase=Phase.STARTING,
            boot_id=boot_id(),
            shim_pid=me.pid,
            shim_start_ticks=me.start_ticks,
        )

    def run(self) -> None:
        """Carry out the order, once: return at once if another shim already has, or had, the attempt."""
        if not self._file.claim(self._record):
            return
        wake_fd = self._listen()
        self._selector.register(wake_fd, selectors.EVENT_READ, lambda: _drain(wake_fd))
        self._obey_stop_order()  # it may have come before us
        self._check_lease()
        if self._kill_at_s is None:
            self._start()
        while not self._is_over():
            self._turn()
        self._finish()

    # ── starting ─────────────────────────────────────────────────────────────────────────

    def _listen(self) -> int:
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        prctl(PR_SET_NAME, b"gpusched-shim")
        wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for signum in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM):
            signal.signal(signum, lambda signum, _: self._signals.add(signum))
        for signum in (signal.SIGHUP, signal.SIGINT):
            signal.signal(signum, signal.SIG_IGN)
        return wake_read

    def _start(self) -> None:
        forked: list[Forked] = []
        try:
            setting = self._setting()
            for task in self._launch.tasks:
                forked.append(self._fork(task, setting))
            for child in forked:
                await_exec(child, setting, self._has_lease)
        except LaunchError as error:
            if self._kill_at_s is None:
                self._launch_failed(str(error))
            return
        except OSError as error:
            where = error.filename or self._attempt.path
            self._launch_failed(
                f"node {self._launch.node} cannot prepare the attempt: {where}: {error.strerror}; "
                "check the disk of the agent's home"
            )
            return
        now_s = _clock_s()
        if self._launch.time_limit_s is not None:
            limit_s, lead_s = self._launch.time_limit_s, self._launch.signal.lead_s
            self._limit_at_s = now_s + limit_s
            # A lead longer than the job itself still leaves it time to set up its handler.
            self._warn_at_s = now_s + (limit_s - lead_s if lead_s < limit_s else limit_s / 2)
        self._change(replace(self._record, phase=Phase.RUNNING, started_at_us=_wall_us()))

    def _setting(self) -> Setting:
        launch = self._launch
        groups = groups_to_take(launch.owner, launch.node)
        if self._order.cgroup_parent is not None:
            self._cgroup = Cgroup.create(Path(self._order.cgroup_parent), self._order.cgroup_name)
        notes = make_notes(self._order.notes, launch.owner)
        script, script_fd = self._open_script(must_lend=groups is not None)
        return Setting(
            node=launch.node,
            owner=launch.owner,
            workdir=launch.workdir,
            script=script,
            script_fd=script_fd,
            groups=groups,
            cgroup_entrance=None if self._cgroup is None else str(self._cgroup.entrance),
            notes=None if notes is None else str(notes),
            extra_env=((TOKEN_VARIABLE, self._order.token),),
            callback=self._order.callback,
        )

    def _open_script(self, *, must_lend: bool) -> tuple[str | None, int | None]:
        if self._launch.script is None:
            return None, None
        if not must_lend:
            return str(self._attempt.script), None
        # The job's user cannot walk into our folder, so the rank gets the open file.
        fd = os.open(self._attempt.script, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        os.fchown(fd, self._launch.owner.uid, self._launch.owner.gid)
        return f"/proc/self/fd/{fd}", fd

    def _fork(self, task: TaskLaunch, setting: Setting) -> Forked:
        folder = self._attempt.rank_logs(task.global_rank)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        pipe_read, pipe_write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(pipe_read, False)
        try:
            forked = fork_rank(task, setting, pipe_write)
        finally:
            os.close(pipe_write)
        child = read_process(forked.pid)
        assert child is not None, "an unreaped child is in the process table"
        record = RankRecord(global_rank=task.global_rank, pid=child.pid, start_ticks=child.start_ticks)
        rank = Rank(record, pipe_read, RankOutput(folder, self._launch.log_cap_bytes))
        self._ranks.append(rank)
        self._selector.register(pipe_read, selectors.EVENT_READ, lambda: self._pump(rank))
        return forked

    def _launch_failed(self, detail: str) -> None:
        self._change(replace(self._record, cause=EndReason.LAUNCH_FAILED, detail=detail))
        self._kill_at_s = _clock_s()

    # ── the loop ─────────────────────────────────────────────────────────────────────────

    def _turn(self) -> None:
        self._publish()
        for key, _ in self._selector.select(self._timeout_s()):
            handle: Callable[[], object] = key.data
            handle()
        self._reap()
        self._obey()
        self._keep_time()

    def _timeout_s(self) -> float | None:
        times = (self._warn_at_s, self._limit_at_s, self._lease_at_s, self._kill_at_s)
        moments = [at for at in times if at is not None]
        waits = [max(at - _clock_s(), 0.0) for at in moments]
        if not (self._is_saved and self._is_told):
            waits.append(RETRY_S)
        if self._kill_at_s is not None and self._all_ranks_ended():
            waits.append(GRACE_POLL_S)
        return min(waits, default=None)

    def _is_over(self) -> bool:
        if self._kill_at_s is not None and _clock_s() >= self._kill_at_s:
            return True
        if not self._all_ranks_ended():
            return False
        # While stopping, what a dead wrapper left in its group has the same grace to save its work.
        return self._kill_at_s is None or not self._has_group_members()

    def _all_ranks_ended(self) -> bool:
        return all(rank.record.has_ended for rank in self._ranks)

    def _has_group_members(self) -> bool:
        groups = {rank.record.pid for rank in self._ranks}
        below = descendants([os.getpid()], process_table())
        return any(process.group in groups and not process.is_zombie for process in below)

    def _pump(self, rank: Rank) -> bool:
        """Move what is in the pipe to the disk, one read; False if there was nothing (left)."""
        if rank.pipe_fd is None:
            return False
        try:
            data = os.read(rank.pipe_fd, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._selector.unregister(rank.pipe_fd)
            os.close(rank.pipe_fd)
            rank.pipe_fd = None
            return False
        rank.output.write(data, _wall_us())
        return True

    def _drain(self, rank: Rank) -> None:
        # Bounded: an escapee that goes on writing must not keep the shim here.
        for _ in range(64):
            if not self._pump(rank):
                return

    def _reap(self) -> bool:
        """Take in every child that has ended, ranks and adopted orphans; False if no child is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            self._cpu_s += usage.ru_utime + usage.ru_stime
            rank = next((rank for rank in self._ranks if rank.record.pid == pid), None)
            if rank is not None and not rank.record.has_ended:
                self._memory_peak_bytes = max(self._memory_peak_bytes, usage.ru_maxrss * 1024)
                self._rank_ended(rank, os.waitstatus_to_exitcode(status))

    def _rank_ended(self, rank: Rank, code: int) -> None:
        self._drain(rank)
        rank.record = replace(
            rank.record,
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            ended_at_us=_wall_us(),
        )
        self._change(self._record)
        if code != 0 and self._kill_at_s is None:
            group = None if self._cgroup is None else self._cgroup.path
            is_oom = self._oom.has_seen_end_of(rank.record, group)
            cause = EndReason.OUT_OF_MEMORY if is_oom else None
            self._change(replace(self._record, failed_rank=rank.record.global_rank, cause=cause))
            self._begin_stop(self._launch.kill_wait_s)

    def _has_lease(self) -> bool:
        self._check_lease()
        return self._kill_at_s is None

    def _check_lease(self) -> None:
        """End at once, without grace, when the node's lease is over: the job may run elsewhere."""
        lease = self._order.lease
        if lease is None:
            return
        now_us = boot_time_us()
        left_us = read_lease(Path(lease.path)).left_us(lease.term, now_us)
        if left_us > 0:
            self._lease_at_s = (now_us + left_us) / 1e6
            return
        self._lease_at_s = None
        detail = f"node {self._launch.node} was cut off from the head until its lease ran out"
        self._change(replace(self._record, cause=EndReason.NODE_FAIL, detail=detail))
        self._begin_stop(0)

    def _keep_time(self) -> None:
        now_s = _clock_s()
        if self._lease_at_s is not None and now_s >= self._lease_at_s:
            self._check_lease()
        if self._warn_at_s is not None and now_s >= self._warn_at_s:
            self._warn_at_s = None
            if self._kill_at_s is None:
                self._warn()
        if self._limit_at_s is not None and now_s >= self._limit_at_s:
            self._limit_at_s = None
            if self._kill_at_s is None:
                detail = f"time limit of {self._launch.time_limit_s} s passed"
                self._change(replace(self._record, cause=EndReason.TIME_LIMIT, detail=detail))
                self._begin_stop(self._launch.kill_wait_s)

    def _warn(self) -> None:
        # Only to those that listen for it: a warning must not kill, and a shell around the rank would die.
        signum = signal.Signals.__members__.get(self._launch.signal.name)
        if signum is None:
            return
        for process in descendants([os.getpid()], process_table()):
            if catches(process.pid, signum):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signum)

    def _obey(self) -> None:
        # Taken before anything is read: a second order that comes meanwhile is another signal.
        arrived, self._signals = self._signals, set()
        if signal.SIGUSR1 in arrived:
            self._obey_stop_order()
        if signal.SIGTERM in arrived and self._kill_at_s is None:
            detail = f"node {self._launch.node} is shutting down: the shim got SIGTERM"
            self._change(replace(self._record, cause=EndReason.NODE_FAIL, detail=detail))
            self._begin_stop(self._launch.kill_wait_s)

    def _obey_stop_order(self) -> None:
        order = read_stop_order(self._attempt.stop_order)
        if order is None:
            return
        if self._kill_at_s is None:
            self._change(replace(self._record, detail=order.reason))
        self._begin_stop(order.kill_wait_s)

    def _begin_stop(self, kill_wait_s: float) -> None:
        """SIGTERM now, SIGKILL after the wait; a second stop can only shorten it."""
        kill_at_s = _clock_s() + kill_wait_s
        if self._kill_at_s is not None:
            self._kill_at_s = min(self._kill_at_s, kill_at_s)
            return
        self._kill_at_s = kill_at_s
        for rank in self._ranks:
            if not rank.record.has_ended:  # not yet waited for, so the number is still its own
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(rank.record.pid, signal.SIGTERM)

    # ── the record ───────────────────────────────────────────────────────────────────────

    def _change(self, record: Record) -> None:
        self._record = record
        self._is_saved = self._is_told = False

    def _publish(self) -> None:
        if not self._is_saved:
            ranks = tuple(replace(rank.record, output_bytes=rank.output.offset) for rank in self._ranks)
            self._record = replace(
                self._record,
                ranks=ranks,
                wall_s=_clock_s() - self._began_s,
                cpu_s=self._cpu_s,
                memory_peak_bytes=self._memory_peak_bytes or None,
            )
            try:
                self._file.save(self._record)
            except OSError:
                return  # a full disk; the loop comes back to it
            self._is_saved = True
        if not self._is_told:
            self._is_told = tell(self._attempt)

    def _finish(self) -> None:
        kill_descendants(self._reap, self._cgroup)
        for rank in self._ranks:
            self._drain(rank)
            rank.output.close()
        if self._cgroup is not None:
            self._cgroup.remove()
        keep_traces(self._order.notes, self._attempt.stacks, self._launch.owner)
        remove_notes(self._order.notes)
        self._change(replace(self._record, phase=Phase.ENDED, ended_at_us=_wall_us()))
        self._publish()
        # A full disk will have room again; a folder that was removed has nobody left who would read its end.
        while not self._is_saved and self._attempt.path.exists():
            time.sleep(RETRY_S)
            self._publish()


def tell(attempt: AttemptDir) -> bool:
    """Say on the agent's fifo that the record changed; False if it is full and this must be repeated."""
    try:
        fd = os.open(attempt.wake_fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return True  # no agent: it will read the record when it comes back
    try:
        os.write(fd, f"{attempt.path.name}\n".encode())
    except OSError as error:
        return error.errno != errno.EAGAIN
    finally:
        os.close(fd)
    return True


def _drain(fd: int) -> None:
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, READ_BYTES):
            pass


def _clock_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps, as the limit does


def _wall_us() -> int:
    return time.time_ns() // 1000
