"""The node's lease as a small file: the agent renews it, every shim of a fenced attempt reads it.

So ranks end when the lease does although the agent is dead, stopped or unreachable itself. A lease
that ran out never comes back: the next one is another *term*, and what was launched under an
earlier term is over, however late its shim looks. The clock is CLOCK_BOOTTIME, which goes on while
the machine sleeps.
"""

from __future__ import annotations

import os
import struct
import time
from dataclasses import dataclass
from pathlib import Path

_STATE = struct.Struct("<qq")  # term, deadline in microseconds of CLOCK_BOOTTIME: one write, one page


@dataclass(frozen=True, slots=True)
class LeaseState:
    """What the file says. Term 0 has never been granted."""

    term: int
    deadline_us: int

    def left_us(self, term: int, now_us: int) -> int:
        """Microseconds that ``term`` has left; 0 or less if it is over."""
        return self.deadline_us - now_us if self.term == term else 0


def read_lease(path: Path) -> LeaseState:
    """Read the lease. One that can't be read is one that nobody holds."""
    try:
        return LeaseState(*_STATE.unpack(path.read_bytes()))
    except (OSError, struct.error):
        return LeaseState(0, 0)


class Lease:
    """The agent's side.

    Args:
        path: The file. One per boot: CLOCK_BOOTTIME starts again with the machine.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)

    def close(self) -> None:
        """Let go of the file; the lease runs on."""
        os.close(self._fd)

    def renew(self, deadline_us: int) -> None:
        """Extend the lease to ``deadline_us``; one that has run out begins a new term instead."""
        state, now_us = read_lease(self.path), boot_time_us()
        if deadline_us <= now_us:
            return  # granted, but it took longer than the lease to hear of it
        is_over = state.deadline_us <= now_us
        # A term is named by when it began, so that it has never been, whatever became of the file.
        renewed = LeaseState(
            now_us if is_over else state.term, max(deadline_us, state.deadline_us * (not is_over))
        )
        os.pwrite(self._fd, _STATE.pack(renewed.term, renewed.deadline_us), 0)

    @property
    def term(self) -> int | None:
        """The term that runs now; None: there is none, so nothing that is fenced may start."""
        state = read_lease(self.path)
        return state.term if state.deadline_us > boot_time_us() else None


def boot_time_us() -> int:
    """Microseconds of CLOCK_BOOTTIME."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000
