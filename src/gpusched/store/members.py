"""Who was let in: join tokens, by their digest, and the certificates that nodes were given."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from sqlalchemy import Connection, delete, insert, or_, select, update

from gpusched.domain.errors import NotPermitted
from gpusched.domain.ids import NodeName
from gpusched.store import schema

_tokens, _certificates = schema.join_tokens.c, schema.certificates.c
KEPT_US = 30 * 86_400_000_000
"""Join tokens and certificates are kept this long after their end, to be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinToken:
    """A token that lets one node in."""

    digest: bytes
    node: NodeName | None  # None: any
    created_by: str
    expires_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate that a node was given."""

    serial: str
    node: NodeName
    issued_at_us: int
    expires_at_us: int
    revoked_at_us: int | None = None


class MemberRecords:
    """Join tokens and certificates. Methods block: call them on the store's thread.

    Args:
        writing: Opens a transaction of the one writer; what it raises, every method raises.
    """

    def __init__(self, writing: Callable[[], AbstractContextManager[Connection]]) -> None:
        self._writing = writing

    def add_token(self, token: JoinToken, now_us: int) -> None:
        """Keep a token. One of the same digest is the same token: it stays as it is."""
        with self._writing() as connection:
            connection.execute(delete(schema.join_tokens).where(_tokens.expires_at_us < now_us - KEPT_US))
            if connection.scalar(select(_tokens.digest).where(_tokens.digest == token.digest)) is None:
                row = {
                    "digest": token.digest,
                    "node": token.node,
                    "created_by": token.created_by,
                    "expires_at_us": token.expires_at_us,
                }
                connection.execute(insert(schema.join_tokens), row)

    def admit(self, digest: bytes, key: bytes, certificate: Certificate) -> None:
        """Spend a token on ``certificate``; the same key may spend it again, as its answer may be lost.

        Raises:
            NotPermitted: There is no such token, or it has ended, is spent, or is for another node.
        """
        node, now_us = certificate.node, certificate.issued_at_us
        with self._writing() as connection:
            row = connection.execute(
                select(schema.join_tokens).where(_tokens.digest == digest).with_for_update()
            ).one_or_none()
            if row is None:
                raise NotPermitted("the join token is none of this cluster's: ask for a new one")
            if now_us >= row.expires_at_us:
                raise NotPermitted("the join token has expired: ask for a new one")
            if row.node not in (None, node):
                raise NotPermitted(f"the join token is not for node {node}")
            is_retry = row.used_by is not None and (row.used_by, bytes(row.used_key)) == (node, key)
            if row.used_by is not None and not is_retry:
                raise NotPermitted("the join token was used before: ask for a new one, and find out by whom")
            if row.node is None and not is_retry and self._is_member(connection, node, now_us):
                raise NotPermitted(
                    f"node {node} is a member already: revoke it first, or make a join token for it by name"
                )
            spent = {"used_by": node, "used_key": key, "used_at_us": now_us}
            connection.execute(update(schema.join_tokens).where(_tokens.digest == digest).values(spent))
            self._add(connection, certificate)

    def add_certificate(self, certificate: Certificate, after: str) -> None:
        """Keep a certificate that a member was given in place of its last, of serial ``after``.

        Raises:
            NotPermitted: That one was revoked meanwhile.
        """
        with self._writing() as connection:
            row = connection.execute(
                select(_certificates.revoked_at_us).where(_certificates.serial == after).with_for_update()
            ).one_or_none()
            # Of a restored database it may be missing: that is no reason to lose the node.
            if row is not None and row.revoked_at_us is not None:
                raise NotPermitted(
                    f"the certificate of node {certificate.node} was revoked: it needs a new join token"
                )
            self._add(connection, certificate)

    def revoke(self, node: NodeName, now_us: int) -> frozenset[str]:
        """Revoke every certificate of ``node`` and every join token that would give it another.

        Returns:
            The serials of those that held until now.
        """
        ours = (_certificates.node == node, _certificates.revoked_at_us.is_(None))
        with self._writing() as connection:
            held = connection.scalars(
                select(_certificates.serial).where(*ours, _certificates.expires_at_us > now_us)
            ).all()
            connection.execute(update(schema.certificates).where(*ours).values(revoked_at_us=now_us))
            # A spent token as well: its key may spend it again.
            named = or_(_tokens.node == node, _tokens.used_by == node)
            connection.execute(
                update(schema.join_tokens)
                .where(named, _tokens.expires_at_us > now_us)
                .values(expires_at_us=now_us)
            )
        return frozenset(held)

    def revoked(self, now_us: int) -> frozenset[str]:
        """The serials of revoked certificates that have not ended by themselves."""
        with self._writing() as connection:
            return frozenset(
                connection.scalars(
                    select(_certificates.serial).where(
                        _certificates.revoked_at_us.is_not(None), _certificates.expires_at_us > now_us
                    )
                )
            )

    def _is_member(self, connection: Connection, node: NodeName, now_us: int) -> bool:
        holds = (
            _certificates.node == node,
            _certificates.revoked_at_us.is_(None),
            _certificates.expires_at_us > now_us,
        )
        return connection.scalar(select(_certificates.serial).where(*holds).limit(1)) is not None

    def _add(self, connection: Connection, certificate: Certificate) -> None:
        ended = _certificates.expires_at_us < certificate.issued_at_us - KEPT_US
        connection.execute(delete(schema.certificates).where(ended))
        row = {
            "serial": certificate.serial,
            "node": certificate.node,
            "issued_at_us": certificate.issued_at_us,
            "expires_at_us": certificate.expires_at_us,
        }
        connection.execute(insert(schema.certificates), row)
