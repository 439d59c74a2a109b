"""S3: connections that say nothing or take their time, giant messages and giant lists.

What must hold: another user's calls are answered meanwhile, and the head's memory keeps nothing of it.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import grpc
import grpc.aio
import psutil
from fuzz.messages import BYTES, VARINT, field_of, sized
from fuzz.target import good_request, operator_token, port_of, somebody_else, target_of, user_token
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from benchmarks.cluster import Head, running_head, temporary_home, until
from benchmarks.report import Figure, Measured, at_least, at_most, percentile, run_benchmark
from gpusched.wire.methods import METHODS, Method

LARGE_BYTES = 64 << 20
LARGE_PATH = "/gpusched.v1.JobService/SubmitJobs"
SLOW_PAUSE_S = 0.05
SAMPLE_PAUSE_S = 0.05
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"  # and empty settings (RFC 9113, 3.4)
# The length of a frame of headers that never comes to its end.
UNENDING = PREFACE + b"\0\x3f\xff\1\0\0\0\0\1" + b"x" * 16_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of each."""

    idle_connections: int = 1_000
    slow_connections: int = 200
    large_messages: int = 20
    elements: int = 1_000_000
    rounds: int = 3  # of a list of so many elements in every list of every request


FULL = Sizes()
QUICK = Sizes(idle_connections=100, slow_connections=20, large_messages=3, elements=100_000, rounds=1)


def measure(sizes: Sizes) -> Measured:
    """Measure what others wait for and what the head keeps while it is pressed."""
    with temporary_home() as home:
        head = Head(home, tcp="127.0.0.1:0")
        with running_head(head):
            process = psutil.Process(head.pid)
            found = asyncio.run(_press(head, process, sizes))
            is_alive = process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        log = (home / "head.log").read_text(errors="replace")
    codes = found.codes
    broken = sum(codes[name] for name in ("INTERNAL", "UNKNOWN", "DATA_LOSS"))
    figures = [
        Figure("idle connections", sizes.idle_connections, ""),
        Figure("connections that send a byte at a time", sizes.slow_connections, ""),
        Figure("messages of 64 MiB", sizes.large_messages, ""),
        Figure(f"lists of {sizes.elements:,} elements", found.lists, "", at_least(1)),
        Figure("crashes of the head", 0 if is_alive else 1, "", at_most(0)),
        Figure("answers INTERNAL, UNKNOWN or DATA_LOSS to giants", broken, "", at_most(0)),
        Figure("tracebacks in the head's log under giants", log.count("Traceback"), "", at_most(0)),
        Figure("another user's requests that were answered", len(found.waits_s), "", at_least(10)),
        Figure("another user's requests, p99", percentile(found.waits_s, 99) * 1e3, "ms", at_most(1_000)),
        Figure("another user's requests, most", max(found.waits_s) * 1e3, "ms"),
        Figure("the head's memory, most", found.most / 2**20, "MiB", at_most(1_024)),
        Figure("growth of the head's memory, once it is over", found.grown / 2**20, "MiB"),
    ]
    return Measured(figures, {"codes": dict(codes)})


@dataclass(slots=True)
class _Found:
    codes: Counter[str]
    lists: int
    waits_s: list[float]
    most: int
    grown: int


async def _press(head: Head, process: psutil.Process, sizes: Sizes) -> _Found:
    port, target = port_of(process), target_of(head)
    tokens = (operator_token(head.home), user_token(head.home))
    await asyncio.to_thread(
        _attacked, port, target, tokens, Sizes(1, 1, 2, 1_000, 1)
    )  # what is loaded on first use
    before = most = process.memory_info().rss
    async with somebody_else(head) as waits_s:
        connections = _connections(process)
        attack = asyncio.create_task(asyncio.to_thread(_attacked, port, target, tokens, sizes))
        while not attack.done():
            most = max(most, process.memory_info().rss)
            await asyncio.wait((attack,), timeout=SAMPLE_PAUSE_S)
        codes, lists = attack.result()
        await asyncio.to_thread(
            until, lambda: _connections(process) <= connections, "the attackers to be gone"
        )
    return _Found(codes, lists, waits_s, most, process.memory_info().rss - before)


def _connections(process: psutil.Process) -> int:
    return len(process.net_connections())


def _attacked(port: int, target: str, tokens: tuple[str, ...], sizes: Sizes) -> tuple[Counter[str], int]:
    """Attack from a process of its own: others are not to wait for us."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as attacker:
        return attacker.apply(_attack, (port, target, tokens, sizes))


def _attack(port: int, target: str, tokens: tuple[str, ...], sizes: Sizes) -> tuple[Counter[str], int]:
    with _idle(port, sizes.idle_connections), _slow(port, sizes.slow_connections):
        return asyncio.run(_send_giants(target, tokens, sizes))


@contextmanager
def _idle(port: int, connections: int) -> Iterator[None]:
    """Connections that say nothing, or the beginning of something."""
    with ExitStack() as held:
        for number in range(connections):
            connection = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            connection.sendall(PREFACE[: number % (len(PREFACE) + 1)])
        yield


@contextmanager
def _slow(port: int, connections: int) -> Iterator[None]:
    """Connections that say one byte after the other and come again when they are thrown out."""
    over = threading.Event()
    slow = threading.Thread(target=_trickle, args=(port, connections, over))
    slow.start()
    try:
        yield
    finally:
        over.set()
        slow.join()


def _trickle(port: int, connections: int, over: threading.Event) -> None:
    held: dict[int, socket.socket] = {}
    said = dict.fromkeys(range(connections), 0)
    while not over.wait(SLOW_PAUSE_S):
        for number in range(connections):
            try:
                if number not in held:
                    held[number] = socket.create_connection(("127.0.0.1", port), timeout=30)
                    said[number] = 0
                place = said[number] % len(UNENDING)
                held[number].sendall(UNENDING[place : place + 1])
                said[number] += 1
            except OSError:
                with suppress(KeyError):
                    held.pop(number).close()
    for connection in held.values():
        connection.close()


async def _send_giants(target: str, tokens: tuple[str, ...], sizes: Sizes) -> tuple[Counter[str], int]:
    codes: Counter[str] = Counter()
    token_of = cycle((*tokens, "forged"))
    for _ in range(sizes.large_messages):
        codes[await _code(target, LARGE_PATH, bytes(LARGE_BYTES), next(token_of))] += 1
    lists = 0
    for _ in range(sizes.rounds):
        for method in METHODS.values():
            if method.takes_stream:
                continue
            for giant in _with_lists(method, sizes.elements):
                codes[await _code(target, method.path, giant, tokens[0])] += 1
                lists += 1
    return codes, lists


async def _code(target: str, path: str, request: bytes, token: str) -> str:
    options = (("grpc.max_send_message_length", -1),)
    async with grpc.aio.insecure_channel(target, options=options) as channel:
        metadata = (("authorization", f"Bearer {token}"),)
        call: Any = channel.unary_stream(path)(request, metadata=metadata, timeout=60)
        with suppress(grpc.aio.AioRpcError):
            await call.read()
        call.cancel()  # one answer of a stream is enough
        code = await call.code()
        # gRPC's own words for a message that it could not write any more: the head had answered before.
        return "CANCELLED" if (await call.details()) == "Internal error from Core" else str(code.name)


def _with_lists(method: Method, elements: int) -> Iterator[bytes]:
    """A good request with a giant list in each place that takes one."""
    good = good_request(method).SerializeToString()
    for around, field in _lists(method.request.DESCRIPTOR):
        data = _element(field) * elements
        for outer in reversed(around):
            data = field_of(outer.number, BYTES, sized(data))
        yield good + data


def _lists(
    descriptor: Descriptor, around: tuple[FieldDescriptor, ...] = ()
) -> Iterator[tuple[tuple[FieldDescriptor, ...], FieldDescriptor]]:
    for field in descriptor.fields:
        if field.is_repeated:
            yield around, field
        if field.message_type is not None and len(around) < 2:
            yield from _lists(field.message_type, (*around, field))


def _element(field: FieldDescriptor) -> bytes:
    """The least that one element takes on the wire."""
    if field.message_type is not None:
        return field_of(field.number, BYTES, b"\0")
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return field_of(field.number, BYTES, b"\1n")
    return field_of(field.number, VARINT, b"\1")


if __name__ == "__main__":
    sys.exit(run_benchmark("fuzz.exhaustion", measure, full=FULL, quick=QUICK))
