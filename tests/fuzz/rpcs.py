"""S2: a running head under requests that nobody would send, and under connections that talk nonsense.

What must hold: the head lives, nothing ends in INTERNAL or a traceback, its memory does not grow with what
it is sent, somebody else's requests are answered meanwhile, and the log loads again afterwards.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

import grpc
import grpc.aio
import psutil
from cluster import facts
from fuzz.messages import drawn, spoilt
from fuzz.target import (
    WITHOUT_RATE_LIMIT,
    good_request,
    node_token,
    operator_token,
    port_of,
    somebody_else,
    target_of,
    user_token,
)

from benchmarks.cluster import Head, running_head, temporary_home
from benchmarks.report import SEED, Figure, Measured, at_least, at_most, percentile, run_benchmark, say
from gpusched.domain.ids import NodeName
from gpusched.domain.link import Hello
from gpusched.wire.convert import FROM_AGENT
from gpusched.wire.methods import METHODS, Method

IN_FLIGHT = 24
MESSAGES_OF_A_STREAM = 20
HEADERS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each."""

    messages: int
    garbage_connections: int


FULL = Sizes(messages=100_000, garbage_connections=5_000)
QUICK = Sizes(messages=1_500, garbage_connections=200)


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
        head = Head(home, WITHOUT_RATE_LIMIT, tcp="127.0.0.1:0")
        with running_head(head):
            process = psutil.Process(head.pid)
            found = asyncio.run(_Trial(head, process, sizes).run())
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
    def __init__(self, head: Head, process: psutil.Process, sizes: Sizes) -> None:
        self._head, self._process, self._sizes = head, process, sizes
        home = head.home
        self._tokens = (operator_token(home), user_token(home), node_token(home, NodeName("n1")), None)
        self._told = Told(Counter(), [])
        self._target = target_of(head)
        self._next = iter(range(1 << 62))

    async def run(self) -> tuple[Told, Sequence[float], int]:
        """Answers, how long another's requests took, by how much memory grew."""
        await self._fuzz(min(self._sizes.messages // 20, 2_000))  # what is loaded on first use is no growth
        before = self._process.memory_info().rss
        async with somebody_else(self._head) as waits_s:
            _talk_nonsense(port_of(self._process), self._sizes.garbage_connections)
            await self._fuzz(self._sizes.messages)
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


async def _requests(method: Method, rng: Random) -> AsyncIterator[bytes]:
    if method.takes_stream:
        if rng.random() < 0.8:
            yield FROM_AGENT.to_proto(Hello(facts("n1"), ())).SerializeToString()
        for _ in range(rng.randrange(MESSAGES_OF_A_STREAM)):
            yield drawn(method.request.DESCRIPTOR, rng)
        return
    good = good_request(method)
    yield spoilt(good, rng) if rng.random() < 0.5 else drawn(method.request.DESCRIPTOR, rng)


def _talk_nonsense(port: int, connections: int) -> None:
    rng = Random(SEED)
    for _ in range(connections):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection, suppress(OSError):
            connection.sendall(rng.choice((b"", HEADERS)) + rng.randbytes(rng.randrange(400)))


if __name__ == "__main__":
    sys.exit(run_benchmark("fuzz.rpcs", measure, full=FULL, quick=QUICK))
