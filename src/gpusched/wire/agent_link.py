"""The agent's side of ``AgentService.Connect``: one stream, facts up and orders down.

    async with connect_agent(address, node) as link:
        await link.send(Hello(facts, attempts))
        async for message in link:
            ...

It ends with the connection; dialling again is the agent's decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from gpusched.domain.errors import HeadUnavailable, InvalidSpec
from gpusched.domain.ids import NodeName
from gpusched.domain.link import FromAgent, FromHead, Unreadable
from gpusched.v1 import agent_service_pb2 as pb
from gpusched.wire.address import Address
from gpusched.wire.async_transport import open_channel
from gpusched.wire.channel import Tls, error_of, tls_for
from gpusched.wire.convert import FROM_AGENT, FROM_HEAD
from gpusched.wire.credentials import token_source
from gpusched.wire.methods import METHODS
from gpusched.wire.tls import HEAD_NAME

CONNECT = METHODS["/gpusched.v1.AgentService/Connect"]


def _look_at(writing: asyncio.Future[None]) -> None:
    if not writing.cancelled():
        writing.exception()


class AgentLink:
    """An open stream. One task reads; any may send."""

    def __init__(self, call: Any, address: Address) -> None:
        self._call, self._address = call, address
        self._sending = asyncio.Lock()  # gRPC takes one write at a time

    async def send(self, message: FromAgent) -> None:
        """Hand a message to the connection; what has arrived is known only by the head's answers.

        Raises:
            GpuschedError: The stream has ended: ``HeadUnavailable``, or why the head ended it.
        """
        # Shielded: gRPC cancels the whole stream when a task is cancelled inside a write.
        writing = asyncio.ensure_future(self._write(FROM_AGENT.to_proto(message)))
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            writing.add_done_callback(
                _look_at
            )  # a stream that broke meanwhile is news to its reader, not to us
            raise

    async def _write(self, request: pb.ConnectRequest) -> None:
        async with self._sending:
            try:
                await self._call.write(request)
            except grpc.RpcError as failure:
                raise error_of(failure, self._address) from failure
            except asyncio.InvalidStateError as error:
                raise HeadUnavailable(f"the stream to {self._address.text} has ended") from error

    async def __aiter__(self) -> AsyncIterator[FromHead | Unreadable]:
        """Messages of the head, until it ends the stream. What a newer one says does not end it.

        Raises:
            GpuschedError: As ``send``.
        """
        try:
            async for reply in self._call:
                yield _read(reply)
        except grpc.RpcError as failure:
            raise error_of(failure, self._address) from failure


def _read(reply: pb.ConnectResponse) -> FromHead | Unreadable:
    try:
        return FROM_HEAD.from_proto(reply)
    except InvalidSpec as error:
        match reply.WhichOneof("message"):
            case "command":
                return Unreadable(str(error), command_seq=reply.command.seq)
            case "log_request":
                return Unreadable(str(error), stream_id=reply.log_request.stream_id)
            case _:
                return Unreadable(str(error))


@asynccontextmanager
async def connect_agent(
    address: Address, node: NodeName, *, token: str | None = None, ca_file: Path | None = None
) -> AsyncIterator[AgentLink]:
    """Open the stream of ``node``, an agent of this machine, by a token. Leaving the block ends it.

    Args:
        address: Of the head.
        node: Whose agent this is; the head's token socket signs the token for it.
        token: Where there is no such socket; None: as for ``Client``.
        ca_file: As for ``Client``.

    Raises:
        HeadUnavailable: Nobody answers (raised by the link's methods if found out later).
        NotPermitted: The head gives this user no agent's token.
    """
    shown = await asyncio.to_thread(token_source(address, token=token, node=node).token)
    async with _opened(address, tls_for(address, ca_file), (("authorization", f"Bearer {shown}"),)) as link:
        yield link


@asynccontextmanager
async def connect_member(
    address: Address, *, trusted: bytes, key: bytes, chain: bytes
) -> AsyncIterator[AgentLink]:
    """Open the stream of a node by its certificate. Leaving the block ends it.

    Args:
        address: Where the head hears agents.
        trusted: CA certificates by which the head must be known, PEM.
        key: Of the node's certificate, PEM.
        chain: The node's certificate first, PEM.

    Raises:
        HeadUnavailable: As ``connect_agent``; also if the head does not take the certificate.
    """
    async with _opened(address, Tls(trusted, key, chain, HEAD_NAME), ()) as link:
        yield link


@asynccontextmanager
async def _opened(
    address: Address, tls: Tls | None, metadata: tuple[tuple[str, str], ...]
) -> AsyncIterator[AgentLink]:
    async with open_channel(address, tls) as channel:
        invoke = channel.stream_stream(
            CONNECT.path,
            request_serializer=CONNECT.request.SerializeToString,
            response_deserializer=CONNECT.reply.FromString,
        )
        call = invoke(None, metadata=metadata)  # None: messages are written one by one
        try:
            yield AgentLink(call, address)
        finally:
            call.cancel()
