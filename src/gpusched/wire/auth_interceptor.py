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
from gpusched.domain.identity import Principal, Role
from gpusched.wire.methods import METHODS, PUBLIC, ROLES
from gpusched.wire.status import abort_with

log = logging.getLogger(__name__)

Authenticate = Callable[[str], Principal]
"""From a token to whom it names; raises ``Unauthenticated``. Remembering the answer is its affair."""

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]

CALLER: ContextVar[Principal] = ContextVar("caller")
"""Who makes the RPC that is being handled."""

_PREFIX = "Bearer "


class AuthInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]
    """Authenticates, then checks the role.

    Args:
        authenticate: Verifies a token.
        roles: Who may call what, by path.

    Attributes:
        authenticate: As given; may be replaced while RPCs come in.
    """

    def __init__(self, authenticate: Authenticate, roles: Mapping[str, frozenset[Role]] = ROLES) -> None:
        self.authenticate, self._roles = authenticate, roles

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of the RPC, or one that refuses it."""
        path = handler_call_details.method
        if path in PUBLIC:
            return await continuation(handler_call_details)
        try:
            caller = self.authenticate(_token(handler_call_details.invocation_metadata))
            handler = await continuation(handler_call_details)
            if handler is not None:
                _check_role(path, caller, self._roles.get(path, frozenset()))
        except (Unauthenticated, NotPermitted) as error:
            log.info("refused %s: %s", path, error)
            return refusal(path, error)
        CALLER.set(caller)
        return handler


def _token(metadata: Any) -> str:
    values = [value for key, value in metadata or () if key == "authorization"]
    if not values:
        raise Unauthenticated(
            "no credentials: send the metadata 'authorization: Bearer <token>'; `gpusched token` prints one"
        )
    if len(values) > 1 or not isinstance(values[0], str) or not values[0].startswith(_PREFIX):
        raise Unauthenticated("the authorization metadata is not one 'Bearer <token>'")
    return values[0].removeprefix(_PREFIX)


def _check_role(path: str, caller: Principal, allowed: frozenset[Role]) -> None:
    if caller.roles.isdisjoint(allowed):
        needed = " or ".join(sorted(allowed)) or "that nobody has"
        has = ", ".join(sorted(caller.roles)) or "none"
        raise NotPermitted(
            f"{path.rpartition('/')[2]} needs the role {needed}; {caller.identity.user} has {has}"
        )


def refusal(path: str, error: GpuschedError) -> Handler:
    """A handler that refuses without looking at the request."""

    async def refuse(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await abort_with(context, error)

    method = METHODS.get(path)
    if method is None or method.takes_stream:
        return grpc.stream_stream_rpc_method_handler(refuse)
    # Its one message is taken in first (bounded, and not parsed): a call that is ended while the caller
    # still writes is reset, and the caller may see that instead of the status.
    return grpc.unary_stream_rpc_method_handler(refuse)
