"""Which nodes belong to the cluster: they come in with a join token and stay by their certificate."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509

from gpusched.api.ca import CertificateAuthority, SignedNode, at, key_digest, named_in, requested_key
from gpusched.domain.errors import (
    InvalidSpec,
    NotPermitted,
    TooManyRequests,
    Unauthenticated,
    Violation,
    WrongState,
)
from gpusched.domain.hostlist import NODE_NAME
from gpusched.domain.identity import CertificateRef, Identity, Principal, Role
from gpusched.domain.ids import NodeName
from gpusched.domain.membership import JOIN_LIFETIME_MAX_S, CertificateGiven, JoinTokenMade, Trust
from gpusched.engine.loop import Loop
from gpusched.store.members import Certificate, JoinToken, MemberRecords

log = logging.getLogger(__name__)

DIGEST_BYTES = hashlib.sha256().digest_size
TOKEN_LENGTH_MAX = 256
NO_NAME = "is no node's name: use letters, digits, '.', '-' and '_'"
JOINS_AT_ONCE = 16
"""Anybody may ask to join: the store is not to be kept busy by it."""

NOBODY_ID = 65_534  # a node is no user: nothing is its own


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberSettings:
    """How members are kept."""

    cluster: str
    certificate_lifetime_s: int


class Members:
    """Lets nodes in, renews what they hold, and throws them out.

    Args:
        loop: Has the clock, and the store's thread.
        records: What is kept.
        authority: Signs certificates; None: this cluster has no CA, so agents of this machine only.
        settings: How.
        agents_port: Where agents of other machines are heard; None: nowhere.
        revoked: Serials that are worth nothing, as the records have them at the start.
    """

    def __init__(
        self,
        loop: Loop,
        records: MemberRecords,
        authority: CertificateAuthority | None,
        settings: MemberSettings,
        *,
        agents_port: Callable[[], int | None],
        revoked: frozenset[str],
    ) -> None:
        self._loop, self._records, self._ca, self._settings = loop, records, authority, settings
        self._agents_port, self._revoked = agents_port, set(revoked)
        self._joins = 0

    async def trust(self) -> Trust:
        """What anybody may know.

        Raises:
            WrongState: The cluster has no CA.
        """
        return Trust(self._settings.cluster, self._authority().trusted, self._agents_port())

    async def create_token(
        self, who: Principal, digest: bytes, node: NodeName | None, lifetime_s: int
    ) -> JoinTokenMade:
        """Let in whoever shows the token of ``digest`` (SHA-256), once, as ``node`` or as any new node.

        Raises:
            InvalidSpec: A field is wrong.
            WrongState: The cluster has no CA.
        """
        _require(len(digest) == DIGEST_BYTES, "digest", f"{len(digest)} bytes: a SHA-256 has {DIGEST_BYTES}")
        _require(node is None or _is_name(node), "node", f"{node!a:.66} {NO_NAME}")
        _require(
            1 <= lifetime_s <= JOIN_LIFETIME_MAX_S,
            "lifetime_s",
            f"{lifetime_s} s: a join token is good for 1 s to {JOIN_LIFETIME_MAX_S} s",
        )
        ca_fingerprint = self._authority().fingerprint
        now_us = self._loop.clock.now_us()
        expires_at_us = now_us + lifetime_s * 1_000_000
        token = JoinToken(digest=digest, node=node, created_by=who.identity.user, expires_at_us=expires_at_us)
        await self._loop.in_store(self._records.add_token, token, now_us)
        log.info("%s made a join token for %s", who.identity.user, node or "any new node")
        return JoinTokenMade(ca_fingerprint, expires_at_us)

    async def join(self, token: str, node: NodeName, signing_request: bytes) -> CertificateGiven:
        """Let a node in: its first certificate.

        Raises:
            InvalidSpec: A field is wrong.
            NotPermitted: The token does not let this node in.
            WrongState: The cluster has no CA.
        """
        _require(0 < len(token) <= TOKEN_LENGTH_MAX, "token", "is no join token")
        _require(_is_name(node), "node", f"{node!a:.66} {NO_NAME}")
        key = key_digest(requested_key(signing_request))
        signed = self._sign(signing_request, node)
        digest = hashlib.sha256(token.encode()).digest()
        if self._joins >= JOINS_AT_ONCE:
            raise TooManyRequests("many nodes join at the same time: try again")
        self._joins += 1
        try:
            await self._loop.in_store(self._records.admit, digest, key, _record(node, signed))
        except NotPermitted as refusal:
            log.warning("refused to let node %s in: %s", node, refusal)
            raise
        finally:
            self._joins -= 1
        log.info("node %s joined; certificate %s", node, signed.serial)
        return CertificateGiven(signed.chain, self._authority().trusted)

    async def renew(self, who: Principal, signing_request: bytes) -> CertificateGiven:
        """A member's next certificate.

        Raises:
            InvalidSpec: It is no signing request.
            NotPermitted: The caller has no certificate that holds.
        """
        if who.node is None or who.certificate is None:
            raise NotPermitted("only a node that shows its certificate can have it renewed")
        self.require(who)
        signed = self._sign(signing_request, who.node)
        serial = who.certificate.serial
        await self._loop.in_store(self._records.add_certificate, _record(who.node, signed), serial)
        log.info("node %s: certificate %s after %s", who.node, signed.serial, serial)
        return CertificateGiven(signed.chain, self._authority().trusted)

    async def revoke(self, who: Principal, node: NodeName) -> int:
        """Make every certificate of ``node`` worthless, at once. Returns how many held until now.

        Raises:
            InvalidSpec: It is no node's name.
            StoreUnavailable: It may not have been written: ask again.
        """
        _require(_is_name(node), "node", f"{node!a:.66} {NO_NAME}")
        revoked = await self._loop.in_store(self._records.revoke, node, self._loop.clock.now_us())
        self._revoked |= revoked
        log.warning("%s revoked the certificates of node %s: %d held", who.identity.user, node, len(revoked))
        return len(revoked)

    def authenticate(self, certificate_pem: bytes) -> Principal:
        """Whom a certificate names that TLS has checked against our CA.

        Raises:
            Unauthenticated: It names no node of this cluster, or has ended.
            NotPermitted: It was revoked.
        """
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        prefix = self._authority().node_uri(NodeName(""))
        nodes = [uri.removeprefix(prefix) for uri in named_in(certificate) if uri.startswith(prefix)]
        if len(nodes) != 1 or not _is_name(nodes[0]):
            raise Unauthenticated(f"the certificate names no node of cluster {self._settings.cluster}")
        expires_at_us = int(certificate.not_valid_after_utc.timestamp()) * 1_000_000
        who = Principal(
            Identity(f"node {nodes[0]}", NOBODY_ID, NOBODY_ID),
            frozenset({Role.NODE}),
            NodeName(nodes[0]),
            certificate=CertificateRef(f"{certificate.serial_number:x}", expires_at_us),
        )
        self.require(who)
        return who

    def require(self, who: Principal) -> None:
        """Refuse whose certificate has ended or was revoked, also in the middle of a stream.

        Raises:
            Unauthenticated: It has ended.
            NotPermitted: It was revoked.
        """
        certificate = who.certificate
        if certificate is None:
            return
        if certificate.serial in self._revoked:
            raise NotPermitted(f"the certificate of node {who.node} was revoked: it needs a new join token")
        if self._loop.clock.now_us() >= certificate.expires_at_us:
            raise Unauthenticated(
                f"the certificate of node {who.node} has expired: it needs a new join token"
            )

    def _sign(self, signing_request: bytes, node: NodeName) -> SignedNode:
        lifetime = timedelta(seconds=self._settings.certificate_lifetime_s)
        return self._authority().sign_node(signing_request, node, at(self._loop.clock.now_us()), lifetime)

    def _authority(self) -> CertificateAuthority:
        if self._ca is None:
            raise WrongState("this cluster has no CA: run `gpusched ca init` and start the head again")
        return self._ca


def _record(node: NodeName, signed: SignedNode) -> Certificate:
    return Certificate(
        serial=signed.serial, node=node, issued_at_us=signed.issued_at_us, expires_at_us=signed.expires_at_us
    )


def _is_name(text: str) -> bool:
    return NODE_NAME.fullmatch(text) is not None


def _require(holds: bool, field: str, why: str) -> None:
    if not holds:
        raise InvalidSpec((Violation(field, why),))
