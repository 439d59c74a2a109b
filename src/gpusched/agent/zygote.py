"""The agent's end of the zygote, the process that shims are forked from (``shim/zygote.py``)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from pathlib import Path

import gpusched
from gpusched.domain.errors import NodeUnavailable

REPLY_BYTES_MAX = 4096
# -I -S: no environment, no site-packages, nothing of the user's, and a start within some 20 ms.
BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv.pop(1)); from gpusched.agent.shim.zygote import main; main()"
)
SOURCE_ROOT = Path(gpusched.__file__).parent.parent


class Zygote:
    """Forks shims. Started on first use and again whenever it has died."""

    def __init__(self, error_log: Path) -> None:
        self._error_log = error_log
        self._channel: socket.socket | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    async def fork_shim(self, attempt: Path) -> int:
        """Start a shim for the attempt in that directory and return its pid.

        A zygote that died under way is replaced and asked again: should both have forked, the claim
        on the record lets one shim through.

        Raises:
            NodeUnavailable: The machine gives no process.
        """
        async with self._lock:
            for _ in range(2):
                reply = await self._ask(os.fsencode(attempt))
                if reply.isdigit():
                    return int(reply)
                if reply:
                    raise NodeUnavailable(f"this node cannot start a process: {reply}")
                await self._discard()
        raise NodeUnavailable(f"the process that starts jobs keeps dying; see {self._error_log}")

    async def close(self) -> None:
        """Let the zygote go. Shims live on."""
        async with self._lock:
            await self._discard()

    async def _ask(self, request: bytes) -> str:
        if self._channel is None:
            self._channel = await self._start()
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self._channel, request)
            return (await loop.sock_recv(self._channel, REPLY_BYTES_MAX)).decode()
        except OSError:
            return ""

    async def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        log_fd = os.open(self._error_log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", "-c", BOOTSTRAP, str(SOURCE_ROOT), str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log_fd,
                pass_fds=(theirs.fileno(),),
                env={},
                start_new_session=True,  # a Ctrl-C at the agent's terminal is not for the jobs
                cwd="/",
            )
        finally:
            os.close(log_fd)
            theirs.close()
        return ours

    async def _discard(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
            self._process = None
