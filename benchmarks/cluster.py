"""A real cluster to measure: ``gpusched head`` and ``gpusched agent`` as processes, in a temporary home.

Whatever was started is ended by its pid when the ``with`` block is left, however it is left.
"""

from __future__ import annotations

import functools
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import psutil

from gpusched.wire.client import Client

START_DEADLINE_S = 120.0
STOP_DEADLINE_S = 30.0
POLL_S = 0.02
PORTS_EACH = 1_000
FIRST_PORTS = (
    *range(10_000, 22_000, PORTS_EACH + 1),
    *range(28_000, 31_000, PORTS_EACH + 1),
    *range(61_000, 64_000, PORTS_EACH + 1),
)
"""Beside what a head leases by itself (23000-27999), and what connections take (32768-60999)."""


@contextmanager
def temporary_home() -> Iterator[Path]:
    """A folder below $TMPDIR, of a short name: the paths of unix sockets are limited to 107 bytes."""
    home = Path(tempfile.mkdtemp(prefix="gsb-"))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


class Head:
    """A head that can be killed and started again in the same home.

    Args:
        home: Its sockets and database.
        config: Text of its ``config.toml``.
        module: What to run in place of ``gpusched``, taking the same arguments.
        settings: More environment variables.
        tcp: Where it listens beside its unix socket.
        prefix: What its command begins with, e.g. to run it in a network namespace.
    """

    def __init__(
        self,
        home: Path,
        config: str = "",
        *,
        module: str = "gpusched",
        settings: Mapping[str, str] | None = None,
        tcp: str = "",
        prefix: Sequence[str] = (),
    ) -> None:
        self.home = home
        self.address = f"unix://{home / 'head.sock'}"
        self._argv = [*prefix, sys.executable, "-m", module, "head", "--home", str(home), "--tcp", tcp]
        self._environment = {**os.environ, **(settings or {})}
        self._process: subprocess.Popen[bytes] | None = None
        (home / "config.toml").write_text(config, encoding="utf-8")
        (home / "config.toml").chmod(0o600)  # it may hold the database's password

    @property
    def pid(self) -> int:
        """Of the running head."""
        assert self._process is not None, "the head is not running"
        return self._process.pid

    def cpu_s(self) -> float:
        """Seconds of CPU it has used: unlike rates, not much moved by what else the machine does."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def start(self, *options: str) -> None:
        """Start it, with more options perhaps, and return when it says that it serves."""
        with (self.home / "head.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._argv, *options], stdout=subprocess.PIPE, stderr=log, env=self._environment
            )
        assert self._process.stdout is not None
        select.select([self._process.stdout], [], [], START_DEADLINE_S)
        if not select.select([self._process.stdout], [], [], 0)[0] or not self._process.stdout.readline():
            self.kill()
            raise RuntimeError(f"the head did not start: {tail(self.home / 'head.log')}")

    def kill(self) -> None:
        """End it with SIGKILL: it gets no chance to write anything."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def stop(self) -> None:
        """Ask it to end; insist if it does not."""
        if self._process is not None:
            _stop(self._process)
            self._reap()

    def has_ended(self) -> bool:
        """Whether it has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def wait(self, deadline_s: float) -> int:
        """Its exit code, once it has ended by itself."""
        assert self._process is not None, "the head is not running"
        return self._process.wait(deadline_s)

    def client(self) -> Client:
        """A connection to it."""
        return Client(self.address)

    def _reap(self) -> None:
        assert self._process is not None
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None


class Joined(Protocol):
    """What agents need of a head: its address, a client, and a home for themselves."""

    home: Path
    address: str

    def client(self) -> Client: ...


def own_ports() -> str:
    """Lines for a head whose gangs meet: rendezvous ports that no head of another process here leases.

    Raises:
        RuntimeError: As many processes as there are ranges run clusters already.
    """
    first = _claim().getsockname()[1] + 1
    return f'\n[launch]\nmaster_ports = "{first}-{first + PORTS_EACH - 1}"\n'


@functools.cache
def _claim() -> socket.socket:
    """The port before the range, bound for as long as this process lives: the kernel gives it to one."""
    for port in FIRST_PORTS:
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", port))
        except OSError:
            claim.close()
        else:
            return claim
    raise RuntimeError(f"{len(FIRST_PORTS)} processes run clusters of their own: end one")


@contextmanager
def running_head(head: Head) -> Iterator[Head]:
    """The head started, and ended however the block is left."""
    try:
        head.start()
        yield head
    finally:
        head.stop()


@contextmanager
def running_agents(
    head: Joined,
    names: Sequence[str],
    *options: str,
    module: str = "gpusched",
    settings: Mapping[str, str] | None = None,
) -> Iterator[list[int]]:
    """Agents of these names, joined to the head. Yields their pids.

    Args:
        head: A running head, or several that stand for one.
        names: Of the nodes.
        options: More arguments of ``gpusched agent``.
        module: What to run in place of ``gpusched``, taking the same arguments.
        settings: More environment variables.
    """
    agents: list[subprocess.Popen[bytes]] = []
    try:
        for name in names:
            argv = [sys.executable, "-m", module, "agent", "--home", str(head.home)]
            argv += ["--name", name, "--head", head.address, "--on-stop", "end", *options]
            environment = {**os.environ, **(settings or {})}
            with (head.home / f"agent-{name}.log").open("ab") as log:
                agents.append(subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=log, env=environment))
        with head.client() as client:
            until(lambda: set(names) <= _reachable(client), "agents")
        yield [agent.pid for agent in agents]
    finally:
        for agent in agents:  # all are asked before one is waited for
            agent.terminate()
        for agent in agents:
            _stop(agent)


def _reachable(client: Client) -> set[str]:
    return {view.node.name for view in client.nodes.list() if view.node.reachable}


def until(holds: Callable[[], bool], what: str, deadline_s: float = START_DEADLINE_S) -> None:
    """Ask again and again, for states that nobody announces.

    Raises:
        RuntimeError: It did not come true in time; ``what`` is in the message.
    """
    never = threading.Event()
    give_up_at = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > give_up_at:
            raise RuntimeError(f"waited {deadline_s:.0f} s in vain for {what}")
        never.wait(POLL_S)


def tail(path: Path, lines: int = 15) -> str:
    """The end of a log, for a message."""
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
