"""Errors on the wire: one table from exception to gRPC code, and both ways through ``google.rpc.Status``.

Every status carries an ``ErrorInfo`` (domain ``gpusched``, reason = the class name), from which the
client raises the same class again; ``InvalidSpec`` also carries its violations as ``BadRequest``
(https://google.aip.dev/193). A status without ``ErrorInfo`` comes from gRPC itself or a proxy.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, NoReturn
from uuid import uuid4

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from gpusched.domain import errors
from gpusched.domain.errors import GpuschedError, InvalidSpec, NotLeading, TooManyRequests, Violation

log = logging.getLogger(__name__)

DOMAIN = "gpusched"
DETAILS_KEY = "grpc-status-details-bin"
LEADER_KEY = "leader"  # in an ErrorInfo's metadata: the address of the head to ask instead
MESSAGE_BYTES_MAX = 1_000
VIOLATIONS_BYTES_MAX = 3_000
"""A status travels in HTTP/2 trailers, of which gRPC takes 8 KiB: the message (three times as long
where it is not ASCII), again inside the details, and the violations, in base64."""

CODES: dict[type[GpuschedError], grpc.StatusCode] = {
    errors.InvalidSpec: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InfeasibleRequest: grpc.StatusCode.OUT_OF_RANGE,
    errors.OverLimit: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.RequestIdReused: grpc.StatusCode.ALREADY_EXISTS,
    errors.WrongState: grpc.StatusCode.FAILED_PRECONDITION,
    errors.InsufficientResources: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.StalePlan: grpc.StatusCode.ABORTED,
    # UNAVAILABLE is what a client repeats by itself: only where that helps within seconds.
    errors.StoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.HeadUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.NotLeading: grpc.StatusCode.UNAVAILABLE,
    errors.TooManyRequests: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NodeUnavailable: grpc.StatusCode.FAILED_PRECONDITION,
    errors.InvalidTransition: grpc.StatusCode.INTERNAL,
    errors.LogCorrupt: grpc.StatusCode.DATA_LOSS,
    errors.ConfigInvalid: grpc.StatusCode.INTERNAL,
}
"""The code of every error class that has no subclass; a class of one's own takes its parent's."""

FAMILIES: dict[type[GpuschedError], grpc.StatusCode] = {
    errors.Rejected: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Broken: grpc.StatusCode.INTERNAL,
    errors.GpuschedError: grpc.StatusCode.INTERNAL,
}

_TRAVELLING = CODES | FAMILIES
_CLASSES = {kind.__name__: kind for kind in _TRAVELLING}

_BY_NUMBER = {code.value[0]: code for code in grpc.StatusCode}

_BARE: dict[grpc.StatusCode, type[GpuschedError]] = {  # what gRPC itself says, without ErrorInfo
    grpc.StatusCode.UNAVAILABLE: errors.HeadUnavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.HeadUnavailable,
    grpc.StatusCode.CANCELLED: errors.HeadUnavailable,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.OverLimit,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.NotPermitted,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
}


def to_status(error: Exception) -> status_pb2.Status:
    """Describe ``error`` for the caller.

    What is not a ``GpuschedError`` is a bug: it is logged here with its traceback under an
    incident id, and the caller gets only that id.
    """
    if not isinstance(error, GpuschedError):
        error = _incident(error)
    kind = next(kind for kind in type(error).__mro__ if kind in _TRAVELLING)
    message = _cut(str(error), MESSAGE_BYTES_MAX)
    status = status_pb2.Status(code=_TRAVELLING[kind].value[0], message=message)
    known = {LEADER_KEY: error.leader} if isinstance(error, NotLeading) and error.leader else {}
    _attach(status, error_details_pb2.ErrorInfo(reason=kind.__name__, domain=DOMAIN, metadata=known))
    if isinstance(error, InvalidSpec):
        _attach(status, _bad_request(error.violations))
    if isinstance(error, TooManyRequests):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(error.retry_after_s * 1e9))
        _attach(status, retry)
    return status


def from_status(
    code: grpc.StatusCode, message: str, trailers: Iterable[tuple[str, str | bytes]]
) -> GpuschedError:
    """The error that a status stands for.

    Args:
        code: The RPC's code, not OK.
        message: The RPC's details text.
        trailers: The RPC's trailing metadata.
    """
    status = _details(trailers)
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad_request)
        detail.Unpack(retry)
    if info.domain != DOMAIN:
        return _BARE.get(code, errors.Broken)(f"{message} ({code.name})")
    if bad_request.field_violations:
        return InvalidSpec(
            tuple(Violation(each.field, each.description) for each in bad_request.field_violations)
        )
    if info.reason == NotLeading.__name__:
        return NotLeading(status.message, leader=info.metadata.get(LEADER_KEY))
    if info.reason == TooManyRequests.__name__:
        return TooManyRequests(status.message, retry_after_s=retry.retry_delay.ToNanoseconds() / 1e9)
    return _CLASSES.get(info.reason, errors.Broken)(status.message)


def _details(trailers: Iterable[tuple[str, str | bytes]]) -> status_pb2.Status:
    raw = next((value for key, value in trailers if key == DETAILS_KEY), b"")
    try:
        return status_pb2.Status.FromString(raw if isinstance(raw, bytes) else raw.encode())
    except DecodeError:  # some proxy's own idea of details
        return status_pb2.Status()


def _incident(error: Exception) -> errors.Broken:
    incident = uuid4().hex[:12]
    log.error("incident %s", incident, exc_info=error)
    return errors.Broken(f"the head failed on this request: its log tells why under incident {incident}")


def _attach(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)


def _bad_request(violations: tuple[Violation, ...]) -> error_details_pb2.BadRequest:
    bad_request = error_details_pb2.BadRequest()
    for count, violation in enumerate(violations):
        entry = bad_request.field_violations.add(
            field=_cut(violation.field, 200), description=_cut(violation.message, MESSAGE_BYTES_MAX)
        )
        if bad_request.ByteSize() > VIOLATIONS_BYTES_MAX:
            entry.field, entry.description = "...", f"and {len(violations) - count} more"
            break
    return bad_request


def _cut(text: str, bytes_max: int) -> str:
    """``text`` as UTF-8 can hold it, in at most ``bytes_max`` bytes."""
    raw = text.encode("utf-8", "replace")
    return raw.decode() if len(raw) <= bytes_max else raw[: bytes_max - 3].decode("utf-8", "ignore") + "..."


async def abort_with(context: grpc.aio.ServicerContext[Any, Any], status: status_pb2.Status) -> NoReturn:
    """End the RPC with ``status``.

    What calls this must hold no request: gRPC and the exception that it raises keep each other, and every
    frame in between, until the garbage collector comes by.
    """
    trailers = ((DETAILS_KEY, status.SerializeToString()),)
    await context.abort(_BY_NUMBER[status.code], status.message, trailers)
    raise AssertionError("abort returned")
