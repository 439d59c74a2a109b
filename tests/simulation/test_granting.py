"""A head that is not sure to lead gives no node a lease: the one that leads does not know of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest
from cluster import facts
from simulation.disk import ModelStore
from simulation.head_model import Everybody, HeadClock, WatchedFeed
from simulation.virtual import VirtualLoop

from gpusched.api.agents import AgentApi
from gpusched.backends.bare_metal import BareMetal
from gpusched.domain.errors import NotLeading
from gpusched.domain.identity import Identity, Principal, Role
from gpusched.domain.ids import NodeName
from gpusched.domain.link import FromAgent, FromHead, Heartbeat, Hello, LeaseRenewed
from gpusched.domain.telemetry import NodeSample
from gpusched.engine.loop import Loop, LoopSettings
from gpusched.telemetry.latest import Latest

N1 = NodeName("n1")
WHO = Principal(Identity("agent", 0, 0), frozenset({Role.NODE}), N1)


class Agent:
    """One stream to a head that leads until it is told otherwise."""

    def __init__(self) -> None:
        self.leads = True
        self.heard: list[FromHead] = []
        self._up: asyncio.Queue[FromAgent] = asyncio.Queue()
        channels = BareMetal()
        self.loop = Loop(ModelStore(), channels, WatchedFeed(), HeadClock(), LoopSettings())
        self._api = AgentApi(
            self.loop,
            channels,
            Latest(),
            Everybody(),
            issue=lambda node, attempt_id: None,
            cluster="c",
            heartbeat_interval_s=1.0,
            lease_s=15.0,
            may_grant=lambda: self.leads,
        )
        self._running = asyncio.create_task(self.loop.run())

    async def _sent(self) -> AsyncIterator[FromAgent]:
        while True:
            yield await self._up.get()

    async def _listen(self) -> None:
        async for message in self._api.connect(WHO, self._sent()):
            self.heard.append(message)

    def connect(self) -> asyncio.Task[None]:
        self._up.put_nowait(Hello(facts("n1"), ()))
        return asyncio.create_task(self._listen())

    async def beat(self, seq: int) -> None:
        self._up.put_nowait(Heartbeat(seq, NodeSample(node=N1, sampled_at_us=0)))
        await asyncio.sleep(0.1)

    def renewed(self) -> list[int]:
        return [message.seq for message in self.heard if isinstance(message, LeaseRenewed)]


def in_virtual_time(story: Callable[[], Coroutine[object, object, None]]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(story())
    finally:
        loop.bury()


def test_a_heartbeat_that_no_sure_leader_hears_is_not_answered_and_sends_the_agent_away() -> None:
    async def story() -> None:
        agent = Agent()
        stream = agent.connect()
        await agent.beat(1)
        agent.leads = False
        await agent.beat(2)
        with pytest.raises(NotLeading):
            await stream
        assert agent.renewed() == [1]

    in_virtual_time(story)


def test_a_hello_grants_a_lease_too_and_is_refused() -> None:
    async def story() -> None:
        agent = Agent()
        agent.leads = False
        with pytest.raises(NotLeading):
            await agent.connect()
        assert agent.heard == []

    in_virtual_time(story)
