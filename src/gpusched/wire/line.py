"""The channel to one head, and how its methods are called on it: the same in threads and on asyncio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc
import grpc.aio

from gpusched.wire.methods import Method

C = TypeVar("C", grpc.Channel, grpc.aio.Channel)


class Line(Generic[C]):
    """A channel, and the calls that were made ready on it."""

    def __init__(self, channel: C) -> None:
        self.channel: C = channel
        self._invokers: dict[str, Callable[..., Any]] = {}

    def invoker(self, method: Method) -> Callable[..., Any]:
        """What calls ``method``; made ready once."""
        invoke = self._invokers.get(method.path)
        if invoke is None:
            make = self.channel.unary_stream if method.gives_stream else self.channel.unary_unary
            invoke = self._invokers[method.path] = make(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.reply.FromString,
            )
        return invoke
