"""What both clients share: how to reach a head, and what to do when it does not answer.

A call is repeated, with the same request id, while the head is away; a stream goes on where it broke
off if it can say where that was. Waiting is the clients' own affair: nothing here blocks.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

import grpc

from gpusched.domain.errors import (
    ConfigInvalid,
    GpuschedError,
    HeadUnavailable,
    NotLeading,
    OverLimit,
    StoreUnavailable,
    TooManyRequests,
    Unauthenticated,
)
from gpusched.wire.address import Address, default_addresses, parse_addresses
from gpusched.wire.credentials import TokenSource, token_source
from gpusched.wire.heads import Heads
from gpusched.wire.status import from_status

TIMEOUT_S = 60.0
RETRY_S = 5.0
FAILOVER_RETRY_S = 30.0
"""Where there are several heads: one that takes over has waited out a lease, and loads the queue."""
RECEIVE_BYTES_MAX = 256 << 20  # a year's usage report is large; a head is trusted
BACKOFF_FIRST_S = 0.05
CA_REMEDY = "`gpusched ca show --pem`, on the head's machine, prints what GPUSCHED_CA_FILE should hold"
BACKOFF_MAX_S = 1.0

CHANNEL_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", RECEIVE_BYTES_MAX),
    ("grpc.max_send_message_length", -1),  # the head says what it takes
    # A head that comes back is seen within a second, a silent one within a quarter of a minute or so.
    ("grpc.initial_reconnect_backoff_ms", 50),
    # Also how long one attempt to connect may take: a busy head needs more than the pause between two.
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # A machine that lost power says nothing; there may be another head to turn to.
    ("grpc.keepalive_time_ms", 12_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    # One head, one connection per client: a channel must not be shared behind its back.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """How the head's certificate is checked, and what is shown to it (all PEM).

    Attributes:
        ca_pem: Roots to trust; None: the system's.
        key: Of one's own certificate; None: none is shown.
        chain: One's own certificate first.
        head_name: What the head's certificate must name; None: the host that was dialled.
    """

    ca_pem: bytes | None
    key: bytes | None = None
    chain: bytes | None = None
    head_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """For gRPC."""
        return grpc.ssl_channel_credentials(self.ca_pem, self.key, self.chain)

    def options(self) -> Sequence[tuple[str, int | str]]:
        """The channel's options."""
        if self.head_name is None:
            return CHANNEL_OPTIONS
        return [*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", self.head_name)]


def tls_for(address: Address, ca_file: Path | None) -> Tls | None:
    """TLS for every head on another machine, and wherever a CA is given (``$GPUSCHED_CA_FILE``).

    Raises:
        ConfigInvalid: The CA file cannot be read, or holds no certificate.
    """
    given = ca_file or os.environ.get("GPUSCHED_CA_FILE")
    if given is None:
        return None if address.is_local else Tls(None)
    try:
        # gRPC would only say, at the first call, that it has no security handshaker.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=given)
        return Tls(Path(given).read_bytes())
    except OSError as error:  # ssl.SSLError is one as well
        why = "holds no certificate (PEM)" if isinstance(error, ssl.SSLError) else f"cannot be read: {error}"
        raise ConfigInvalid(f"the CA file {given} {why}: {CA_REMEDY}") from error


def backoff_s(total_s: float) -> Iterator[float]:
    """Delays that double up to ``BACKOFF_MAX_S`` and together make ``total_s``."""
    delay_s = BACKOFF_FIRST_S
    while total_s > 0:
        step_s = min(delay_s, total_s)
        yield step_s
        total_s -= step_s
        delay_s = min(2 * delay_s, BACKOFF_MAX_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Which head to speak to, as whom, and how long to wait for it."""

    address: Address
    tls: Tls | None
    tokens: TokenSource
    timeout_s: float

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call carries. Blocks while a token is fetched; raises what that raises."""
        return _carrying(self.tokens.token())


class Reaches:
    """The heads of one cluster, each reached in its own way; the arguments are those of ``Client``.

    What the caller leaves open is filled in from the environment.

    Raises:
        ConfigInvalid: An address or the CA file cannot be used.
        Unauthenticated: A head is on another machine and there is no token.
    """

    def __init__(
        self,
        addresses: str | None,
        *,
        token: str | None,
        ca_file: Path | None,
        timeout_s: float,
        retry_s: float | None,
    ) -> None:
        known = default_addresses() if addresses is None else parse_addresses(addresses)
        self._heads = Heads(known)
        self._token, self._ca_file, self._timeout_s = token, ca_file, timeout_s
        self._retry_s = (RETRY_S if len(known) == 1 else FAILOVER_RETRY_S) if retry_s is None else retry_s
        self._made = {address: self._make(address) for address in known}

    @property
    def current(self) -> Reach:
        """The head to ask now."""
        address = self._heads.current
        if address not in self._made:  # a head that another one named
            self._made[address] = self._make(address)
        return self._made[address]

    def move_on(self, asked: Reach, error: GpuschedError) -> None:
        """Choose whom to ask next, after one gave ``error``."""
        self._heads.move_on(asked.address, error)

    def persistence(self) -> Persistence:
        """For one call."""
        return Persistence(self, self._retry_s)

    def _make(self, address: Address) -> Reach:
        return Reach(
            address=address,
            tls=tls_for(address, self._ca_file),
            tokens=token_source(address, token=self._token),
            timeout_s=self._timeout_s,
        )


class Choice(Protocol):
    """Whom there is to ask: ``Reaches``, as far as one call needs it."""

    @property
    def current(self) -> Reach:
        """The head to ask now."""
        ...

    def move_on(self, asked: Reach, error: GpuschedError) -> None:
        """Choose whom to ask next."""
        ...


class _Rpc(Protocol):
    def code(self) -> grpc.StatusCode: ...
    def details(self) -> str | None: ...
    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


class TooSlow(HeadUnavailable):
    """The head is there but did not answer before the deadline: repeating would only add to its load."""


def error_of(rpc: grpc.RpcError, address: Address) -> GpuschedError:
    """The error behind a failed RPC.

    Args:
        rpc: As raised by a call of either client.
        address: Of the head, for the message.
    """
    call = cast(_Rpc, rpc)
    code, message = call.code(), call.details() or ""
    error = from_status(code, message, call.trailing_metadata() or ())
    if not isinstance(error, HeadUnavailable):
        return _with_remedy(error)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return TooSlow(
            f"the head at {address.text} did not answer in time: it may be overloaded; "
            "give a longer timeout_s or ask for less"
        )
    if "CERTIFICATE_VERIFY_FAILED" in message:
        return HeadUnavailable(
            f"what answers at {address.text} shows a certificate of no CA that is trusted here, "
            f"or of another name: {CA_REMEDY}"
        )
    return HeadUnavailable(
        f"no head answers at {address.text} ({message}): start one with `gpusched up`, "
        "or name another in GPUSCHED_ADDRESS"
    )


def _with_remedy(error: GpuschedError) -> GpuschedError:
    if isinstance(error, OverLimit) and "larger than max" in str(error):
        return OverLimit(f"the request is too large for the head: send it in parts ({error})")
    return error


class Persistence:
    """Decides, for one call, whom to ask, what to show, and whether to try again after a failure.

    Args:
        reaches: Whom there is to ask.
        retry_s: How long to go on while no head answers, summed over the delays.

    Attributes:
        reach: Whom the present try asks.
    """

    def __init__(self, reaches: Choice, retry_s: float) -> None:
        self._reaches, self._retry_s = reaches, retry_s
        self.reach = reaches.current
        self._shown: str | None = None
        self._may_renew = True
        self._delays = backoff_s(retry_s)

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What the next try carries. Blocks while a token is fetched; raises what that raises."""
        self._shown = None
        self.reach = self._reaches.current
        self._shown = self.reach.tokens.token()
        return _carrying(self._shown)

    def delay_after(self, error: GpuschedError) -> float:
        """Seconds to wait before the next try.

        Raises:
            GpuschedError: ``error``, if repeating would not help or the time is up.
        """
        if isinstance(error, Unauthenticated) and self._shown is not None and self._may_renew:
            self._may_renew = False  # a fresh token that does not hold either is a real refusal
            if self.reach.tokens.renew(self._shown):
                return 0.0
        if isinstance(error, TooManyRequests) and next(self._delays, None) is not None:
            return error.retry_after_s
        is_away = isinstance(error, HeadUnavailable | StoreUnavailable | NotLeading)
        if is_away and not isinstance(error, TooSlow):
            self._reaches.move_on(self.reach, error)
            delay_s = next(self._delays, None)
            if delay_s is not None:
                return delay_s
        raise error

    def succeeded(self) -> None:
        """A head answered: the next failure starts a new count."""
        self._may_renew, self._delays = True, backoff_s(self._retry_s)


def _carrying(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)
