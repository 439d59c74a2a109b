"""Lets nobody through whom it does not know: every RPC needs a token that holds and a role that may call it.

It stands before the request is parsed. What is neither public nor in the role table is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from gpusched.domain.errors import GpuschedError, NotPermitted, Unauthenticated
from gpusched.domain.identity import ANONYMOUS, Principal, Role
from gpusched.wire.methods import PUBLIC, ROLES
from gpusched.wire.open_calls import OpenCalls, first_of
from gpusched.wire.status import abort_with, to_status
from gpusched.wire.tls import is_local_peer, peer_certificate

log = logging.getLogger(__name__)

Authenticate = Callable[[str], Principal]
"""From a token to whom it names; raises what refuses the call. Remembering the answer is its affair."""

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

CALLER: ContextVar[Principal] = ContextVar("caller")
"""Who makes the RPC that is being handled."""

_PREFIX = "Bearer "


AuthenticatePeer = Callable[[bytes], Principal]
"""From a certificate (PEM) that TLS has checked to whom it names; raises what refuses it."""


class AuthInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Authenticates, then checks the role.

    Args:
        authenticate: Verifies a token.
        authenticate_peer: Verifies a node's certificate.
        roles: Who may call what, by path.

    Attributes:
        authenticate: As given; may be replaced while RPCs come in.
        authenticate_peer: Likewise.
    """

    def __init__(
        self,
        authenticate: Authenticate,
        authenticate_peer: AuthenticatePeer,
        roles: Mapping[str, frozenset[Role]] = ROLES,
    ) -> None:
        self.authenticate, self.authenticate_peer = authenticate, authenticate_peer
        self._roles = roles
        self._open = OpenCalls()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of the RPC, or one that refuses it."""
        path = handler_call_details.method
        CALLER.set(ANONYMOUS)
        if path in PUBLIC:
            return self._open.bounded(await continuation(handler_call_details), None)
        allowed = self._roles.get(path, frozenset())
        try:
            token = _token(handler_call_details.invocation_metadata)
            caller = None if token is None and Role.NODE in allowed else self.authenticate(_shown(token))
            handler = await continuation(handler_call_details)
            if handler is not None and caller is not None:
                _check_role(path, caller, allowed)
        except GpuschedError as error:
            log.info("refused %s: %s", path, error)
            return self._open.bounded(refusal(error), None)
        if caller is not None:
            CALLER.set(caller)
        if handler is None:
            return handler
        if caller is not None and caller.node is None:
            return handler if handler.unary_unary else self._open.bounded(handler, caller.identity.uid)
        return self._for_nodes(path, handler, caller)

    def _for_nodes(self, path: str, handler: Handler, by_token: Principal | None) -> Handler:
        """``handler`` for an agent: by its certificate, or by its token if it is on this machine."""
        serve: Any = handler.stream_stream  # of the stubs' two kinds of server, the asynchronous one's

        async def answer(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
            try:
                CALLER.set(self._node(by_token, context))
            except GpuschedError as error:
                log.warning("refused %s from %s: %s", path, context.peer(), error)
                await first_of(requests)
                await abort_with(context, to_status(error))
            await serve(requests, context)

        return grpc.stream_stream_rpc_method_handler(
            answer, handler.request_deserializer, handler.response_serializer
        )

    def _node(self, by_token: Principal | None, context: grpc.aio.ServicerContext[Any, Any]) -> Principal:
        certificate = peer_certificate(context)
        if by_token is None and certificate is None:
            raise Unauthenticated(_NO_CREDENTIALS)
        if certificate is None and not is_local_peer(context):
            raise NotPermitted(
                "an agent on another machine needs a certificate of the cluster: `gpusched node join-token`"
            )
        by_certificate = None if certificate is None else self.authenticate_peer(certificate)
        if by_certificate is not None and by_token is not None and by_token.node != by_certificate.node:
            raise NotPermitted("the token and the certificate name different nodes")
        who = by_certificate or by_token
        assert who is not None
        return who


_NO_CREDENTIALS = (
    "no credentials: send the metadata 'authorization: Bearer <token>'; `gpusched token` prints one"
)


def _token(metadata: Any) -> str | None:
    values = [value for key, value in metadata or () if key == "authorization"]
    if not values:
        return None
    if len(values) > 1 or not isinstance(values[0], str) or not values[0].startswith(_PREFIX):
        raise Unauthenticated("the authorization metadata is not one 'Bearer <token>'")
    return values[0].removeprefix(_PREFIX)


def _shown(token: str | None) -> str:
    if token is None:
        raise Unauthenticated(_NO_CREDENTIALS)
    return token


def _check_role(path: str, caller: Principal, allowed: frozenset[Role]) -> None:
    if caller.roles.isdisjoint(allowed):
        needed = " or ".join(sorted(allowed)) or "that nobody has"
        has = ", ".join(sorted(caller.roles)) or "none"
        raise NotPermitted(
            f"{path.rpartition('/')[2]} needs the role {needed}; {caller.identity.user} has {has}"
        )


def refusal(error: GpuschedError) -> Handler:
    """A handler that refuses without looking at the request."""

    async def refuse(requests: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await first_of(requests)
        await abort_with(context, to_status(error))

    return grpc.stream_stream_rpc_method_handler(refuse)
