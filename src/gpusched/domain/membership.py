"""How a node becomes a member of a cluster, and what it holds as one."""

from __future__ import annotations

from dataclasses import dataclass

JOIN_LIFETIME_MAX_S = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Trust:
    """What anybody may know of a cluster.

    Attributes:
        cluster: Its name.
        trusted: Certificates of its CA, PEM, newest first.
        agents_port: Where agents of other machines are heard; None: nowhere.
    """

    cluster: str
    trusted: bytes
    agents_port: int | None


@dataclass(frozen=True, slots=True)
class JoinTokenMade:
    """A join token is good from now on.

    Attributes:
        ca_fingerprint: Of the newest CA certificate, ``sha256:HEX``: what a joining node pins.
        expires_at_us: When it ends, used or not.
    """

    ca_fingerprint: str
    expires_at_us: int


@dataclass(frozen=True, slots=True)
class CertificateGiven:
    """A node's new certificate (PEM, its own first) and whom to trust from now on (PEM)."""

    certificate: bytes
    trusted: bytes
