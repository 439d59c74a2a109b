"""What makes a node a member: its key, its certificate, and whom it trusts.

Files, in ``<agent home>/identity`` (mode 0700): ``node.pem`` (0600) holds key and certificate, one file so
that they always belong together; ``trusted.pem`` the CA certificates of the cluster. The key never
leaves the node.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from gpusched.agent.shim.files import write_durably
from gpusched.domain.errors import ConfigInvalid, NotPermitted
from gpusched.domain.ids import NodeName
from gpusched.domain.membership import CertificateGiven

JOIN_TOKEN_VARIABLE = "GPUSCHED_JOIN_TOKEN"  # noqa: S105 - a name
TOKEN_BYTES_MAX = 256
KEY_END = b"-----END PRIVATE KEY-----\n"
RENEW_AFTER = 2 / 3
"""Of a certificate's span, the first half of which lies before it was issued: two thirds of its life are
left for a head that is away, or a node."""


@dataclass(frozen=True, slots=True)
class Joining:
    """How a node that is no member yet becomes one."""

    token: str
    ca_fingerprint: str


@dataclass(frozen=True, slots=True)
class Membership:
    """A node's key and certificate chain, whom it trusts (all PEM), and when to renew."""

    key: bytes
    chain: bytes
    trusted: bytes
    renew_at: datetime
    expires_at: datetime


class Wish:
    """A new key and the request to certify it."""

    def __init__(self, node: NodeName) -> None:
        from gpusched.agent.certificates import new_key

        self._key, self.signing_request = new_key(node[:64])

    def granted(self, given: CertificateGiven) -> Membership:
        """Put the certificate to the key.

        Raises:
            ConfigInvalid: They do not belong together.
        """
        return _membership(self._key, given.certificate, given.trusted)


class IdentityFolder:
    """Where a node keeps what makes it a member."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "identity"

    def read(self) -> Membership | None:
        """What is there, None if the node never joined.

        Raises:
            ConfigInvalid: It cannot be used.
        """
        path = self._folder / "node.pem"
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigInvalid(f"{path}: others can read the node's key: `chmod 600 {path}`")
            key, end, chain = path.read_bytes().partition(KEY_END)
            return _membership(key + end, chain, (self._folder / "trusted.pem").read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigInvalid(f"{path}: {error.strerror}: let this user read it") from error

    def write(self, membership: Membership) -> None:
        """Replace what is there, durably; whom to trust first, as a new head may show it already.

        Raises:
            OSError: It cannot be written; what was there is usable still.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._folder / "trusted.pem", membership.trusted)
        write_durably(self._folder / "node.pem", membership.key + membership.chain)


def believed(trusted: bytes, ca_fingerprint: str) -> bytes:
    """The one CA certificate (PEM) among ``trusted`` that has the fingerprint.

    Raises:
        NotPermitted: None has: this is not the head that the join token came from.
    """
    from gpusched.agent.certificates import by_fingerprint

    if certificate := by_fingerprint(trusted).get(ca_fingerprint.lower()):
        return certificate
    raise NotPermitted(
        f"the head's CA does not have the fingerprint {ca_fingerprint}: somebody else may answer at its "
        "address; compare with `gpusched ca show` on the head"
    )


def joining_with(source: str | None, ca_fingerprint: str | None) -> Callable[[], Joining] | None:
    """How to join, as the command line says it; the token is read when it is needed.

    Args:
        source: The token's file, ``-`` for standard input, ``env`` for ``$GPUSCHED_JOIN_TOKEN``.
        ca_fingerprint: ``sha256:HEX``.

    Raises:
        ConfigInvalid: One was given without the other.
    """
    if source is None and ca_fingerprint is None:
        return None
    if source is None or ca_fingerprint is None:
        raise ConfigInvalid("--join and --ca-fingerprint go together: `gpusched node join-token` prints both")
    return lambda: Joining(_read_token(source), ca_fingerprint)


def _read_token(source: str) -> str:
    try:
        match source:
            case "env":
                text = os.environ.get(JOIN_TOKEN_VARIABLE, "")
            case "-":
                text = sys.stdin.read(TOKEN_BYTES_MAX)
            case _:
                with Path(source).open(encoding="utf-8") as file:
                    text = file.read(TOKEN_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"the join token in {source} cannot be read: {error}") from error
    if not text.strip():
        raise ConfigInvalid(f"there is no join token in {source}: `gpusched node join-token` makes one")
    return text.strip()


def _membership(key: bytes, chain: bytes, trusted: bytes) -> Membership:
    from gpusched.agent.certificates import by_fingerprint, span

    try:
        begins, ends = span(chain)
        by_fingerprint(trusted)
    except ValueError as error:
        raise ConfigInvalid("the node's identity is damaged: remove its folder and join again") from error
    return Membership(key, chain, trusted, begins + (ends - begins) * RENEW_AFTER, ends)


def now() -> datetime:
    """The wall clock, as certificates have it."""
    return datetime.now(UTC)
