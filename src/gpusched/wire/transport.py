"""Sends calls and waits for the replies, in threads. ``async_transport.py`` is its twin on asyncio."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TypeVar

import grpc

from gpusched.domain.errors import GpuschedError
from gpusched.wire.address import Address
from gpusched.wire.calls import Stream, Unary
from gpusched.wire.channel import CHANNEL_OPTIONS, Persistence, Reach, Reaches, error_of
from gpusched.wire.line import Line

R = TypeVar("R")


def open_channel(reach: Reach) -> grpc.Channel:
    """A channel to the head; it connects when first used."""
    target = reach.address.target
    if reach.tls is None:
        return grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(target, reach.tls.credentials(), options=reach.tls.options())


class Transport:
    """Channels to the heads of one cluster, each opened when first used.

    Args:
        reaches: Which heads, with what credentials, and how long to wait for them.
    """

    def __init__(self, reaches: Reaches) -> None:
        self._reaches = reaches
        self._closed = threading.Event()
        self._lines: dict[Address, Line[grpc.Channel]] = {}
        self._opening = threading.Lock()

    def unary(self, call: Unary[R]) -> R:
        """Send one request; return what its reply says.

        Raises:
            GpuschedError: As the head answered, or ``HeadUnavailable``.
        """
        persistence = self._reaches.persistence()
        while True:
            try:
                metadata = persistence.metadata()
                invoke = self._line(persistence.reach).invoker(call.method)
                reply = invoke(call.request, metadata=metadata, timeout=persistence.reach.timeout_s)
                return call.read(reply)
            except grpc.RpcError as failure:
                self._wait(persistence, error_of(failure, persistence.reach.address))
            except GpuschedError as error:
                self._wait(persistence, error)

    def stream(self, call: Stream[R]) -> Iterator[R]:
        """Send one request; iterate over what its replies say. Closing the iterator ends the call.

        Raises:
            GpuschedError: As the head answered, or ``HeadUnavailable``.
        """
        persistence = self._reaches.persistence()
        while True:
            rpc = None
            try:
                metadata = persistence.metadata()
                rpc = self._line(persistence.reach).invoker(call.method)(call.request, metadata=metadata)
                for reply in rpc:
                    persistence.succeeded()
                    call = call.after(reply)
                    yield call.read(reply)
                return
            except grpc.RpcError as failure:
                self._wait(persistence, error_of(failure, persistence.reach.address))
            except GpuschedError as error:
                self._wait(persistence, error)
            finally:
                if rpc is not None:
                    rpc.cancel()

    def close(self) -> None:
        """End every call and the connections."""
        self._closed.set()
        with self._opening:
            for line in self._lines.values():
                line.channel.close()

    def _wait(self, persistence: Persistence, error: GpuschedError) -> None:
        """Wait before the next try, or raise ``error``: at once if the client was closed."""
        if self._closed.wait(persistence.delay_after(error)):
            raise error

    def _line(self, reach: Reach) -> Line[grpc.Channel]:
        with self._opening:
            if reach.address not in self._lines:
                self._lines[reach.address] = Line(open_channel(reach))
            return self._lines[reach.address]
