"""The head's gRPC server: a unix socket and loopback TCP by default, other interfaces only with TLS 1.3.

Agents of other machines have a port of their own, where a caller must show a certificate: gRPC for
Python asks every caller of a port for one, or none.

Health (grpc.health.v1) needs no credentials; everything else does, reflection too:

    grpcurl -plaintext -H "authorization: Bearer $(gpusched token)" localhost:7700 list
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from gpusched.domain.errors import ConfigInvalid, GpuschedError, NotLeading
from gpusched.domain.identity import Principal, Role
from gpusched.wire.address import Address, parse_address
from gpusched.wire.auth_interceptor import Authenticate, AuthenticatePeer, AuthInterceptor, refusal
from gpusched.wire.bounds import REQUEST_BYTES_MAX
from gpusched.wire.handlers import Handlers
from gpusched.wire.methods import METHODS, ROLES, SERVICES, require_roles
from gpusched.wire.rpc_handlers import service_handler
from gpusched.wire.servicers import AgentService, JobService, MemberService, NodeService, ReportService
from gpusched.wire.tls import Shown, server_credentials
from gpusched.wire.unix_socket import claim_path, open_to_all

RPCS_MAX = 8_192
"""RPCs at once, a stream counting as long as it lives: room for thousands of agents and watchers."""

STREAMS_MAX = 1_024
"""RPCs at once on one connection."""

OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", REQUEST_BYTES_MAX),
    ("grpc.max_send_message_length", -1),
    # Two heads on one port would each get half of the calls: the second must fail to bind.
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Agents and watchers ping every 12 s; what comes much faster gRPC calls abuse.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Who connects and says nothing, or says what is not HTTP/2, is cut off; so is who has nothing to ask.
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 600_000),
    ("grpc.max_concurrent_streams", STREAMS_MAX),
)


@dataclass(frozen=True, slots=True)
class Door:
    """One address and what is shown there; None: nothing, callers speak in the clear."""

    address: Address
    tls: Callable[[], Shown] | None


@dataclass(frozen=True, slots=True)
class AgentsDoor:
    """Where agents of other machines are heard. ``tls`` names whose certificates are taken."""

    address: str
    tls: Callable[[], Shown]


class Server:
    """Serves ``handlers`` from ``start`` to ``stop``; without any it stands by, until ``serve``.

    One that stands by says so: health is NOT_SERVING, and every RPC gets ``why_not``'s error.

    Args:
        handlers: What to serve; None: nothing yet.
        authenticate: Verifies a token.
        listen: Addresses: ``unix:///path`` (a dead server's file there is taken over), ``host:port``
            (port 0 takes a free one).
        tls: What to show on TCP, asked at every handshake. Needed unless every address is local.
        agents: For agents of other machines; None: none.
        roles: Who may call what, by the RPC's path.
        why_not: What callers are told while there are no handlers.

    Attributes:
        addresses: Where it listens, with the ports that were taken; empty before ``start``.
        agents_port: Where it hears agents of other machines; None: nowhere, or before ``start``.

    Raises:
        ConfigInvalid: A malformed address, TCP beyond loopback without TLS, or an RPC that nobody may call.
    """

    def __init__(
        self,
        handlers: Handlers | None,
        authenticate: Authenticate,
        listen: Sequence[str],
        *,
        tls: Callable[[], Shown] | None = None,
        agents: AgentsDoor | None = None,
        roles: Mapping[str, frozenset[Role]] = ROLES,
        why_not: Callable[[], GpuschedError] = lambda: NotLeading("this head stands by"),
    ) -> None:
        require_roles(METHODS, roles)
        self._listen = [Door(parse_address(text), tls) for text in listen]
        self._agents = [] if agents is None else [Door(parse_address(agents.address), agents.tls)]
        for door in (*self._listen, *self._agents):
            _check_door(door)
        self._services = _Services(why_not)
        if handlers is not None:
            self._services.switch_to(handlers)

        def no_peer(_: bytes) -> Principal:
            raise why_not()

        self._interceptor = AuthInterceptor(authenticate, no_peer, roles)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._server: grpc.aio.Server | None = None
        self.addresses: tuple[str, ...] = ()
        self.agents_port: int | None = None

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigInvalid: A port or path is in use or cannot be bound, or the TLS files cannot be used.
        """
        server = grpc.aio.server(
            options=OPTIONS, interceptors=(self._interceptor,), maximum_concurrent_rpcs=RPCS_MAX
        )
        server.add_generic_rpc_handlers((self._services,))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [*(service.full_name for service in SERVICES), health.SERVICE_NAME, reflection.SERVICE_NAME]
        reflection.enable_server_reflection(names, server)
        await self._bind_all(server)
        await server.start()
        self._server = server
        for name in (health.SERVICE_NAME, reflection.SERVICE_NAME):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        await self._tell_health()

    async def serve(
        self, handlers: Handlers, authenticate: Authenticate, authenticate_peer: AuthenticatePeer
    ) -> None:
        """Stand by no longer."""
        self._interceptor.authenticate = authenticate
        self._interceptor.authenticate_peer = authenticate_peer
        self._services.switch_to(handlers)
        await self._tell_health()

    async def _tell_health(self) -> None:
        status = health_pb2.HealthCheckResponse
        for name in ("", *(service.full_name for service in SERVICES)):
            await self._health.set(name, status.SERVING if self._services.is_serving else status.NOT_SERVING)

    async def stop(self, grace_s: float) -> None:
        """Take no new calls, let those in flight end for ``grace_s`` seconds, then cut them off."""
        if self._server is None:
            return
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)
        self._server = None
        _remove_sockets(door.address for door in self._listen)

    async def _bind_all(self, server: grpc.aio.Server) -> None:
        """Bind every address or none."""
        bound: list[Address] = []
        try:
            for door in (*self._listen, *self._agents):
                bound.append(_bind(server, door))
        except ConfigInvalid:
            await server.stop(None)
            _remove_sockets(bound)
            raise
        self.addresses = tuple(address.text for address in bound[: len(self._listen)])
        self.agents_port = bound[-1].port if self._agents else None


class _Services(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Every RPC of gpusched; refused until there are handlers."""

    def __init__(self, why_not: Callable[[], GpuschedError]) -> None:
        self._why_not = why_not
        self._inner: tuple[grpc.GenericRpcHandler[Any, Any], ...] = ()

    @property
    def is_serving(self) -> bool:
        return bool(self._inner)

    def switch_to(self, handlers: Handlers) -> None:
        servicers: dict[str, object] = {
            "JobService": JobService(handlers.jobs),
            "NodeService": NodeService(handlers.nodes),
            "AgentService": AgentService(handlers.agents),
            "ReportService": ReportService(handlers.reports),
            "MemberService": MemberService(handlers.members),
        }
        self._inner = tuple(service_handler(service, servicers[service.name]) for service in SERVICES)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        if not self._inner and details.method in METHODS:
            return refusal(self._why_not())
        return next(filter(None, (inner.service(details) for inner in self._inner)), None)


def _check_door(door: Door) -> None:
    if door.tls is None and not door.address.is_local:
        raise ConfigInvalid(
            f"refusing to start: {door.address.text} can be reached from other machines and there is no TLS: "
            "make a CA with `gpusched ca init`, give a certificate and a key, or listen on 127.0.0.1"
        )


def _remove_sockets(addresses: Iterable[Address]) -> None:
    for address in addresses:
        if address.socket is not None:
            address.socket.unlink(missing_ok=True)


def _bind(server: grpc.aio.Server, door: Door) -> Address:
    """Listen at ``door``; returns its address with the port that was taken."""
    address = door.address
    if address.socket is not None:
        _bind_socket(server, address.socket)
        return address
    port = _bind_tcp(server, address, door.tls)
    return parse_address(f"{address.text.rpartition(':')[0]}:{port}")


def _bind_socket(server: grpc.aio.Server, path: Path) -> None:
    claim_path(path)
    try:
        server.add_insecure_port(f"unix:{path}")
        open_to_all(path)
    except (RuntimeError, OSError) as error:
        raise ConfigInvalid(f"cannot listen on {path}: {error}") from error


def _bind_tcp(server: grpc.aio.Server, address: Address, tls: Callable[[], Shown] | None) -> int:
    if address.port != 0:
        _check_free(address)
    try:
        if tls is None:
            return server.add_insecure_port(address.text)
        return server.add_secure_port(address.text, server_credentials(tls))
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
