"""The head's gRPC server: a unix socket and loopback TCP by default, other interfaces only with TLS.

Health (grpc.health.v1) needs no credentials; everything else does, reflection too:

    grpcurl -plaintext -H "authorization: Bearer $(gpusched token)" localhost:7700 list
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gpusched.domain.errors import ConfigInvalid
from gpusched.domain.identity import Role
from gpusched.wire.address import Address, parse_address
from gpusched.wire.auth_interceptor import Authenticate, AuthInterceptor
from gpusched.wire.handlers import Handlers
from gpusched.wire.methods import METHODS, ROLES, SERVICES, require_roles
from gpusched.wire.rpc_handlers import service_handler
from gpusched.wire.servicers import AgentService, JobService, NodeService, ReportService
from gpusched.wire.unix_socket import claim_path, open_to_all

REQUEST_BYTES_MAX = 16 << 20
RPCS_MAX = 8_192
"""RPCs at once, a stream counting as long as it lives: room for thousands of agents and watchers."""

OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    # Two heads on one port would each get half of the calls: the second must fail to bind.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Agents and watchers ping every 20 s; below that gRPC calls it abuse.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """The head's certificate chain and private key, PEM."""

    certificate: Path
    key: Path


class Server:
    """Serves ``handlers`` from ``start`` to ``stop``.

    Args:
        handlers: What to serve.
        authenticate: Verifies a token.
        listen: Addresses: ``unix:///path`` (a dead server's file there is taken over), ``host:port``
            (port 0 takes a free one).
        tls: For TCP. Needed unless every address is local.
        roles: Who may call what, by the RPC's path.

    Attributes:
        addresses: Where it listens, with the ports that were taken; empty before ``start``.

    Raises:
        ConfigInvalid: A malformed address, TCP beyond loopback without TLS, or an RPC that nobody may call.
    """

    def __init__(
        self,
        handlers: Handlers,
        authenticate: Authenticate,
        listen: Sequence[str],
        *,
        tls: TlsFiles | None = None,
        roles: Mapping[str, frozenset[Role]] = ROLES,
    ) -> None:
        require_roles(METHODS, roles)
        self._handlers, self._tls = handlers, tls
        self._listen = tuple(_checked(text, tls) for text in listen)
        self._interceptor = AuthInterceptor(authenticate, roles)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._server: grpc.aio.Server | None = None
        self.addresses: tuple[str, ...] = ()

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigInvalid: A port or path is in use or cannot be bound, or the TLS files cannot be used.
        """
        server = grpc.aio.server(
            options=OPTIONS, interceptors=(self._interceptor,), maximum_concurrent_rpcs=RPCS_MAX
        )
        server.add_generic_rpc_handlers(self._services())
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [*(service.full_name for service in SERVICES), health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, server)
        self.addresses = await self._bind_all(server)
        await server.start()
        self._server = server
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let those in flight end for ``grace_s`` seconds, then cut them off."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        self._server = None
        _remove_sockets(self._listen)

    async def _bind_all(self, server: grpc.aio.Server) -> tuple[str, ...]:
        """Bind every address or none."""
        bound: list[Address] = []
        try:
            for address in self._listen:
                bound.append(_bind(server, address, self._tls))
        except ConfigInvalid:
            await server.stop(None)
            _remove_sockets(bound)
            raise
        return tuple(address.text for address in bound)

    def _services(self) -> tuple[grpc.GenericRpcHandler[Any, Any], ...]:
        handlers = self._handlers
        servicers: dict[str, object] = {
            "JobService": JobService(handlers.jobs),
            "NodeService": NodeService(handlers.nodes),
            "AgentService": AgentService(handlers.agents),
            "ReportService": ReportService(handlers.reports),
        }
        return tuple(service_handler(service, servicers[service.name]) for service in SERVICES)


def _checked(text: str, tls: TlsFiles | None) -> Address:
    address = parse_address(text)
    if tls is None and not address.is_local:
        raise ConfigInvalid(
            f"refusing to start: {text} can be reached from other machines and there is no TLS: "
            "give a certificate and a key, or listen on 127.0.0.1"
        )
    return address


def _remove_sockets(addresses: Iterable[Address]) -> None:
    for address in addresses:
        if address.socket is not None:
            address.socket.unlink(missing_ok=True)


def _bind(server: grpc.aio.Server, address: Address, tls: TlsFiles | None) -> Address:
    """Listen on ``address``; returns it with the port that was taken."""
    if address.socket is not None:
        _bind_socket(server, address.socket)
        return address
    port = _bind_tcp(server, address, tls)
    return parse_address(f"{address.text.rpartition(':')[0]}:{port}")


def _bind_socket(server: grpc.aio.Server, path: Path) -> None:
    claim_path(path)
    try:
        server.add_insecure_port(f"unix:{path}")
        open_to_all(path)
    except (RuntimeError, OSError) as error:
        raise ConfigInvalid(f"cannot listen on {path}: {error}") from error


def _bind_tcp(server: grpc.aio.Server, address: Address, tls: TlsFiles | None) -> int:
    if address.port != 0:
        _check_free(address)
    try:
        if tls is None:
            return server.add_insecure_port(address.text)
        pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
        return server.add_secure_port(address.text, grpc.ssl_server_credentials([pair]))
    except OSError as error:
        raise ConfigInvalid(f"a TLS file cannot be read: {error}") from error
    except RuntimeError as error:
        raise ConfigInvalid(
            f"cannot listen on {address.text}: another program has the port, or the TLS files are no "
            "certificate and its key"
        ) from error


def _check_free(address: Address) -> None:
    """Bind once for trial: unlike gRPC, the kernel says what is wrong, and writes nothing to our log."""
    try:
        host = address.host or ""
        family, _, _, _, where = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # its last user may linger
            trial.bind(where)
            trial.listen()
    except OSError as error:
        raise ConfigInvalid(
            f"cannot listen on {address.text}: {error.strerror}: choose another port (0 takes a free one) "
            "or an address of this machine"
        ) from error
