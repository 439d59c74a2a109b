"""Killing every process of an attempt, also those that tried to get away.

Three fences, best first:

* a cgroup: v2's ``cgroup.kill``, or v1's freezer, whose members are frozen, killed and thawed;
* the shim as child subreaper (prctl(2)): an orphan below it becomes its own child, so nothing
  leaves its tree, and once ``wait`` says that it has no child there is no process left;
* if the shim itself has died: all of ``/proc`` is searched for the secret token that each rank got
  in its environment, for the recorded ranks, their groups and sessions, and everything below them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from gpusched.agent.shim.proc import Process, descendants, process_table
from gpusched.agent.shim.record import RankRecord

TOKEN_VARIABLE = "GPUSCHED_CONTAINMENT"  # noqa: S105 (the name of a variable)
PAUSE_FIRST_S = 0.001
PAUSE_MAX_S = 0.5


class Cgroup:
    """One control group that holds the ranks of one attempt and what they start."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(cls, parent: Path, name: str) -> Cgroup | None:
        """Make a child of ``parent``; None where that is not allowed or ``parent`` is no control group."""
        if not (parent / "cgroup.procs").exists():
            return None
        try:
            (parent / name).mkdir(exist_ok=True)
        except OSError:
            return None
        return cls(parent / name)

    @property
    def entrance(self) -> Path:
        """Who writes 0 here comes in, with all its future children."""
        return self.path / "cgroup.procs"

    def kill(self) -> None:
        """Send SIGKILL to everything inside, at one instant where the kernel can (5.14, v2)."""
        if self._write("cgroup.kill", "1"):
            return
        self._write("freezer.state", "FROZEN")
        _signal_all(self.members(), signal.SIGKILL)
        self._write("freezer.state", "THAWED")

    def members(self) -> list[int]:
        """The processes inside, by id."""
        try:
            return [int(line) for line in self.entrance.read_text().split()]
        except OSError:
            return []

    def remove(self) -> None:
        """Delete it if it is empty; if not, leave it."""
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def _write(self, name: str, value: str) -> bool:
        try:
            fd = os.open(self.path / name, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.write(fd, value.encode())
        except OSError:
            return False
        finally:
            os.close(fd)
        return True


def own_cgroup() -> Path | None:
    """The v2 control group of this process, if a cgroup2 mount shows it and it may be divided."""
    mount = _cgroup2_mount()
    if mount is None:
        return None
    own = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    if not own or ".." in own[0].split("/"):  # outside of this namespace
        return None
    path = mount / own[0].lstrip("/")
    return path if os.access(path / "cgroup.procs", os.W_OK) else None


def _cgroup2_mount() -> Path | None:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    return None


def kill_descendants(reap: Callable[[], bool], cgroup: Cgroup | None) -> None:
    """Kill everything below the calling shim. Returns when nothing is left, and not before.

    Args:
        reap: Waits, without blocking, for every child that has ended; False once there is no child.
        cgroup: Where the ranks are, if they are in one.

    A process that the kernel cannot kill (state D: a dead file server, a hung driver) is waited for:
    while it lives, its devices are not free.
    """
    pause_s = PAUSE_FIRST_S
    while reap():
        if cgroup is not None:
            cgroup.kill()
        below = [process.pid for process in descendants([os.getpid()], process_table())]
        _signal_all(below, signal.SIGSTOP)  # so that none forks while the others are killed
        _signal_all(below, signal.SIGKILL)
        if not reap():
            break
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, PAUSE_MAX_S)


def kill_leftovers(ranks: Iterable[RankRecord], token: str, cgroup: Cgroup | None) -> bool:
    """Kill what is left of an attempt whose shim died; False once nothing was left to kill.

    Repeat it until then: what was being forked meanwhile, or cannot be killed yet, is found the
    next time. Out of reach is only a process that has left its session and wiped its environment,
    whose parents are dead, on a machine without a usable control group.
    """
    if cgroup is not None:
        cgroup.kill()
    known = {rank.pid: rank for rank in ranks}
    left = _leftovers(known, f"{TOKEN_VARIABLE}={token}".encode())
    _signal_all(left, signal.SIGSTOP)
    _signal_all(left, signal.SIGKILL)
    return bool(left) or (cgroup is not None and bool(cgroup.members()))


def _leftovers(known: Mapping[int, RankRecord], marker: bytes) -> list[int]:
    table = process_table()
    roots = [process.pid for process in table.values() if _belongs(process, table, known, marker)]
    below = [process.pid for process in descendants(roots, table)]
    return [pid for pid in {*roots, *below} if not table[pid].is_zombie]


def _belongs(
    process: Process, table: Mapping[int, Process], known: Mapping[int, RankRecord], marker: bytes
) -> bool:
    for number in (process.pid, process.group, process.session):
        rank = known.get(number)
        leader = table.get(number)
        # While the leader lives, its start tells whether the number was reused; once it is dead,
        # the members of its group keep the number from being given to anybody else.
        if rank is not None and (leader is None or leader.start_ticks == rank.start_ticks):
            return True
    try:
        return marker in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _signal_all(pids: Iterable[int], signum: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)
