"""Our own agents as a backend: commands go down the stream that each agent holds open."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from gpusched.domain.commands import Queued
from gpusched.domain.ids import NodeName
from gpusched.domain.link import FromHead


@dataclass(eq=False, slots=True)
class Channel:
    """What waits to be sent to one agent. None at the end closes the stream."""

    node: NodeName
    outgoing: asyncio.Queue[FromHead | None] = field(default_factory=asyncio.Queue)
    is_greeted: bool = False  # its hello is committed


class BareMetal:
    """The engine's ``CommandSink`` over agent streams."""

    def __init__(self) -> None:
        self._channels: dict[NodeName, Channel] = {}
        self._arrivals: dict[NodeName, asyncio.Event] = {}

    def attach(self, node: NodeName) -> Channel:
        """Open a node's channel. A second agent of the same name replaces the first: it reconnected."""
        self.detach(self._channels.get(node))
        channel = self._channels[node] = Channel(node)
        if (arrived := self._arrivals.pop(node, None)) is not None:
            arrived.set()
        return channel

    def detach(self, channel: Channel | None) -> None:
        """Close a channel; one that was replaced already is fine."""
        if channel is None:
            return
        channel.outgoing.put_nowait(None)
        if self._channels.get(channel.node) is channel:
            del self._channels[channel.node]

    async def wait_connected(self, node: NodeName, timeout_s: float) -> bool:
        """Give a node a moment to (re)connect; whether it is connected then."""
        if node not in self._channels:
            arrived = self._arrivals.setdefault(node, asyncio.Event())
            try:
                async with asyncio.timeout(timeout_s):
                    await arrived.wait()
            except TimeoutError:
                return False
        return node in self._channels

    def is_connected(self, node: NodeName) -> bool:
        """Whether the node's agent holds a stream now."""
        return node in self._channels

    def send(self, node: NodeName, message: FromHead) -> bool:
        """Queue a message for a node; False if it is not connected."""
        channel = self._channels.get(node)
        if channel is None:
            return False
        channel.outgoing.put_nowait(message)
        return True

    def deliver(self, queued: Queued) -> bool:
        """Queue a command for its node; False if it is not connected (it is sent when it connects)."""
        return self.send(queued.command.node, queued)
