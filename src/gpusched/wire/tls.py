"""TLS of heads and agents: what they show each other."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from gpusched.domain.errors import HeadUnavailable
from gpusched.wire.address import Address

HEAD_NAME = "head.gpusched.internal"
"""In every head's certificate: a member knows its heads by their CA, however it reaches them."""

CONNECT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Shown:
    """What a head shows, PEM: its private key and certificate chain, and whose certificates it takes."""

    key: bytes
    chain: bytes
    trusted: bytes | None = None  # None: it asks for none


def server_credentials(current: Callable[[], Shown]) -> grpc.ServerCredentials:
    """Credentials that ask ``current`` at every handshake, so that certificates change while serving.

    Raises:
        ValueError: gRPC takes none of it.
    """

    def configuration() -> Any:
        shown = current()
        return grpc.ssl_server_certificate_configuration(
            [(shown.key, shown.chain)], root_certificates=shown.trusted
        )

    first = current()
    return grpc.dynamic_ssl_server_credentials(
        configuration(), configuration, require_client_authentication=first.trusted is not None
    )


def peer_certificate(context: grpc.aio.ServicerContext[Any, Any]) -> bytes | None:
    """The certificate (PEM) that the caller proved to have, None if it showed none."""
    return next((bytes(pem) for pem in context.auth_context().get("x509_pem_cert", ())), None)


def is_local_peer(context: grpc.aio.ServicerContext[Any, Any]) -> bool:
    """Whether the caller is on this machine."""
    peer = context.peer()
    return peer.startswith(("unix:", "ipv4:127.", "ipv6:[::1]", "ipv6:%5B::1%5D"))


def served_certificate(address: Address) -> bytes:
    """The certificate (PEM) that is shown at ``address``, unchecked: for looking, not for trusting.

    Blocks for at most ``CONNECT_TIMEOUT_S``.

    Raises:
        HeadUnavailable: Nobody answers, or not in TLS.
    """
    assert address.host is not None and address.port is not None
    try:
        return ssl.get_server_certificate((address.host, address.port), timeout=CONNECT_TIMEOUT_S).encode()
    except (OSError, ValueError) as error:
        raise HeadUnavailable(f"no head answers at {address.text} in TLS: {error}") from error
