"""A real server over handlers that remember what they were asked and answer with set values."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from gpusched.domain.checkpoints import FailureHistory
from gpusched.domain.defrag import DefragPlan, JobMove
from gpusched.domain.diagnosis import Constraint, Diagnosis, FieldChange, Relaxation, RuledOut
from gpusched.domain.errors import Unauthenticated
from gpusched.domain.events import JobHeld, JobReleased, NodeReturned, Recorded
from gpusched.domain.identity import Identity, Principal, RankRef, Role
from gpusched.domain.ids import DeviceUuid, Epoch, JobId, NodeName
from gpusched.domain.job import Job
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import PendingReason
from gpusched.domain.link import Hello, Welcome
from gpusched.domain.logs import LogChunk
from gpusched.domain.membership import CertificateGiven, JoinTokenMade, Trust
from gpusched.domain.node import Device, Node, NodeFacts
from gpusched.domain.topology import NodePath, Topology, TopologyLevel
from gpusched.domain.usage import ChargeLine, CostReport, DeviceInterval, GroupBy, UsageClass
from gpusched.wire.async_client import AsyncClient
from gpusched.wire.client import Client
from gpusched.wire.handlers import Handlers, JobView, NodeView, Page, PlanPreview
from gpusched.wire.server import Server

ADA = Identity("ada", 1000, 1000)
N1 = NodeName("n1")

PRINCIPALS = {
    "user-token": Principal(ADA, frozenset({Role.USER})),
    "operator-token": Principal(ADA, frozenset({Role.USER, Role.OPERATOR})),
    "node-token": Principal(ADA, frozenset({Role.NODE}), N1),
    "rank-token": Principal(ADA, frozenset({Role.RANK}), rank=RankRef(JobId(7), Epoch(1), N1, 0)),
}

SPEC = JobSpec(name="train", command=("python", "train.py"), env=(("A", "1"),), time_limit_s=60)
JOB = JobView(
    job=Job(job_id=JobId(7), spec=SPEC, owner=ADA, submitted_at_us=5), pending_reason=PendingReason.RESOURCES
)
DIAGNOSIS = Diagnosis(
    message="waits for 1 node",
    reason=PendingReason.RESOURCES,
    nodes_wanted=1,
    nodes_total=2,
    nodes_fitting_now=0,
    nodes_fitting_empty=2,
    ruled_out=(RuledOut(Constraint.GPUS_FREE, 2, 8, "all taken"),),
    relaxations=(Relaxation("without nodelist", (FieldChange("nodelist", None),)),),
)
DEFRAG_PLAN = DefragPlan(
    message="moving 2 jobs with 3 GPUs makes room",
    gang_nodes=(N1,),
    moves=(
        JobMove(
            job_id=JobId(3), name="a", user="ada", gpus=1, from_nodes=(N1,), to_nodes=("n2",), lost_gpu_s=0.0
        ),
        JobMove(
            job_id=JobId(4), name="b", user="bob", gpus=2, from_nodes=(N1,), to_nodes=(), lost_gpu_s=None
        ),
    ),
    is_fewest=False,
    jobs_ahead=0,
)
PREVIEW = PlanPreview(diagnosis=DIAGNOSIS, plan=None, price_per_hour="2.50", currency="EUR")
EVENTS = (
    Recorded(3, 100, JobHeld(job_id=JobId(7), by="ada")),
    Recorded(4, 101, JobReleased(job_id=JobId(7), by="ada")),
)
CHUNKS = (
    LogChunk(global_rank=0, node=N1, offset=0, data=b"\xff one\n", epoch=Epoch(3)),
    LogChunk(global_rank=0, node=N1, offset=6, data=b"", is_last=True),
)
FABRIC = Topology((TopologyLevel("leaf", 50_000.0),), (NodePath("n1", ("l1",)),))
FACTS = NodeFacts(
    name=N1,
    boot_id="b",
    agent_version="1",
    address="10.0.0.1",
    interface="eth0",
    cpu_ids=(0, 1),
    cpus_pinnable=True,
    memory_bytes=1 << 40,
    devices=(Device(uuid=DeviceUuid("GPU-1"), model="H100", memory_bytes=80 << 30),),
    numa_cpu_ids=((0,), (1,)),
)
NODE = NodeView(
    node=Node(facts=FACTS, joined_at_us=1),
    sample=None,
    jobs=(JobId(7),),
    gpus_allocated=1,
    gpu_milli_allocated=1000,
    cpus_allocated=2,
    memory_allocated_bytes=0,
)
INTERVAL = DeviceInterval(
    node=N1,
    device=DeviceUuid("GPU-1"),
    model="H100",
    usage_class=UsageClass.UNALLOCATED,
    start_us=0,
    end_us=10,
)
FAILURES = FailureHistory(node_us=86_400_000_000, failures=2, restart_s=None)
REPORT = CostReport(
    currency="EUR",
    start_us=0,
    end_us=10,
    group_by=GroupBy.USER,
    lines=(ChargeLine("ada", UsageClass.PRODUCTIVE, 10, Decimal("1.2345"), Decimal("1.23")),),
    total=Decimal("1.23"),
    unpriced_models=("A10",),
)


@dataclass
class Memory:
    """What the handlers were asked, what they answer, and what they do before."""

    asked: list[tuple[Any, ...]] = field(default_factory=list)  # (verb, principal, *arguments)
    failure: Exception | None = None
    before: Awaitable[Any] | None = None  # awaited once, by the next call
    stream_is_open: asyncio.Event = field(default_factory=asyncio.Event)  # a stream reached its end ...
    stream_has_ended: asyncio.Event = field(default_factory=asyncio.Event)  # ... and was closed there
    streams_stay_open: bool = False
    greeted: list[Any] = field(default_factory=list)

    async def answer(self, *asked: Any, value: Any = None) -> Any:
        self.asked.append(asked)
        waiting, self.before = self.before, None
        if waiting is not None:
            await waiting
        if self.failure is not None:
            raise self.failure
        return value

    async def stream(self, *asked: Any, items: tuple[Any, ...]) -> AsyncIterator[Any]:
        await self.answer(*asked)
        try:
            for item in items:
                yield item
            if self.streams_stay_open:
                self.stream_is_open.set()
                await asyncio.Event().wait()
        finally:
            self.stream_has_ended.set()


class JobsInMemory:
    def __init__(self, memory):
        self.memory = memory

    async def submit(self, who, request_id, specs):
        ids = tuple(JobId(number) for number in range(1, len(specs) + 1))
        return await self.memory.answer("submit", who, request_id, tuple(specs), value=ids)

    async def plan(self, who, spec):
        return await self.memory.answer("plan", who, spec, value=PREVIEW)

    async def get(self, who, job_id):
        return await self.memory.answer("get", who, job_id, value=JOB)

    async def list(self, who, where, page_size, page_token):
        page = {None: Page((JOB, JOB), "more"), "more": Page((JOB,), None)}[page_token]
        return await self.memory.answer("list", who, where, page_size, page_token, value=page)

    async def cancel(self, who, request_id, job_id):
        await self.memory.answer("cancel", who, request_id, job_id)

    async def hold(self, who, request_id, job_id):
        await self.memory.answer("hold", who, request_id, job_id)

    async def release(self, who, request_id, job_id):
        await self.memory.answer("release", who, request_id, job_id)

    async def requeue(self, who, request_id, job_id, *, hold):
        await self.memory.answer("requeue", who, request_id, job_id, hold)

    async def plan_defrag(self, who, gang):
        return await self.memory.answer("plan_defrag", who, gang, value=DEFRAG_PLAN)

    def watch(self, who, job_ids, after_seq):
        events = tuple(event for event in EVENTS if event.seq > after_seq)
        return self.memory.stream("watch", who, tuple(job_ids), after_seq, items=events)

    def logs(self, who, job_id, *, epoch, ranks, since_us, tail_lines, follow, source, positions):
        begun = {position.global_rank: position.offset for position in positions}
        chunks = tuple(chunk for chunk in CHUNKS if chunk.offset >= begun.get(chunk.global_rank, 0))
        asked = (epoch, ranks, since_us, tail_lines, follow, source, positions)
        return self.memory.stream("logs", who, job_id, *asked, items=chunks)

    async def explain(self, who, job_id):
        return await self.memory.answer("explain", who, job_id, value=DIAGNOSIS)


NODE_EVENTS = (Recorded(7, 8, NodeReturned(node=NodeName("n1"))),)


class NodesInMemory:
    def __init__(self, memory):
        self.memory = memory

    async def list(self, who):
        return await self.memory.answer("list_nodes", who, value=(NODE,))

    async def get(self, who, node):
        return await self.memory.answer("get_node", who, node, value=NODE)

    async def fabric(self, who):
        return await self.memory.answer("fabric", who, value=FABRIC)

    async def cordon(self, who, request_id, node, reason):
        await self.memory.answer("cordon", who, request_id, node, reason)

    async def drain(self, who, request_id, node, reason, deadline_s):
        await self.memory.answer("drain", who, request_id, node, reason, deadline_s)

    async def resume(self, who, request_id, node):
        await self.memory.answer("resume", who, request_id, node)

    async def reset_breaker(self, who, request_id):
        await self.memory.answer("reset_breaker", who, request_id)

    async def events(self, who, node, limit):
        return await self.memory.answer("node_events", who, node, limit, value=NODE_EVENTS)


class AgentsInMemory:
    """Welcomes, then sends back whatever is put into ``orders`` until None."""

    def __init__(self, memory):
        self.memory = memory
        self.orders: asyncio.Queue[Any] = asyncio.Queue()

    async def connect(self, who, incoming):
        await self.memory.answer("connect", who)
        reading = asyncio.create_task(self.read(incoming))
        reading.add_done_callback(lambda _: self.orders.put_nowait(None))
        try:
            yield Welcome("test", 1.0, 15.0)
            while (order := await self.orders.get()) is not None:
                yield order
            if reading.done():
                reading.result()
        finally:
            reading.cancel()
            self.memory.stream_has_ended.set()

    async def read(self, incoming):
        async for message in incoming:
            self.memory.greeted.append(message)
            if isinstance(message, Hello):
                self.memory.stream_is_open.set()


class ReportsInMemory:
    def __init__(self, memory):
        self.memory = memory

    async def usage(self, who, start_us, end_us):
        return await self.memory.answer("usage", who, start_us, end_us, value=(INTERVAL,))

    async def failures(self, who):
        return await self.memory.answer("failures", who, value=FAILURES)

    async def cost(self, who, group_by, start_us, end_us):
        return await self.memory.answer("cost", who, group_by, start_us, end_us, value=REPORT)


class MembersInMemory:
    def __init__(self, memory):
        self.memory = memory

    async def trust(self):
        return await self.memory.answer("trust", value=Trust("test", b"PEM", None))

    async def create_token(self, who, digest, node, lifetime_s):
        made = JoinTokenMade("sha256:00", 1)
        return await self.memory.answer("create_token", who, digest, node, lifetime_s, value=made)

    async def join(self, token, node, signing_request):
        given = CertificateGiven(b"certificate", b"trusted")
        return await self.memory.answer("join", token, node, signing_request, value=given)

    async def revoke(self, who, node):
        return await self.memory.answer("revoke", who, node, value=1)


def authenticate(token: str) -> Principal:
    try:
        return PRINCIPALS[token]
    except KeyError:
        raise Unauthenticated(f"the token {token!r} does not hold") from None


class Head:
    """A server on a unix socket and on loopback TCP, and clients for it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.memory = Memory()
        self.agents = AgentsInMemory(self.memory)
        self.refused: set[str] = set()  # tokens that have ended meanwhile
        self.unix = f"unix://{home}/head.sock"
        self.tcp = "127.0.0.1:0"
        self._server: Server | None = None

    async def start(self, **options: Any) -> None:
        handlers = Handlers(
            jobs=JobsInMemory(self.memory),
            nodes=NodesInMemory(self.memory),
            agents=self.agents,
            reports=ReportsInMemory(self.memory),
            members=MembersInMemory(self.memory),
        )
        server = Server(handlers, self._authenticate, (self.unix, self.tcp), **options)
        await server.start()
        self._server = server
        self.tcp = server.addresses[1]

    def _authenticate(self, token: str) -> Principal:
        if token in self.refused:
            raise Unauthenticated("the token has expired")
        return authenticate(token)

    async def stop(self, grace_s: float = 0) -> None:
        if self._server is not None:
            await self._server.stop(grace_s)
            self._server = None


@asynccontextmanager
async def opened(kind: str, address: str, token: str | None = "operator-token", **options: Any):
    """Either client, with ``call(lambda client: ...)`` that gives results and lists alike."""
    if kind == "sync":
        client: Any = Client(address, token=token, **options)
        yield Caller(client, asyncio.to_thread)
        await asyncio.to_thread(client.close)
    else:
        async with AsyncClient(address, token=token, **options) as client:
            yield Caller(client, None)


class Caller:
    """Calls a verb of either client from a test's event loop."""

    def __init__(self, client: Any, in_thread: Any) -> None:
        self.client, self._in_thread = client, in_thread

    async def call(self, verb: Any) -> Any:
        if self._in_thread is not None:
            return await self._in_thread(lambda: collected(verb(self.client)))
        result = verb(self.client)
        if hasattr(result, "__aiter__"):
            return [item async for item in result]
        return await result


def collected(result: Any) -> Any:
    return list(result) if hasattr(result, "__next__") else result


async def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds, ten seconds at most."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("the condition did not come to hold")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
