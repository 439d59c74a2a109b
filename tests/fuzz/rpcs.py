"""S2, S3: a running head under requests that nobody would send, and under connections that say nothing.

What must hold: the head lives, nothing ends in INTERNAL or a traceback, its memory does not grow with what
it is sent, somebody else's requests are answered meanwhile, and the log loads again afterwards.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc
import grpc.aio
import psutil
from cluster import facts
from fuzz.messages import drawn, spoilt

from benchmarks.cluster import Head, running_head, temporary_home
from benchmarks.report import SEED, Figure, Measured, at_least, at_most, percentile, run_benchmark, say
from gpusched.api.auth import TokenAuthority
from gpusched.api.token_keys import TokenKeys
from gpusched.daemon.clock import SystemClock
from gpusched.domain.ids import NodeName
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.link import Hello
from gpusched.wire.async_client import AsyncClient
from gpusched.wire.convert import FROM_AGENT, JOB_SPEC
from gpusched.wire.methods import METHODS, Method

CONFIG = """
[limits]
requests_per_s = 1000000
request_burst = 1000000
"""
IN_FLIGHT = 24
MESSAGES_OF_A_STREAM = 20
OTHER_PAUSE_S = 0.02
HEADERS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each."""

    messages: int
    idle_connections: int
    garbage_connections: int
    large_messages: int


FULL = Sizes(messages=100_000, idle_connections=1_000, garbage_connections=5_000, large_messages=20)
QUICK = Sizes(messages=1_500, idle_connections=100, garbage_connections=200, large_messages=3)


@dataclass(slots=True)
class Told:
    """What the head answered."""

    codes: Counter[str]
    internal: list[str]  # the seeds of what ended in INTERNAL or UNKNOWN

    def note(self, code: grpc.StatusCode, seed: str) -> None:
        self.codes[code.name] += 1
        if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS):
            self.internal.append(seed)


def measure(sizes: Sizes) -> Measured:
    """Measure a head under fuzz."""
    with temporary_home() as home:
        head = Head(home, CONFIG, tcp="127.0.0.1:0")
        with running_head(head):
            process = psutil.Process(head.pid)
            authority = TokenAuthority(TokenKeys(home / "token.key"), "gpusched", frozenset(), SystemClock())
            found = asyncio.run(_Trial(head, process, authority, sizes).run())
            is_alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
            log = (home / "head.log").read_text(errors="replace")
            head.kill()
            head.start()  # what was accepted must load
        loads = (home / "head.log").read_text(errors="replace").count("Traceback") == log.count("Traceback")
    told, waits_s, grown = found
    figures = [
        Figure("messages sent", sum(told.codes.values()), "", at_least(sizes.messages)),
        Figure("crashes of the head", 0 if is_alive else 1, "", at_most(0)),
        Figure("answers INTERNAL, UNKNOWN or DATA_LOSS", len(told.internal), "", at_most(0)),
        Figure("tracebacks in the head's log", log.count("Traceback"), "", at_most(0)),
        Figure("loads again after a kill", 1 if loads else 0, "", at_least(1)),
        Figure("growth of the head's memory", grown / 2**20, "MiB", at_most(50)),
        Figure("another user's requests, p99", percentile(waits_s, 99) * 1e3, "ms", at_most(1_000)),
    ]
    last = log[log.rfind("Traceback") :][:4_000] if "Traceback" in log else None
    details = {
        "last_traceback": last,
        "codes": dict(told.codes),
        "internal": told.internal[:20],
        "other_requests": len(waits_s),
    }
    return Measured(figures, details)


class _Trial:
    def __init__(self, head: Head, process: psutil.Process, authority: TokenAuthority, sizes: Sizes) -> None:
        self._head, self._process, self._sizes = head, process, sizes
        self._tokens = (
            authority.issue(os.geteuid(), 0).token,
            authority.issue(54_321, 54_321).token,
            authority.issue(0, 0, node=NodeName("n1")).token,
            None,
        )
        self._told = Told(Counter(), [])
        self._target = f"unix:{head.home / 'head.sock'}"
        self._next = iter(range(1 << 62))

    async def run(self) -> tuple[Told, Sequence[float], int]:
        """Answers, how long another's requests took, by how much memory grew."""
        await self._fuzz(min(self._sizes.messages // 20, 2_000))  # what is loaded on first use is no growth
        before = self._process.memory_info().rss
        waits_s: list[float] = []
        asking = asyncio.create_task(self._ask_as_somebody_else(waits_s))
        try:
            with _connections(_port(self._process), self._sizes):
                await self._fuzz(self._sizes.messages)
                await self._send_large()
        finally:
            asking.cancel()
            with suppress(asyncio.CancelledError):
                await asking
        return self._told, waits_s, self._process.memory_info().rss - before

    async def _fuzz(self, messages: int) -> None:
        end = sum(self._told.codes.values()) + messages
        async with asyncio.TaskGroup() as group:
            for worker in range(IN_FLIGHT):
                group.create_task(self._work(worker, end))

    async def _work(self, worker: int, end: int) -> None:
        async with grpc.aio.insecure_channel(self._target) as channel:
            while sum(self._told.codes.values()) < end:
                seed = f"{SEED}-{worker}-{next(self._next)}"
                rng = Random(seed)
                method = rng.choice(list(METHODS.values()))
                await self._call(channel, method, rng, seed)
                if (number := sum(self._told.codes.values())) % 10_000 == 0:
                    say(f"{number} messages")

    async def _call(self, channel: Any, method: Method, rng: Random, seed: str) -> None:
        token = rng.choice(self._tokens) if not method.takes_stream else self._tokens[2]
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        call = channel.stream_stream(method.path)(
            _requests(method, rng), metadata=metadata, timeout=2.0 if method.gives_stream else 60.0
        )
        try:
            while (await call.read()) is not grpc.aio.EOF:
                if method.gives_stream and rng.random() < 0.3:
                    call.cancel()
            code = await call.code()
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
            code = grpc.StatusCode.CANCELLED
        except grpc.aio.AioRpcError as error:
            code = error.code()
            assert "Traceback" not in (error.details() or ""), error
        # gRPC's own words for a message that it could not write any more: the head had answered before.
        if (await call.details()) == "Internal error from Core":
            code = grpc.StatusCode.CANCELLED
        self._told.note(code, f"{method.name} {seed}")

    async def _send_large(self) -> None:
        """Beyond the bound of a message, with a token that holds and without one."""
        options = (("grpc.max_send_message_length", -1),)
        path = "/gpusched.v1.JobService/SubmitJobs"
        for count in range(self._sizes.large_messages):
            async with grpc.aio.insecure_channel(self._target, options=options) as channel:
                token = self._tokens[0] if count % 2 else "forged"
                call = channel.unary_unary(path)(
                    bytes(64 << 20), metadata=(("authorization", f"Bearer {token}"),), timeout=60
                )
                self._told.note(await call.code(), f"large {count}")

    async def _ask_as_somebody_else(self, waits_s: list[float]) -> None:
        async with AsyncClient(f"unix://{self._head.home / 'head.sock'}", token=self._tokens[1]) as client:
            while True:
                began = time.monotonic()
                await client.nodes.list()
                waits_s.append(time.monotonic() - began)
                await asyncio.sleep(OTHER_PAUSE_S)


async def _requests(method: Method, rng: Random) -> AsyncIterator[bytes]:
    if method.takes_stream:
        if rng.random() < 0.8:
            yield FROM_AGENT.to_proto(Hello(facts("n1"), ())).SerializeToString()
        for _ in range(rng.randrange(MESSAGES_OF_A_STREAM)):
            yield drawn(method.request.DESCRIPTOR, rng)
        return
    good = _good(method)
    yield spoilt(good, rng) if rng.random() < 0.5 else drawn(method.request.DESCRIPTOR, rng)


def _good(method: Method) -> Any:
    """A request that is taken: a held job, job 1, node n1."""
    request, fields = method.request(), method.request.DESCRIPTOR.fields_by_name
    spec = JOB_SPEC.to_proto(JobSpec(name="good", command=("true",), workdir="/", hold=True))
    for name, value in (("request_id", "fuzz"), ("job_id", 1), ("node", "n1"), ("reason", "fuzz")):
        if name in fields and fields[name].message_type is None:
            setattr(request, name, value)
    if "spec" in fields:
        request.spec.CopyFrom(spec)
    if "specs" in fields:
        request.specs.append(spec)
    return request


def _port(process: psutil.Process) -> int:
    return next(each.laddr.port for each in process.net_connections("tcp") if each.status == "LISTEN")


class _connections:
    """Connections that say nothing, half of something, or nonsense; open until the block is left."""

    def __init__(self, port: int, sizes: Sizes) -> None:
        self._port, self._sizes = port, sizes
        self._held = ExitStack()

    def __enter__(self) -> None:
        rng = Random(SEED)
        for number in range(self._sizes.idle_connections):
            self._open(HEADERS[: rng.randrange(len(HEADERS) + 1)] if number % 2 else b"")
        for _ in range(self._sizes.garbage_connections):
            with (
                socket.create_connection(("127.0.0.1", self._port), timeout=10) as connection,
                suppress(OSError),
            ):
                connection.sendall(rng.choice((b"", HEADERS)) + rng.randbytes(rng.randrange(400)))

    def _open(self, said: bytes) -> None:
        connection = self._held.enter_context(socket.create_connection(("127.0.0.1", self._port), timeout=10))
        connection.sendall(said)

    def __exit__(self, *_: object) -> None:
        self._held.close()


if __name__ == "__main__":
    sys.exit(run_benchmark("fuzz", measure, full=FULL, quick=QUICK))
