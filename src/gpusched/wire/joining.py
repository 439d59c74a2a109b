"""How an agent of another machine gets in: whom the cluster trusts, and its first certificate."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import grpc

from gpusched.domain.ids import NodeName
from gpusched.domain.membership import CertificateGiven, Trust
from gpusched.wire.address import Address
from gpusched.wire.async_transport import open_channel
from gpusched.wire.calls import Unary, get_trust, join_node
from gpusched.wire.channel import Tls, error_of
from gpusched.wire.tls import HEAD_NAME, served_certificate

TIMEOUT_S = 20.0
R = TypeVar("R")


async def ask_trust(address: Address, trusted: bytes | None) -> Trust:
    """Whom the cluster at ``address`` says it trusts, and where its agents are heard.

    Args:
        address: Of the head.
        trusted: CA certificates (PEM) by which the head must be known; None: whoever answers there is
            asked, and what it says proves nothing until a fingerprint is compared.

    Raises:
        GpuschedError: As the head answered, or ``HeadUnavailable``.
    """
    roots = await asyncio.to_thread(served_certificate, address) if trusted is None else trusted
    return await _ask(address, roots, get_trust())


async def ask_to_join(
    address: Address, trusted: bytes, *, token: str, node: NodeName, signing_request: bytes
) -> CertificateGiven:
    """Show the join token to the head that ``trusted`` (PEM) proves, and get a certificate.

    Raises:
        GpuschedError: As the head answered, or ``HeadUnavailable``.
    """
    return await _ask(address, trusted, join_node(token, node, signing_request))


async def _ask(address: Address, trusted: bytes, call: Unary[R]) -> R:
    async with open_channel(address, Tls(trusted, head_name=HEAD_NAME)) as channel:
        invoke = channel.unary_unary(
            call.method.path,
            request_serializer=call.method.request.SerializeToString,
            response_deserializer=call.method.reply.FromString,
        )
        try:
            return call.read(await invoke(call.request, timeout=TIMEOUT_S))
        except grpc.RpcError as failure:
            raise error_of(failure, address) from failure
