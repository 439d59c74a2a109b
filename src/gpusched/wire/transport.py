"""Sends calls and waits for the replies, in threads. ``async_transport.py`` is its twin on asyncio."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import grpc

from gpusched.domain.errors import GpuschedError
from gpusched.wire.calls import Stream, Unary
from gpusched.wire.channel import CHANNEL_OPTIONS, Persistence, Reach, error_of
from gpusched.wire.methods import Method

R = TypeVar("R")


def open_channel(reach: Reach) -> grpc.Channel:
    """A channel to the head; it connects when first used."""
    target = reach.address.target
    if reach.tls is None:
        return grpc.insecure_channel(target, options=CHANNEL_OPTIONS)
    return grpc.secure_channel(target, reach.tls.credentials(), options=reach.tls.options())


class Transport:
    """One channel to one head.

    Args:
        reach: Which head, with what credentials, and how long to wait for it.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._closed = threading.Event()
        self._channel = open_channel(reach)
        self._invokers: dict[str, Callable[..., Any]] = {}

    def unary(self, call: Unary[R]) -> R:
        """Send one request; return what its reply says.

        Raises:
            GpuschedError: As the head answered, or ``HeadUnavailable``.
        """
        persistence = self._reach.persistence()
        while True:
            try:
                metadata = persistence.metadata()
                invoke = self._invoker(call.method)
                return call.read(invoke(call.request, metadata=metadata, timeout=self._reach.timeout_s))
            except grpc.RpcError as failure:
                self._wait(persistence, error_of(failure, self._reach.address))
            except GpuschedError as error:
                self._wait(persistence, error)

    def stream(self, call: Stream[R]) -> Iterator[R]:
        """Send one request; iterate over what its replies say. Closing the iterator ends the call.

        Raises:
            GpuschedError: As the head answered, or ``HeadUnavailable``.
        """
        persistence = self._reach.persistence()
        while True:
            rpc = None
            try:
                metadata = persistence.metadata()
                rpc = self._invoker(call.method)(call.request, metadata=metadata)
                for reply in rpc:
                    persistence.succeeded()
                    call = call.after(reply)
                    yield call.read(reply)
                return
            except grpc.RpcError as failure:
                error = error_of(failure, self._reach.address)
                if call.cannot_resume:
                    raise error from failure
                self._wait(persistence, error)
            except GpuschedError as error:
                self._wait(persistence, error)
            finally:
                if rpc is not None:
                    rpc.cancel()

    def close(self) -> None:
        """End every call and the connection."""
        self._closed.set()
        self._channel.close()

    def _wait(self, persistence: Persistence, error: GpuschedError) -> None:
        """Wait before the next try, or raise ``error``: at once if the client was closed."""
        if self._closed.wait(persistence.delay_after(error)):
            raise error

    def _invoker(self, method: Method) -> Callable[..., Any]:
        invoke = self._invokers.get(method.path)
        if invoke is None:
            make = self._channel.unary_stream if method.gives_stream else self._channel.unary_unary
            invoke = self._invokers[method.path] = make(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.reply.FromString,
            )
        return invoke
