"""Sends calls and waits for the replies, in threads. ``async_transport.py`` is its twin on asyncio."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc

from gpusched.domain.errors import GpuschedError
from gpusched.wire.address import Address
from gpusched.wire.calls import Stream, Unary
from gpusched.wire.channel import CHANNEL_OPTIONS, Persistence, Reach, Reaches, error_of
from gpusched.wire.methods import Method

R = TypeVar("R")


def open_channel(reach: Reach) -> grpc.Channel:
    """A channel to the head; it connects when first used."""
    target = reach.address.target
    if reach.tls is None:
        return grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(target, reach.tls.credentials(), options=reach.tls.options())


class _Line:
    """The channel to one head."""

    def __init__(self, reach: Reach) -> None:
        self.channel = open_channel(reach)
        self._invokers: dict[str, Callable[..., Any]] = {}

    def invoker(self, method: Method) -> Callable[..., Any]:
        invoke = self._invokers.get(method.path)
        if invoke is None:
            make = self.channel.unary_stream if method.gives_stream else self.channel.unary_unary
            invoke = self._invokers[method.path] = make(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.reply.FromString,
            )
        return invoke


class Transport:
    """Channels to the heads of one cluster, each opened when first used.

    Args:
        reaches: Which heads, with what credentials, and how long to wait for them.
    """

    def __init__(self, reaches: Reaches) -> None:
        self._reaches = reaches
        self._closed = threading.Event()
        self._lines: dict[Address, _Line] = {}
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

    def _line(self, reach: Reach) -> _Line:
        with self._opening:
            if reach.address not in self._lines:
                self._lines[reach.address] = _Line(reach)
            return self._lines[reach.address]
