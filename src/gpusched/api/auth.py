"""Who is calling: short-lived EdDSA tokens (RFC 8037, RFC 7519), signed by the head's own key.

A local user gets one over a unix socket that reads the peer's credentials from the kernel,
so nobody names themselves.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gpusched.domain.clock import Clock
from gpusched.domain.errors import ConfigInvalid, NotPermitted, Unauthenticated
from gpusched.domain.hostlist import NODE_NAME
from gpusched.domain.identity import Identity, Principal, Role
from gpusched.domain.ids import NodeName

AUDIENCE = "gpusched"
LIFETIME_S = 900
CACHE_MAX = 4_096


@dataclass(frozen=True, slots=True)
class Issued:
    """A token and when it ends."""

    token: str
    expires_at_us: int


class TokenAuthority:
    """Issues and verifies tokens for one cluster.

    Args:
        key: The signing key.
        cluster: Goes into ``iss``: a token of one cluster is worth nothing on another.
        operators: User names that act on every job and node, besides root and the head's own user.
        clock: Wall time for ``iat`` and ``exp``.
    """

    def __init__(self, key: Ed25519PrivateKey, cluster: str, operators: frozenset[str], clock: Clock) -> None:
        self._key, self._public = key, key.public_key()
        self._cluster, self._operators, self._clock = cluster, operators, clock
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
            roles = [Role.NODE]
        elif is_owner or name in self._operators:
            roles = [Role.USER, Role.OPERATOR]
        else:
            roles = [Role.USER]
        now_s = self._clock.now_us() // 1_000_000
        claims = {
            "iss": self._cluster,
            "aud": AUDIENCE,
            "sub": str(uid),
            "gid": gid,
            "roles": [role.value for role in roles],
            "iat": now_s,
            "exp": now_s + LIFETIME_S,
            **({} if node is None else {"node": node}),
        }
        token = jwt.encode(claims, self._key, algorithm="EdDSA")
        return Issued(token, (now_s + LIFETIME_S) * 1_000_000)

    def authenticate(self, token: str) -> Principal:
        """Verify a token.

        Raises:
            Unauthenticated: Forged, expired, of another cluster, or not a token at all.
        """
        now_us = self._clock.now_us()
        known = self._verified.get(token)
        if known is not None and now_us < known[1]:
            return known[0]
        principal, expires_at_us = self._verify(token, now_us)
        if len(self._verified) >= CACHE_MAX:
            self._verified.clear()
        self._verified[token] = (principal, expires_at_us)
        return principal

    def _verify(self, token: str, now_us: int) -> tuple[Principal, int]:
        try:
            claims = jwt.decode(
                token,
                self._public,
                algorithms=["EdDSA"],
                audience=AUDIENCE,
                issuer=self._cluster,
                options={"require": ["exp", "iat", "sub"], "verify_exp": False, "verify_iat": False},
            )
            expires_at_us = int(claims["exp"]) * 1_000_000
            uid, gid = int(claims["sub"]), int(claims["gid"])
            roles = frozenset(Role(role) for role in claims["roles"])
        except (jwt.InvalidTokenError, KeyError, TypeError, ValueError) as error:
            raise Unauthenticated(
                f"the token does not hold ({type(error).__name__}): "
                "get a new one from the head's token socket"
            ) from error
        if now_us >= expires_at_us:
            raise Unauthenticated("the token has expired: get a new one from the head's token socket")
        node = claims.get("node")
        identity = Identity(user_name(uid), uid, gid)
        return Principal(identity, roles, None if node is None else NodeName(node)), expires_at_us


def user_name(uid: int) -> str:
    """The login name of ``uid`` on the head, or the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def load_or_create_key(path: Path) -> Ed25519PrivateKey:
    """Read the signing key, or make one (mode 0600) if the file isn't there.

    Raises:
        ConfigInvalid: The file is no Ed25519 key, others can read it, or we can't.
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _load_key(path)
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}: let this user write it") from error
    key = Ed25519PrivateKey.generate()
    with os.fdopen(fd, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.flush()
        os.fsync(file.fileno())
    return key


def _load_key(path: Path) -> Ed25519PrivateKey:
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigInvalid(f"{path}: others can read the signing key: `chmod 600 {path}`")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}: let this user read it") from error
    except (TypeError, ValueError) as error:  # TypeError: it is encrypted
        raise ConfigInvalid(f"{path}: not a private key: remove it to have a new one made") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigInvalid(f"{path}: not an Ed25519 key: remove it to have a new one made")
    return key
