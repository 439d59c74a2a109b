"""S7: every payload in every text that users, operators and agents send, in files, and in jobs that run.

What must hold: nothing of it is carried out, the database keeps its shape, what comes back is what was sent,
tables on the command line never steer a terminal, and the logs stay one line an entry.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import grpc
import grpc.aio
from cluster import facts
from fuzz.effects import bad_log_lines, shape_of, steering, what_is_kept
from fuzz.launched import launch_all
from fuzz.payloads import payloads, spread
from fuzz.places import Place, places, put, shown, texts_at
from fuzz.target import WITHOUT_RATE_LIMIT, good_request, node_token, operator_token, target_of
from fuzz.written import specs_of_files

from benchmarks.cluster import Head, running_agents, running_head, temporary_home
from benchmarks.report import Figure, Measured, at_least, at_most, run_benchmark, say
from gpusched.domain.ids import NodeName
from gpusched.domain.link import Hello
from gpusched.v1 import job_pb2
from gpusched.wire.convert import FROM_AGENT
from gpusched.wire.methods import METHODS, Method

SAME_JOB = {"SubmitJobs", "PlanJob", "PlanDefrag"}  # their job is read as SubmitJob's is
GET = METHODS["/gpusched.v1.JobService/GetJob"]
CONNECT = METHODS["/gpusched.v1.AgentService/Connect"]
FACTS = "hello.facts"
BROKEN = {"INTERNAL", "UNKNOWN", "DATA_LOSS"}
IN_FLIGHT = 16
NODES = 64
ANSWER_S = 60.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many payloads, in how many of them jobs are launched, and how many jobs and nodes are looked at."""

    payloads: int = 10_000
    launched: int = 10_000
    shown: int = 60


FULL = Sizes()
QUICK = Sizes(payloads=40, launched=6, shown=3)


@dataclass(slots=True)
class Sent:
    """What was sent and what came of it."""

    codes: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)  # by place
    broken: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    job_ids: set[int] = field(default_factory=set)

    def note(self, code: grpc.StatusCode, where: str, text: str) -> None:
        """Count an answer."""
        self.codes[code.name] += 1
        self.taken[where] += code is grpc.StatusCode.OK
        if code.name in BROKEN:
            self.broken.append(f"{where} {text!a}")


def measure(sizes: Sizes) -> Measured:
    """Measure what hostile text does to a head, an agent, a database and a terminal."""
    with temporary_home() as home:
        canary = home / "canary"
        texts = spread(payloads(canary), sizes.payloads)
        head = Head(home, WITHOUT_RATE_LIMIT)
        with running_head(head):
            shape = shape_of(home)
            with running_agents(head, ("n1",), "--devices", "none", "--cpus", "64"):
                sent = asyncio.run(_Trial(head, texts).run())
                written = specs_of_files(head, texts)
                say(f"{len(texts)} payloads in job files; {len(written.job_ids)} jobs of them taken")
                launched = launch_all(head, texts, spread(texts, sizes.launched))
                say(f"{launched.jobs} jobs launched")
                job_ids = sent.job_ids | written.job_ids | launched.job_ids
                steered = steering(head, spread(tuple(sorted(job_ids)), sizes.shown), sizes.shown)
        kept = what_is_kept(home, shape, len(job_ids))
        lines = bad_log_lines(home)
        is_carried_out = any(canary.parent.rglob(f"{canary.name}*"))
    figures = [
        Figure("payloads", len(texts), "", at_least(min(sizes.payloads, 2_000))),
        Figure("messages with a payload, all places", sum(sent.codes.values()), "", at_least(len(texts))),
        Figure("places for text in requests and in a node's facts", len(sent.taken), "", at_least(20)),
        Figure("jobs with a payload that were launched", launched.jobs, "", at_least(1)),
        Figure("payloads that were carried out", int(is_carried_out), "", at_most(0)),
        Figure("answers INTERNAL, UNKNOWN or DATA_LOSS to payloads", len(sent.broken), "", at_most(0)),
        Figure("texts that came back changed", len(sent.changed) + len(launched.changed), "", at_most(0)),
        Figure("jobs listed by a filter that they do not fit", len(sent.foreign), "", at_most(0)),
        Figure("job files that ended in no clear refusal", len(written.broken), "", at_most(0)),
        Figure("faults of the database afterwards", len(kept), "", at_most(0)),
        Figure("control characters on terminals and in pipes", len(steered), "", at_most(0)),
        Figure("log lines that are no line of their own", len(lines), "", at_most(0)),
    ]
    details = {
        "codes": dict(sent.codes),
        "taken": dict(sent.taken),
        "broken": [*sent.broken[:20], *written.broken[:20]],
        "changed": [*sent.changed[:20], *launched.changed[:20]],
        "foreign": sent.foreign[:20],
        "database": kept,
        "steered": steered[:20],
        "lines": lines[:20],
    }
    return Measured(figures, details)


class _Trial:
    def __init__(self, head: Head, texts: Sequence[str]) -> None:
        self._head, self._texts = head, texts
        self._sent = Sent()
        self._token = operator_token(head.home)
        self._next = iter(range(1 << 62))

    async def run(self) -> Sent:
        """Nodes first, so that there is something to cordon; then everything that people send."""
        of_facts = [place for place in places(CONNECT.request.DESCRIPTOR) if shown(place).startswith(FACTS)]
        async with grpc.aio.insecure_channel(target_of(self._head)) as channel:
            hellos = enumerate(product(of_facts, self._texts))
            await _all(self._say_hello(channel, number, *said) for number, said in hellos)
            say(f"{sum(self._sent.codes.values())} messages of agents")
            for method in METHODS.values():
                if not method.takes_stream and method.name not in SAME_JOB:
                    asked = product(places(method.request.DESCRIPTOR), self._texts)
                    await _all(self._ask(channel, method, *each) for each in asked)
            say(f"{sum(self._sent.codes.values())} messages")
        return self._sent

    async def _say_hello(self, channel: Any, number: int, place: Place, text: str) -> None:
        node = NodeName(f"n{number % NODES + 2}")
        hello = FROM_AGENT.to_proto(Hello(facts(node), ()))
        put(hello, place, text)
        call = channel.stream_stream(CONNECT.path)(
            iter([hello.SerializeToString()]),
            metadata=_bearer(node_token(self._head.home, node)),
            timeout=ANSWER_S,
        )
        with suppress(grpc.aio.AioRpcError):
            if await call.read() is not grpc.aio.EOF:
                self._sent.note(grpc.StatusCode.OK, shown(place), text)
                call.cancel()
                return
        self._sent.note(await call.code(), shown(place), text)

    async def _ask(self, channel: Any, method: Method, place: Place, text: str) -> None:
        request, where = good_request(method), f"{method.name}.{shown(place)}"
        if place[0].name != "request_id" and "request_id" in method.request.DESCRIPTOR.fields_by_name:
            request.request_id = f"s7-{next(self._next)}"
        if shown(place) == "spec.script":
            request.spec.ClearField("command")
            text = f"#!/bin/true\n{text}"
        elif shown(place) == "spec.workdir":
            text = f"/{text}"
        elif shown(place) == "spec.activation.target":
            request.spec.activation.kind = job_pb2.ACTIVATION_KIND_VENV
        elif shown(place) == "spec.gpu_model":
            request.spec.gpus_per_node = 1
        put(request, place, text)
        reply = await self._call(channel, method, request, where, text)
        if reply is None:
            return
        if method.name == "SubmitJob":
            self._sent.job_ids.add(reply.job_id)
            read = await self._call(channel, GET, GET.request(job_id=reply.job_id), "GetJob", text)
            if read is None or (place[0].name == "spec" and text not in texts_at(read.job, place)):
                self._sent.changed.append(f"{where} {text!a}")
        elif method.name == "ListJobs":
            self._sent.foreign += [f"{where} {text!a}" for job in reply.jobs if job.spec.name != text]

    async def _call(self, channel: Any, method: Method, request: Any, where: str, text: str) -> Any:
        """The first answer; None where there is none."""
        call = channel.unary_stream(method.path, response_deserializer=method.reply.FromString)(
            request.SerializeToString(), metadata=_bearer(self._token), timeout=ANSWER_S
        )
        reply = None
        with suppress(grpc.aio.AioRpcError):
            read = await call.read()
            reply = None if read is grpc.aio.EOF else read
        self._sent.note(await call.code() if reply is None else grpc.StatusCode.OK, where, text)
        return reply


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def _all(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them, a bounded number at once."""
    waiting = iter(calls)

    async def work() -> None:
        for call in waiting:
            await call

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(work())


if __name__ == "__main__":
    sys.exit(run_benchmark("fuzz.injection", measure, full=FULL, quick=QUICK))
