"""Processes as ``/proc`` shows them (proc(5)), and the calls of prctl(2) that Python lacks."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
HELD = frozenset({b"CapPrm:", b"CapEff:", b"CapAmb:"})

KEYCTL = {"x86_64": 250, "i686": 288, "ppc64le": 271, "s390x": 280}
"""The number of keyctl(2), which libc does not wrap; 219 wherever the kernel's generic table is used."""
KEYCTL_JOIN_SESSION_KEYRING = 1

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, argument: int | bytes) -> None:
    """Call prctl(2).

    Raises:
        OSError: The kernel refused.
    """
    value = ctypes.c_char_p(argument) if isinstance(argument, bytes) else ctypes.c_ulong(argument)
    zero = ctypes.c_ulong(0)
    if _libc.prctl(option, value, zero, zero, zero) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")


def leave_session_keyring() -> None:
    """Begin an empty session keyring: the one before stays reachable whoever one becomes (keyrings(7)).

    Raises:
        OSError: The kernel refused, and not because nobody here can use keys at all.
    """
    number = ctypes.c_long(KEYCTL.get(os.uname().machine, 219))
    if _libc.syscall(number, ctypes.c_long(KEYCTL_JOIN_SESSION_KEYRING), None) != -1:
        return
    error = ctypes.get_errno()
    # No keys in this kernel, or a container's filter on the call, which the rank is under as well.
    if error == errno.ENOSYS or (error == errno.EPERM and _is_filtered()):
        return
    raise OSError(error, f"keyctl: {os.strerror(error)}")


def _is_filtered() -> bool:
    fields = Path("/proc/self/status").read_bytes().split()
    return any(value != b"0" for name, value in pairwise(fields) if name == b"Seccomp:")


def holds_capabilities() -> bool:
    """Whether this process can do anything that only root may, now or after an exec (capabilities(7)).

    Raises:
        OSError: ``/proc`` cannot be read.
    """
    # As bytes: a process that became another user may not be able to import a codec any more.
    fields = Path("/proc/self/status").read_bytes().split()
    return any(int(mask, 16) for name, mask in pairwise(fields) if name in HELD)


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table. ``start_ticks`` counts since boot, ``cpu_ticks`` what it computed."""

    pid: int
    parent: int
    group: int
    session: int
    start_ticks: int
    state: str  # R S D T ...
    cpu_ticks: int  # user + system, children that it has waited for included

    @property
    def is_zombie(self) -> bool:
        """Ended, and not waited for."""
        return self.state in {"Z", "X"}


def read_process(pid: int) -> Process | None:
    """The process of that id, None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The command's name comes second, in brackets, and may itself hold brackets and blanks.
    fields = stat[stat.rindex(b")") + 2 :].split()
    return Process(
        pid=pid,
        parent=int(fields[1]),
        group=int(fields[2]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
        state=fields[0].decode(),
        cpu_ticks=sum(map(int, fields[11:15])),
    )


def process_table() -> dict[int, Process]:
    """Every process, by id."""
    found = (read_process(int(path.name)) for path in Path("/proc").iterdir() if path.name.isdigit())
    return {process.pid: process for process in found if process is not None}


def is_same_process(pid: int, start_ticks: int) -> bool:
    """Whether ``pid`` still names the process that started then, and it is no zombie."""
    process = read_process(pid)
    return process is not None and process.start_ticks == start_ticks and not process.is_zombie


def descendants(roots: Iterable[int], table: dict[int, Process]) -> list[Process]:
    """Everything below ``roots`` in the process tree, parents first, ``roots`` themselves left out."""
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    frontier = list(roots)
    while frontier:
        below = children.pop(frontier.pop(), [])
        found += below
        frontier += [process.pid for process in below]
    return found


def io_bytes(pid: int) -> int:
    """Bytes that the process has read and written (``/proc/<pid>/io``); 0 if it is gone or not ours."""
    try:
        lines = Path(f"/proc/{pid}/io").read_bytes().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines[:2])  # rchar, wchar


def runnable_s(pid: int) -> float:
    """How long the process's first thread was ready to run and had no CPU, in seconds, since it began.

    The second number of ``/proc/<pid>/schedstat`` (kernel documentation: scheduler/sched-stats); 0 if it
    is gone, or the kernel does not count this.
    """
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_bytes().split()[1]) / 1e9
    except (OSError, IndexError):
        return 0.0


def waits_in(pid: int) -> str | None:
    """The kernel function in which the process sleeps; None if it runs, or that may not be read."""
    try:
        name = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return None
    return name if name not in ("", "0") else None


def catches(pid: int, signum: int) -> bool:
    """Whether the process has a handler of its own for the signal (``SigCgt`` of ``/proc/<pid>/status``)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    mask = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:")), "0")
    return bool(int(mask, 16) >> (signum - 1) & 1)


def boot_id() -> str:
    """This boot of this machine: pids of another one mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
