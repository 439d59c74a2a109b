"""What a caller shows: a token that was given, or one fetched from the local head and renewed when it ends.

No clock is needed: a head refuses a token that has ended before it does anything, so the caller
fetches a new one and asks again.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from gpusched.domain.errors import ConfigInvalid, Unauthenticated
from gpusched.domain.ids import NodeName
from gpusched.wire.address import Address, default_home
from gpusched.wire.token_socket import fetch_token

_TOKEN = re.compile(r"[\x21-\x7e]+")


class TokenSource(Protocol):
    """Where tokens come from."""

    @property
    def is_at_hand(self) -> bool:
        """Whether ``token`` will answer without asking anybody."""
        ...

    def token(self) -> str:
        """The token to show now; may block. May raise ``HeadUnavailable`` or ``NotPermitted``."""
        ...

    def renew(self, refused: str) -> bool:
        """Told that ``refused`` did not hold; True if ``token`` may give a better one now."""
        ...


class GivenToken:
    """One token for good.

    Raises:
        Unauthenticated: It has characters that no token has.
    """

    is_at_hand = True

    def __init__(self, token: str) -> None:
        self._token = _checked(token.strip(), "the given token (GPUSCHED_TOKEN)")

    def token(self) -> str:
        """The token as given."""
        return self._token

    def renew(self, refused: str) -> bool:
        """There is no other."""
        return False


class FileToken:
    """The token in a file, which somebody else keeps fresh."""

    is_at_hand = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def token(self) -> str:
        """What the file holds now.

        Raises:
            ConfigInvalid: It cannot be read or is empty.
        """
        try:
            token = self._path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigInvalid(f"GPUSCHED_TOKEN_FILE={self._path} cannot be read: {error}") from error
        if not token:
            raise ConfigInvalid(f"GPUSCHED_TOKEN_FILE={self._path} is empty: put a token there")
        return _checked(token, f"what {self._path} holds (GPUSCHED_TOKEN_FILE)")

    def renew(self, refused: str) -> bool:
        """Whether the file holds another one by now."""
        return self.token() != refused


class SocketToken:
    """A token of the head on this machine, fetched on first use and again when it no longer holds."""

    def __init__(self, path: Path, node: NodeName | None = None) -> None:
        self._path, self._node = path, node
        self._token: str | None = None

    @property
    def is_at_hand(self) -> bool:
        """Whether one is cached."""
        return self._token is not None

    def token(self) -> str:
        """The cached token, or a new one. Two threads may both fetch one; either is good."""
        token = self._token
        if token is None:
            token = self._token = fetch_token(self._path, self._node)
        return token

    def renew(self, refused: str) -> bool:
        """Forget the refused one, so that the next ``token`` fetches another."""
        if self._token == refused:
            self._token = None
        return True


def _checked(token: str, what: str) -> str:
    """A header can carry it: a line break would otherwise be gRPC's to complain of, in its own words."""
    if _TOKEN.fullmatch(token) is None:
        raise Unauthenticated(f"{what} is no token: `gpusched token` prints one")
    return token


def token_source(
    address: Address,
    *,
    token: str | None = None,
    node: NodeName | None = None,
    environ: Mapping[str, str] = os.environ,
) -> TokenSource:
    """Choose: ``token``, ``$GPUSCHED_TOKEN``, ``$GPUSCHED_TOKEN_FILE``, else the local head's socket.

    Raises:
        Unauthenticated: The head is on another machine and no token was given.
    """
    given = token or environ.get("GPUSCHED_TOKEN")
    if given:
        return GivenToken(given)
    file = environ.get("GPUSCHED_TOKEN_FILE")
    if file:
        return FileToken(Path(file))
    if not address.is_local:
        raise Unauthenticated(
            f"the head at {address.text} is on another machine: set GPUSCHED_TOKEN or GPUSCHED_TOKEN_FILE"
        )
    return SocketToken(address.token_socket(default_home(environ)), node)
