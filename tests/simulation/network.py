"""A virtual network: delay, broken connections, one-way and two-way partitions.

Order holds within a connection, as TCP keeps it, and between two connections it does not. What is
under way when a connection breaks is lost, in both directions, and neither side knows how much.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from random import Random
from typing import Any, Protocol

from simulation.virtual import WORLD

from gpusched.domain.commands import Queued
from gpusched.domain.errors import HeadUnavailable
from gpusched.domain.ids import NodeName
from gpusched.domain.link import CommandTaken

KEEPALIVE_S = 10.0
CONNECT_TIMEOUT_S = 5.0
CLOCK_GRAIN_S = 1e-5  # a timer may fire this much early


class Way(StrEnum):
    """A direction of travel."""

    TO_HEAD = "to head"
    TO_AGENT = "to agent"


class Listener(Protocol):
    """Who takes new connections."""

    def accept(self, connection: Connection) -> None: ...


class _Fin:
    """The other side has closed: the last thing that a pipe carries."""


class End:
    """One side of a connection."""

    def __init__(self) -> None:
        self.is_open = True
        self.incoming: asyncio.Queue[Any] = asyncio.Queue()

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self.incoming.put_nowait(_Fin)

    async def receive(self) -> AsyncIterator[Any]:
        """What arrives, until this end is closed from either side."""
        while (message := await self.incoming.get()) is not _Fin:
            if not self.is_open:
                return
            yield message


class _Pipe:
    """One direction: first in, first out."""

    def __init__(self, network: Network, node: NodeName, way: Way, target: End) -> None:
        self._network, self._node, self._way, self._target = network, node, way, target
        self._travelling: deque[tuple[float, Any]] = deque()
        self.is_cut = False

    def push(self, message: Any) -> None:
        if self.is_cut:
            return
        arrival_s = self._network.now_s() + self._network.delay_s()
        if self._travelling:
            arrival_s = max(arrival_s, self._travelling[-1][0])
        self._travelling.append((arrival_s, message))
        self._network.at(arrival_s, self.pump)

    def pump(self) -> None:
        """Deliver what has arrived; a partition holds it up, as TCP would send it again and again."""
        while (
            self._travelling
            and self._travelling[0][0] <= self._network.now_s() + CLOCK_GRAIN_S
            and not self.is_cut
            and not self._network.is_blocked(self._node, self._way)
        ):
            _, message = self._travelling.popleft()
            if message is _Fin:
                self._target.close()
            elif self._target.is_open:
                self._target.incoming.put_nowait(message)


class Connection:
    """One stream between an agent and the head."""

    def __init__(self, network: Network, node: NodeName) -> None:
        self.node = node
        self.agent_end, self.head_end = End(), End()
        self._network = network
        self._sent: dict[int, Queued] = {}
        self._pipes = {
            Way.TO_HEAD: _Pipe(network, node, Way.TO_HEAD, self.head_end),
            Way.TO_AGENT: _Pipe(network, node, Way.TO_AGENT, self.agent_end),
        }

    def _own(self, way: Way) -> End:
        """The end that sends that way."""
        return self.agent_end if way is Way.TO_HEAD else self.head_end

    def send(self, way: Way, message: Any) -> None:
        if not self._own(way).is_open:
            raise HeadUnavailable(f"the stream of {self.node} has ended")
        self._pipes[way].push(message)
        if isinstance(message, Queued):
            self._sent[message.seq] = message
        elif isinstance(message, CommandTaken) and message.seq in self._sent:
            self._network.taken.setdefault(self.node, []).append(self._sent[message.seq])

    def replay(self, message: Any) -> None:
        """Bring the agent a message of the past once more."""
        if self.head_end.is_open:
            self._pipes[Way.TO_AGENT].push(message)

    def close(self, way: Way) -> None:
        """Close the end that sends that way; the other side learns of it in time."""
        if self._own(way).is_open:
            self._own(way).close()
            self._pipes[way].push(_Fin)

    def vanish(self, way: Way) -> None:
        """The machine on that end lost power: nobody says anything."""
        self._own(way).close()

    def reset(self) -> None:
        """Lose everything under way; the ends notice, each in its own time."""
        for pipe in self._pipes.values():
            pipe.is_cut = True
        for end in (self.agent_end, self.head_end):
            self._network.at(self._network.now_s() + self._network.random.uniform(0, 2), end.close)

    def pump(self) -> None:
        for pipe in self._pipes.values():
            pipe.pump()

    @property
    def is_open(self) -> bool:
        return self.agent_end.is_open or self.head_end.is_open


class Network:
    """All connections, and what keeps messages from arriving.

    Args:
        random: Its own stream of the seed.
        latency_s: Mean of a message's delay.
    """

    def __init__(self, random: Random, latency_s: float) -> None:
        self.random = random
        self.listener: Listener | None = None
        self.connections: list[Connection] = []
        self.taken: dict[NodeName, list[Queued]] = {}  # commands that their node has acknowledged
        self._latency_s = latency_s
        self._blocks: dict[tuple[NodeName, Way], int] = {}  # how many partitions block it

    def now_s(self) -> float:
        return asyncio.get_running_loop().time()

    def at(self, when_s: float, call: Callable[[], object]) -> None:
        """Call then, whatever becomes of the process that asks."""
        loop = asyncio.get_running_loop()
        loop.call_at(when_s, call, context=WORLD)

    def delay_s(self) -> float:
        return self.random.expovariate(1 / self._latency_s)

    def is_blocked(self, node: NodeName, way: Way) -> bool:
        return self._blocks.get((node, way), 0) > 0

    def is_cut_off(self, node: NodeName) -> bool:
        """Whether no new connection can be made: that needs both ways."""
        return self.is_blocked(node, Way.TO_HEAD) or self.is_blocked(node, Way.TO_AGENT)

    def block(self, node: NodeName, ways: tuple[Way, ...], lasts_s: float) -> None:
        """Stop all messages that way for a while. Both ends of a connection time out, in their own time."""
        for way in ways:
            self._blocks[node, way] = self._blocks.get((node, way), 0) + 1
        healed_s = self.now_s() + lasts_s
        self.at(healed_s, lambda: self._unblock(node, ways))
        for connection in self.of(node):
            for end in (Way.TO_HEAD, Way.TO_AGENT):
                noticed_s = self.now_s() + KEEPALIVE_S * self.random.uniform(1, 2)
                if noticed_s < healed_s:
                    self.at(noticed_s, lambda c=connection, e=end: c.close(e))  # type: ignore[misc]

    def _unblock(self, node: NodeName, ways: tuple[Way, ...]) -> None:
        for way in ways:
            self._blocks[node, way] -= 1
        for connection in self.of(node):
            connection.pump()

    def of(self, node: NodeName) -> list[Connection]:
        """Its connections, oldest first: at a time there may be several, all but one dying."""
        self.connections = [c for c in self.connections if c.is_open]
        return [c for c in self.connections if c.node == node]

    async def connect(self, node: NodeName) -> Connection:
        """Open a stream from a node to the head.

        Raises:
            HeadUnavailable: Nobody answers.
        """
        await asyncio.sleep(self.delay_s())
        if self.is_cut_off(node):
            await asyncio.sleep(CONNECT_TIMEOUT_S)
            raise HeadUnavailable("no answer")
        if self.listener is None:
            raise HeadUnavailable("refused")
        connection = Connection(self, node)
        self.connections.append(connection)
        self.listener.accept(connection)
        return connection
