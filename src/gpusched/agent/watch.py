"""Notices, without polling, that a shim wrote something down or died: a fifo and a pidfd per shim."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

from gpusched.agent.attempt_dir import parse_attempt_id
from gpusched.agent.shim.files import PRIVATE
from gpusched.agent.shim.proc import is_same_process
from gpusched.domain.ids import AttemptId

WAKE_BYTES = 64 * 1024


class ShimWatch:
    """Calls back, in the event loop, when an attempt's record changed or its shim is gone."""

    def __init__(
        self, fifo: Path, *, on_change: Callable[[AttemptId], None], on_exit: Callable[[AttemptId], None]
    ) -> None:
        self._fifo = fifo
        self._on_change = on_change
        self._on_exit = on_exit
        self._fifo_fd: int | None = None
        self._rest = b""
        self._pidfds: dict[AttemptId, int] = {}

    def open(self) -> None:
        """Begin to listen.

        Raises:
            OSError: The fifo cannot be made.
        """
        if not self._fifo.is_fifo():
            self._fifo.unlink(missing_ok=True)
            os.mkfifo(self._fifo, PRIVATE)
        # Also for writing, so that it never reads as closed while no shim writes.
        self._fifo_fd = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._fifo_fd, self._read_fifo)

    def close(self) -> None:
        """Listen no more; the shims do not notice."""
        for attempt_id in list(self._pidfds):
            self._forget(attempt_id)
        if self._fifo_fd is not None:
            asyncio.get_running_loop().remove_reader(self._fifo_fd)
            os.close(self._fifo_fd)
            self._fifo_fd = None

    def watch(self, attempt_id: AttemptId, pid: int, start_ticks: int | None = None) -> bool:
        """Watch the shim of an attempt; False if it is gone, or the pid is another's by now."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return False
        if start_ticks is not None and not is_same_process(pid, start_ticks):
            os.close(pidfd)
            return False
        self._pidfds[attempt_id] = pidfd
        asyncio.get_running_loop().add_reader(pidfd, self._exited, attempt_id)
        return True

    def wake(self, attempt_id: AttemptId) -> None:
        """Make the shim look at its stop order, if there is a shim."""
        if attempt_id in self._pidfds:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfds[attempt_id], signal.SIGUSR1)

    def _exited(self, attempt_id: AttemptId) -> None:
        self._forget(attempt_id)
        self._on_exit(attempt_id)

    def _forget(self, attempt_id: AttemptId) -> None:
        pidfd = self._pidfds.pop(attempt_id)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)

    def _read_fifo(self) -> None:
        assert self._fifo_fd is not None
        with contextlib.suppress(BlockingIOError):
            self._rest += os.read(self._fifo_fd, WAKE_BYTES)
        *lines, self._rest = self._rest.split(b"\n")
        for name in dict.fromkeys(lines):
            attempt_id = parse_attempt_id(name.decode(errors="replace"))
            if attempt_id is not None:
                self._on_change(attempt_id)
