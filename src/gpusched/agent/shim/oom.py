"""Whether the kernel killed for lack of memory: by its log, and by the count of the attempt's control group.

The kernel writes ``Killed process 4711 (python) total-vm:..., UID:1000 ...`` before the process is seen to be
dead (``__oom_kill_process`` in mm/oom_kill.c), so whoever reads after that misses nothing. Who may not read
/dev/kmsg (it takes CAP_SYSLOG where ``kernel.dmesg_restrict`` is set), and has no control group with the
memory controller, never learns of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from pathlib import Path

from gpusched.agent.shim.record import RankRecord

KMSG = Path("/dev/kmsg")
RECORD_BYTES_MAX = 8192  # the kernel gives one record a read and refuses smaller buffers
KILLED_CODE = 128 + signal.SIGKILL  # what a shell says of a child that was killed
COUNTERS = ("memory.events", "memory.oom_control")  # v2, v1
_KILLED = re.compile(rb"Killed process (\d+) \(.*UID:(\d+)")
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class OomWitness:
    """Reads the kernel's log from now on.

    Args:
        uid: Whose processes the ranks are.
        kmsg: The log.
    """

    def __init__(self, uid: int, kmsg: Path = KMSG) -> None:
        self._uid = uid
        self._pids: set[int] = set()  # of this user, killed since
        try:
            self._fd: int | None = os.open(kmsg, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self._fd = None
        else:
            with contextlib.suppress(OSError):  # a fifo has no end to go to
                os.lseek(self._fd, 0, os.SEEK_END)

    def has_seen_end_of(self, rank: RankRecord, cgroup: Path | None) -> bool:
        """Whether a rank that failed did so for lack of memory.

        It did if it was killed itself; if it is a shell that says so of its child, and a process of its user
        was; or if anything in the attempt's control group was.
        """
        if cgroup is not None and any(_count(cgroup / name) for name in COUNTERS):
            return True
        if rank.signal == signal.SIGKILL:
            self._read()
            return rank.pid in self._pids
        if rank.exit_code == KILLED_CODE:
            self._read()
            return bool(self._pids)
        return False

    def _read(self) -> None:
        while self._fd is not None:
            try:
                record = os.read(self._fd, RECORD_BYTES_MAX)
            except OSError as error:
                if error.errno == errno.EPIPE:  # records were overwritten before we read them
                    continue
                return
            if not record:
                return
            if (found := _KILLED.search(record)) is not None and int(found[2]) == self._uid:
                self._pids.add(int(found[1]))


def _count(path: Path) -> int:
    try:
        found = _COUNT.search(path.read_text())
    except OSError:
        return 0
    return 0 if found is None else int(found[1])
