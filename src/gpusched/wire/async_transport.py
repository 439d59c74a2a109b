"""Sends calls and waits for the replies, on asyncio. ``transport.py`` is its twin in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeVar

import grpc
import grpc.aio

from gpusched.domain.errors import GpuschedError
from gpusched.wire.address import Address
from gpusched.wire.calls import Stream, Unary
from gpusched.wire.channel import CHANNEL_OPTIONS, Persistence, Reach, Reaches, Tls, error_of
from gpusched.wire.line import Line

R = TypeVar("R")


def open_channel(address: Address, tls: Tls | None) -> grpc.aio.Channel:
    """A channel to the head; it connects when first used."""
    if tls is None:
        return grpc.aio.insecure_channel(address.target, options=CHANNEL_OPTIONS)
    return grpc.aio.secure_channel(address.target, tls.credentials(), options=tls.options())


class AsyncTransport:
    """Channels to the heads of one cluster, each opened when first used.

    Args:
        reaches: Which heads, with what credentials, and how long to wait for them.
    """

    def __init__(self, reaches: Reaches) -> None:
        self._reaches = reaches
        self._lines: dict[Address, Line[grpc.aio.Channel]] = {}

    async def unary(self, call: Unary[R]) -> R:
        """Send one request; return what its reply says.

        Raises:
            GpuschedError: As the head answered, or ``HeadUnavailable``.
        """
        persistence = self._reaches.persistence()
        while True:
            try:
                metadata = await self._metadata(persistence)
                invoke = self._line(persistence.reach).invoker(call.method)
                reply = await invoke(call.request, metadata=metadata, timeout=persistence.reach.timeout_s)
                return call.read(reply)
            except grpc.RpcError as failure:
                error = error_of(failure, persistence.reach.address)
                await asyncio.sleep(persistence.delay_after(error))
            except GpuschedError as error:
                await asyncio.sleep(persistence.delay_after(error))

    async def stream(self, call: Stream[R]) -> AsyncIterator[R]:
        """Send one request; iterate over what its replies say. Closing the iterator ends the call.

        Raises:
            GpuschedError: As the head answered, or ``HeadUnavailable``.
        """
        persistence = self._reaches.persistence()
        while True:
            rpc = None
            try:
                metadata = await self._metadata(persistence)
                rpc = self._line(persistence.reach).invoker(call.method)(call.request, metadata=metadata)
                async for reply in rpc:
                    persistence.succeeded()
                    call = call.after(reply)
                    yield call.read(reply)
                return
            except grpc.RpcError as failure:
                error = error_of(failure, persistence.reach.address)
                await asyncio.sleep(persistence.delay_after(error))
            except GpuschedError as error:
                await asyncio.sleep(persistence.delay_after(error))
            finally:
                if rpc is not None:
                    rpc.cancel()

    async def close(self) -> None:
        """End every call and the connections."""
        for line in self._lines.values():
            await line.channel.close(None)

    async def _metadata(self, persistence: Persistence) -> tuple[tuple[str, str], ...]:
        """What the next try carries; a token that must be asked for is asked for in a thread."""
        if self._reaches.current.tokens.is_at_hand:
            return persistence.metadata()
        return await asyncio.to_thread(persistence.metadata)

    def _line(self, reach: Reach) -> Line[grpc.aio.Channel]:
        if reach.address not in self._lines:
            self._lines[reach.address] = Line(open_channel(reach.address, reach.tls))
        return self._lines[reach.address]
