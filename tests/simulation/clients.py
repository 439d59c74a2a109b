"""Clients: they submit and change jobs, and repeat a request with its id until they hear an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Protocol

from simulation.checkers import MARK, Acknowledged
from simulation.head_model import HeadModel
from simulation.options import Options
from simulation.virtual import WORLD

from gpusched.domain.errors import GpuschedError, HeadUnavailable, Rejected, Unavailable
from gpusched.domain.identity import Identity, Principal, Role
from gpusched.domain.ids import JobId, NodeName, RequestId
from gpusched.domain.job_spec import JobSpec, OnDisconnect
from gpusched.engine.core import subject_of
from gpusched.engine.inputs import (
    CancelJob,
    CordonNode,
    DrainNode,
    HoldJob,
    ReleaseJob,
    Request,
    RequeueJob,
    ResumeNode,
    Submit,
)

ANSWER_TIMEOUT_S = 4.0
RETRY_S = 1.0
CHANGES = (CancelJob, HoldJob, ReleaseJob, RequeueJob)
Answer = tuple[JobId, ...] | GpuschedError


class Reach(Protocol):
    """How clients find the head."""

    serving: HeadModel | None
    has_faults: bool


class Client:
    """One user. Everything it hears goes to ``note``."""

    def __init__(
        self,
        who: Principal,
        *,
        reach: Reach,
        random: Random,
        options: Options,
        note: Callable[[Acknowledged], None],
    ) -> None:
        self._who, self._reach, self._random, self._options, self._note = who, reach, random, options, note
        self.jobs: list[JobId] = []
        self._count = 0

    async def run(self) -> None:
        """Do what a user does, spread over the time of the faults."""
        for _ in range(self._options.requests):
            await asyncio.sleep(self._random.expovariate(self._options.requests / self._options.faults_s))
            if self.jobs and self._random.random() < 0.4:
                kind = self._random.choice(CHANGES)
                job_id = self._random.choice(self.jobs)
                await self.insist(kind(who=self._who, request_id=self.request_id(), job_id=job_id))
            else:
                await self._submit()

    def request_id(self) -> RequestId:
        self._count += 1
        return RequestId(f"{self._who.identity.user}-{self._count}")

    async def insist(self, request: Request) -> Answer:
        """Send a request until it is answered; sometimes once more, and sometimes twice at once."""
        if self._random.random() < 0.1:
            first, second = await asyncio.gather(self._repeat(request), self._repeat(request))
            return first if isinstance(first, tuple) else second
        answer = await self._repeat(request)
        if self._random.random() < 0.1:
            await asyncio.sleep(self._random.uniform(0, 20))
            await self._repeat(request)
        return answer

    async def _repeat(self, request: Request) -> Answer:
        while True:
            answer = await self._call(request)
            if not isinstance(answer, Unavailable):
                self._heard(request, answer)
                return answer
            await asyncio.sleep(self._random.uniform(0, 2 * RETRY_S))

    async def _call(self, request: Request) -> Answer:
        """One try, over a network that may lose the request or its answer."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        latency_s = self._options.latency_s
        await asyncio.sleep(self._random.expovariate(1 / latency_s))
        head = self._reach.serving
        if head is None:
            return HeadUnavailable("refused")
        is_lost, is_answer_lost = self._loses(), self._loses()

        def reply(said: Answer) -> None:
            if not is_answer_lost:
                loop.call_later(self._random.expovariate(1 / latency_s), _settle, answer, said, context=WORLD)

        call = None if is_lost else head.ask(request, reply)
        try:
            async with asyncio.timeout(self._random.uniform(0.5, 2) * ANSWER_TIMEOUT_S):
                return await answer
        except TimeoutError:
            if call is not None:
                loop.call_later(self._random.expovariate(1 / latency_s), call.cancel)
            return HeadUnavailable("no answer")

    def _loses(self) -> bool:
        return self._reach.has_faults and self._random.random() < self._options.rpc_loss

    def _heard(self, request: Request, answer: Answer) -> None:
        assert isinstance(answer, tuple | Rejected), answer
        if isinstance(request, Submit) and isinstance(answer, tuple):
            self.jobs += [job_id for job_id in answer if job_id not in self.jobs]
        about = (request.job_id,) if isinstance(request, CHANGES) else ()
        self._note(
            Acknowledged(
                at_us=round(asyncio.get_running_loop().time() * 1e6),
                subject=subject_of(self._who),
                request_id=request.request_id,
                request=type(request).__name__,
                job_ids=answer if isinstance(request, Submit) and isinstance(answer, tuple) else about,
                refused=None if isinstance(answer, tuple) else type(answer).__name__,
            )
        )

    async def _submit(self) -> None:
        request_id = self.request_id()
        specs = tuple(self._spec(request_id, i) for i in range(self._random.choice((1, 1, 1, 2, 4))))
        await self.insist(Submit(who=self._who, request_id=request_id, specs=specs))

    def _spec(self, request_id: RequestId, number: int) -> JobSpec:
        random, options = self._random, self._options
        nodes = random.randint(1, options.nodes)
        tasks = random.randint(1, 2)
        work = {
            "SIM_LASTS_S": f"{random.choice((0.0, random.uniform(0, 5), random.uniform(0, 60))):.3f}",
            "SIM_TERM_S": f"{random.choice((0.0, random.uniform(0, 60))):.3f}",
        }
        if random.random() < 0.2:
            work["SIM_FAILS_S"] = f"{random.uniform(0, 20):.3f}"
            work["SIM_FAILED_RANK"] = str(random.randrange(nodes * tasks))
        return JobSpec(
            name="work",
            command=("work",),
            workdir="/",
            nodes=nodes,
            gpus_per_node=random.randint(0, options.gpus),
            tasks_per_node=tasks,
            time_limit_s=random.choice((None, None, 10, 40)),
            nice=random.choice((0, 0, 1)),
            env=tuple(work.items()),
            kill_wait_s=random.choice((0, 5, 30)),
            requeue=random.random() < options.requeue_share,
            on_disconnect=random.choice((None, None, None, OnDisconnect.FENCE, OnDisconnect.KEEP_RUNNING)),
            hold=random.random() < 0.05,
            comment=f"{MARK}{request_id}/{number}",
        )


class Operator(Client):
    """Cordons, drains and resumes nodes."""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(1 / (self._options.drain_s or 1e9)))
            node = NodeName(f"n{self._random.randint(1, self._options.nodes)}")
            await self.insist(self._change(node))

    def _change(self, node: NodeName) -> Request:
        who, request_id = self._who, self.request_id()
        match self._random.randrange(4):
            case 0:
                return CordonNode(who=who, request_id=request_id, node=node, reason="maintenance")
            case 1:
                deadline_s = self._random.choice((None, 1, 20))
                return DrainNode(
                    who=who, request_id=request_id, node=node, reason="maintenance", deadline_s=deadline_s
                )
            case _:
                return ResumeNode(who=who, request_id=request_id, node=node)

    async def resume(self, node: NodeName) -> None:
        """Open a node for work, if it is not."""
        await self._repeat(ResumeNode(who=self._who, request_id=self.request_id(), node=node))

    async def let_go(self, job_id: JobId) -> None:
        """A held job: release it or cancel it."""
        kind = self._random.choice((ReleaseJob, CancelJob))
        await self._repeat(kind(who=self._who, request_id=self.request_id(), job_id=job_id))


def user(number: int) -> Principal:
    """The user of that number."""
    return Principal(Identity(f"user{number}", 1000 + number, 1000), frozenset({Role.USER}))


OPERATOR = Principal(Identity("root", 0, 0), frozenset({Role.USER, Role.OPERATOR}))


def _settle(answer: asyncio.Future[Answer], said: Answer) -> None:
    if not answer.done():
        answer.set_result(said)
