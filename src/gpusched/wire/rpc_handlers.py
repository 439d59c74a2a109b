"""Puts a servicer on a server: finds its methods by the descriptors, turns what they raise into statuses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, cast

import grpc
import grpc.aio
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status

from gpusched.domain.errors import InvalidSpec, NotPermitted, Violation
from gpusched.domain.identity import Principal
from gpusched.wire.auth_interceptor import CALLER
from gpusched.wire.bounds import require_short_lists
from gpusched.wire.methods import JOB_FIELD, Method, methods_of
from gpusched.wire.status import abort_with, to_status

Context = grpc.aio.ServicerContext[Any, Any]


def service_handler(service: ServiceDescriptor, servicer: object) -> grpc.GenericRpcHandler[Any, Any]:
    """The handler of a whole service.

    Raises:
        AttributeError: ``servicer`` lacks a method that the service declares.
    """
    handlers = {
        method.name: _method_handler(method, getattr(servicer, method.name)) for method in methods_of(service)
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _method_handler(
    method: Method, serve: Callable[[Principal, Any], Any]
) -> grpc.RpcMethodHandler[Any, Any]:
    make: Any
    match (method.takes_stream, method.gives_stream):
        case (False, False):
            make, behaviour = grpc.unary_unary_rpc_method_handler, _unary(serve, partial(_parsed, method))
        case (False, True):
            make, behaviour = grpc.unary_stream_rpc_method_handler, _stream(serve, partial(_parsed, method))
        case _:
            make, behaviour = (
                grpc.stream_stream_rpc_method_handler,
                _stream(serve, partial(_all_parsed, method)),
            )
    return cast(
        "grpc.RpcMethodHandler[Any, Any]",
        make(
            behaviour,  # parses by itself: gRPC would call what does not parse a fault of ours
            response_serializer=method.reply.SerializeToString,
        ),
    )


def _parsed(method: Method, raw: bytes) -> Message:
    """The request that ``raw`` holds.

    Raises:
        InvalidSpec: It holds none: not protobuf, of another type, a text that is not UTF-8, too long a list.
    """
    try:
        require_short_lists(method.request, raw)
        return method.request.FromString(raw)
    except DecodeError as error:
        raise InvalidSpec(
            (Violation("request", f"is no {method.request.DESCRIPTOR.name}: {error}"),)
        ) from error


async def _all_parsed(method: Method, raws: AsyncIterator[bytes]) -> AsyncIterator[Message]:
    async for raw in raws:
        yield _parsed(method, raw)


def _unary(
    serve: Callable[[Principal, Any], Awaitable[Any]], parse: Callable[[Any], Any]
) -> Callable[[Any, Context], Awaitable[Any]]:
    async def served(raw: Any) -> Any:
        try:
            request = parse(raw)
            return await serve(_caller_about(request), request)
        except Exception as error:  # noqa: BLE001 - the top of an RPC: whatever it is, the caller gets a status
            return to_status(error)

    async def answer(raw: Any, context: Context) -> Any:
        reply = await served(raw)
        del raw
        if isinstance(reply, Status):
            await abort_with(context, reply)
        return reply

    return answer


def _stream(
    serve: Callable[[Principal, Any], AsyncIterator[Any]], parse: Callable[[Any], Any]
) -> Callable[[Any, Context], Awaitable[None]]:
    """Writes rather than yields, so that a caller that goes away ends ``serve``'s iterator at once."""

    async def served(raw: Any, context: Context) -> Status | None:
        try:
            request = parse(raw)
            async with aclosing(cast(Any, serve(_caller_about(request), request))) as replies:
                async for reply in replies:
                    await context.write(reply)
        except Exception as error:  # noqa: BLE001 - the top of an RPC: whatever it is, the caller gets a status
            return to_status(error)
        return None

    async def answer(raw: Any, context: Context) -> None:
        status = await served(raw, context)
        del raw
        if status is not None:
            await abort_with(context, status)

    return answer


def _caller_about(request: Any) -> Principal:
    """Who calls; a rank only if the request is about its own job.

    Raises:
        NotPermitted: A rank asked about another job.
    """
    who = CALLER.get()
    if who.rank is not None and getattr(request, JOB_FIELD, None) != who.rank.job_id:
        raise NotPermitted(f"this token is for a rank of job {who.rank.job_id} and for no other job")
    return who
