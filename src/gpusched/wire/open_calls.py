"""How many calls one subject may hold open, and how long a call may say nothing.

A server has room for so many calls at once (``server.RPCS_MAX``). Without this, anybody who reaches it could
take all of it with calls that are begun and never say what they ask.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from gpusched.domain.errors import InvalidSpec, TooManyRequests, Violation
from gpusched.wire.status import abort_with, to_status

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

STRANGERS_MAX = 1_024
"""Calls at once of all who show no credentials that hold."""

STREAMS_PER_USER_MAX = 2_048
"""Streams at once of one user: followed logs, watched jobs."""

FIRST_MESSAGE_S = 5.0


class OpenCalls:
    """Counts the calls that are open, by subject; ``None`` stands for every stranger."""

    def __init__(self) -> None:
        self._open: Counter[int | None] = Counter()

    def bounded(self, handler: Handler, uid: int | None) -> Handler:
        """``handler`` for a call of ``uid``: refused beyond the bound, or if what it asks does not come."""
        many: Any = handler.stream_stream
        return grpc.stream_stream_rpc_method_handler(
            self._counted(many or _one_request(handler), uid),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _counted(self, serve: Callable[[Any, Any], Any], uid: int | None) -> Callable[[Any, Any], Any]:
        limit = STRANGERS_MAX if uid is None else STREAMS_PER_USER_MAX

        async def answer(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            if self._open[uid] >= limit:
                whose = "without credentials" if uid is None else "of this user"
                error = TooManyRequests(f"{limit} calls {whose} are open: end some")
                await abort_with(context, to_status(error))
            self._open[uid] += 1
            try:
                served = serve(requests, context)
                if inspect.isasyncgen(served):  # gRPC takes either: reflection's is one
                    async for reply in served:
                        await context.write(reply)
                else:
                    await served
            finally:
                self._open[uid] -= 1
                if not self._open[uid]:
                    del self._open[uid]

        return answer


def _one_request(handler: Handler) -> Callable[[Any, Any], Any]:
    serve: Any = handler.unary_stream or handler.unary_unary

    async def answer(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        request = await first_of(requests)
        if request is None:
            error = InvalidSpec((Violation("request", "was not sent"),))
            await abort_with(context, to_status(error))
        serving = serve(request, context)
        del request  # the handler lets go of it as soon as it has read it
        reply = await serving
        if handler.unary_unary is not None:
            await context.write(reply)

    return answer


async def first_of(requests: AsyncIterator[Any]) -> Any:
    """The first message of a call; None if it does not come in time, or at all.

    Also who is refused must be heard to the end of it: a call that is ended while its caller still writes
    is reset, and gRPC for Python then tells the caller of an internal error in place of the status.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(FIRST_MESSAGE_S):
            return await anext(aiter(requests), None)
    return None
