"""Who is calling: short-lived EdDSA tokens (RFC 8037, RFC 7519), signed by the head's own key.

A local user gets one over a unix socket that reads the peer's credentials from the kernel,
so nobody names themselves. A rank gets one that is good for its own job alone.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from gpusched.api.token_keys import TokenKeys
from gpusched.domain.clock import Clock
from gpusched.domain.errors import NotPermitted, Unauthenticated
from gpusched.domain.hostlist import NODE_NAME
from gpusched.domain.identity import Identity, Principal, RankRef, Role
from gpusched.domain.ids import Epoch, JobId, NodeName

AUDIENCE = "gpusched"
RANK_AUDIENCE = "gpusched/rank"
"""Tokens of people and agents on one hand and of ranks on the other: neither passes for the other."""

LIFETIME_S = 900
RENEWAL = "`gpusched token`, on the head's machine, prints a new one"
RANK_LIFETIME_S = 24 * 3600
"""A rank's token ends with its attempt, whichever is sooner; its agent asks for another in time."""

CACHE_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Issued:
    """A token and when it ends."""

    token: str
    expires_at_us: int


class TokenAuthority:
    """Issues and verifies tokens for one cluster.

    Args:
        keys: The signing key and the one before it.
        cluster: Goes into ``iss``: a token of one cluster is worth nothing on another.
        operators: User names that act on every job and node, besides root and the head's own user.
        clock: Wall time for ``iat`` and ``exp``.
    """

    def __init__(self, keys: TokenKeys, cluster: str, operators: frozenset[str], clock: Clock) -> None:
        self._keys, self._cluster, self._operators, self._clock = keys, cluster, operators, clock
        self._ring = keys.ring()
        self._verified: dict[str, tuple[Principal, int]] = {}

    def issue(self, uid: int, gid: int, *, node: NodeName | None = None) -> Issued:
        """Sign a token for a unix user, as the kernel named it; for ``node`` an agent's token.

        Raises:
            NotPermitted: An agent's token was asked for by a user who doesn't run the cluster, or for
                what is no node's name.
        """
        if node is not None and NODE_NAME.fullmatch(node) is None:
            raise NotPermitted(f"{node[:64]!a} is no node's name: use letters, digits, '.', '-' and '_'")
        is_owner = uid in (0, os.geteuid())
        name = user_name(uid)
        if node is not None and not is_owner:
            raise NotPermitted(f"user {name} may not run an agent: only root and the head's own user may")
        if node is not None:
            roles = {Role.NODE}
        elif is_owner or name in self._operators:
            roles = {Role.USER, Role.OPERATOR}
        else:
            roles = {Role.USER}
        return self._sign(Principal(Identity(name, uid, gid), frozenset(roles), node), LIFETIME_S)

    def issue_for_rank(self, owner: Identity, rank: RankRef) -> Issued:
        """Sign the token that ``rank``, of a job of ``owner``, calls back with."""
        return self._sign(Principal(owner, frozenset({Role.RANK}), rank=rank), RANK_LIFETIME_S)

    def authenticate(self, token: str) -> Principal:
        """Verify a token.

        Raises:
            Unauthenticated: Forged, expired, of another cluster, or not a token at all.
        """
        now_us = self._clock.now_us()
        ring = self._keys.ring()
        if ring is not self._ring:
            self._ring = ring
            self._verified.clear()  # a key that was taken away takes its tokens with it
        known = self._verified.get(token)
        if known is not None and now_us < known[1]:
            return known[0]
        principal, expires_at_us = self._verify(token, now_us)
        if len(self._verified) >= CACHE_MAX:
            self._verified.clear()
        self._verified[token] = (principal, expires_at_us)
        return principal

    def _sign(self, who: Principal, lifetime_s: int) -> Issued:
        ring = self._keys.ring()
        now_s = self._clock.now_us() // 1_000_000
        times = {"iat": now_s, "exp": now_s + lifetime_s}
        claims = {"iss": self._cluster, **times, **_claims(who)}
        token = jwt.encode(claims, ring.signing, algorithm="EdDSA", headers={"kid": ring.key_id})
        return Issued(token, (now_s + lifetime_s) * 1_000_000)

    def _verify(self, token: str, now_us: int) -> tuple[Principal, int]:
        try:
            key = self._ring.verifying[jwt.get_unverified_header(token)["kid"]]
            claims = jwt.decode(
                token,
                key,
                algorithms=["EdDSA"],
                audience=[AUDIENCE, RANK_AUDIENCE],
                issuer=self._cluster,
                options={"require": ["exp", "iat", "sub"], "verify_exp": False, "verify_iat": False},
            )
            expires_at_us = int(claims["exp"]) * 1_000_000
            principal = _principal(claims)
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError) as error:
            raise Unauthenticated(
                f"the token is not of cluster {self._cluster}, or its key is out of use: {RENEWAL}"
            ) from error
        if now_us >= expires_at_us:
            raise Unauthenticated(f"the token has expired: {RENEWAL}")
        return principal, expires_at_us


def _claims(who: Principal) -> dict[str, object]:
    """What a token says of whom it is for; ``_principal`` reads it back."""
    identity, rank = who.identity, who.rank
    claims: dict[str, object] = {
        "aud": AUDIENCE if rank is None else RANK_AUDIENCE,
        "sub": str(identity.uid),
        "gid": identity.gid,
        "roles": sorted(role.value for role in who.roles),
    }
    if rank is not None:
        claims |= {"job": rank.job_id, "epoch": rank.epoch, "node": rank.node, "rank": rank.global_rank}
    elif who.node is not None:
        claims["node"] = who.node
    return claims


def _principal(claims: Mapping[str, Any]) -> Principal:
    """Whom signed claims name. Raises ``KeyError``, ``TypeError`` or ``ValueError`` if they contradict."""
    roles = frozenset(Role(role) for role in claims["roles"])
    is_rank = roles == {Role.RANK}
    if claims["aud"] != (RANK_AUDIENCE if is_rank else AUDIENCE) or (Role.RANK in roles and not is_rank):
        raise ValueError("the roles are not those of the audience")
    uid = int(claims["sub"])
    identity = Identity(user_name(uid), uid, int(claims["gid"]))
    if not is_rank:
        return Principal(identity, roles, NodeName(claims["node"]) if Role.NODE in roles else None)
    rank = RankRef(
        job_id=JobId(int(claims["job"])),
        epoch=Epoch(int(claims["epoch"])),
        node=NodeName(claims["node"]),
        global_rank=int(claims["rank"]),
    )
    return Principal(identity, roles, rank=rank)


def user_name(uid: int) -> str:
    """The login name of ``uid`` on the head, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
