"""What a head shows to who connects: a site's own certificate, or one that the cluster's CA issues to it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from gpusched.api.ca import FOLDER, HEAD_LIFETIME, CertificateAuthority, KeyPair, at
from gpusched.daemon.config import ListenTable
from gpusched.domain.clock import Clock
from gpusched.domain.errors import ConfigInvalid
from gpusched.wire.address import parse_address
from gpusched.wire.tls import Shown


def find_ca(home: Path, cluster: str) -> CertificateAuthority | None:
    """The CA in a head's home, if ``gpusched ca init`` made one.

    Raises:
        ConfigInvalid: It cannot be used.
    """
    folder = home / FOLDER
    return CertificateAuthority(folder, cluster) if folder.exists() else None


def site_tls(listen: ListenTable) -> Callable[[], Shown] | None:
    """The site's certificate, read at every handshake: a renewed one is used at once.

    Raises:
        ConfigInvalid: Half of it is configured, or it cannot be read.
    """
    certificate, key = listen.tls_cert, listen.tls_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigInvalid("listen: tls_cert and tls_key go together: give both or none")
    if listen.agents:
        raise ConfigInvalid(
            "listen: agents pin the cluster's own CA, so a head that they join shows its certificate: "
            "leave out tls_cert and tls_key, or agents"
        )
    return lambda: Shown(key.read_bytes(), certificate.read_bytes())


class HeadCertificate:
    """A head's certificate by the cluster's CA: made at the start, and again before it ends.

    Its key is never written anywhere.

    Args:
        authority: Signs it.
        names: Host names and addresses under which the head is reached.
        clock: Says when it is time for another.
    """

    def __init__(self, authority: CertificateAuthority, names: Sequence[str], clock: Clock) -> None:
        self._ca, self._names, self._clock = authority, names, clock
        self._fingerprint = authority.fingerprint
        self._pair = self._issue()

    def to_people(self) -> Shown:
        """For callers that show a token."""
        pair = self._current()
        return Shown(pair.key, pair.chain)

    def to_agents(self) -> Shown:
        """For callers that show a certificate."""
        pair = self._current()
        return Shown(pair.key, pair.chain, self._ca.trusted)

    def _current(self) -> KeyPair:
        is_old = self._pair.expires_at - at(self._clock.now_us()) < HEAD_LIFETIME / 3
        if is_old or self._ca.fingerprint != self._fingerprint:
            self._pair, self._fingerprint = self._issue(), self._ca.fingerprint
        return self._pair

    def _issue(self) -> KeyPair:
        return self._ca.issue_head(self._names, at(self._clock.now_us()))


def head_names(listen: ListenTable) -> tuple[str, ...]:
    """Under what a head is reached: what the configuration says, this host's names, loopback."""
    hosts = [parse_address(text).host for text in (listen.tcp, listen.agents) if text]
    own = (socket.gethostname(), socket.getfqdn(), "localhost", "127.0.0.1", "::1")
    wildcards = {"0.0.0.0", "::", "", None}  # noqa: S104 - names that are none
    return tuple(
        dict.fromkeys(name for name in (*listen.names, *hosts, *own) if name not in wildcards and name)
    )
