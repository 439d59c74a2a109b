"""The keys that sign tokens: one signs, the one before it still verifies, so a change refuses nobody.

Both are files of the head's home, mode 0600. ``rotate_token_key`` replaces them while the head
runs; the head sees the change at the next token.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from gpusched.api.private_file import file_stamp, make_private, write_private
from gpusched.domain.errors import ConfigInvalid

PREVIOUS_SUFFIX = ".previous"


@dataclass(frozen=True, slots=True)
class KeyRing:
    """``signing`` signs; each of ``verifying``, by its id, verifies."""

    signing: Ed25519PrivateKey
    key_id: str
    verifying: dict[str, Ed25519PublicKey]


class TokenKeys:
    """The key files of a head, read again whenever they have changed.

    Args:
        path: Of the signing key; made if it isn't there. The one before it lies beside it.

    Raises:
        ConfigInvalid: A file is no Ed25519 key, others can read it, or we can't.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        load_or_create_key(path)
        self._seen = self._stamp()
        self._ring = self._read()

    def ring(self) -> KeyRing:
        """The keys as the files hold them now. A file that has become unusable leaves them as they were."""
        stamp = self._stamp()
        if stamp != self._seen:
            try:
                self._ring = self._read()
            except ConfigInvalid:
                return self._ring  # tried again at the next token: the operator may be at work on it
            self._seen = stamp
        return self._ring

    def _read(self) -> KeyRing:
        signing = _load_key(self._path)
        previous = _previous(self._path)
        keys = [signing, *([_load_key(previous)] if previous.exists() else [])]
        return KeyRing(signing, key_id(signing), {key_id(key): key.public_key() for key in keys})

    def _stamp(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(map(file_stamp, (self._path, _previous(self._path))))


def rotate_token_key(path: Path) -> str:
    """Put a new signing key in the place of the one at ``path``, which verifies on. Returns the new id.

    The previous one is there before the new one is, so no token fails at any instant. The one before the
    previous is forgotten: rotate twice within a token's life and its tokens are refused, then renewed.

    Raises:
        ConfigInvalid: There is no usable key, or the files cannot be written; the keys are as they were.
    """
    signing = _load_key(path)
    new = Ed25519PrivateKey.generate()
    try:
        write_private(_previous(path), _pem(signing))
        write_private(path, _pem(new))
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}: let this user write it") from error
    return key_id(new)


def key_id(key: Ed25519PrivateKey) -> str:
    """The key's name in a token's header (``kid``): a digest of its public half."""
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.urlsafe_b64encode(hashlib.sha256(public).digest()[:12]).decode()


def load_or_create_key(path: Path) -> Ed25519PrivateKey:
    """Read the signing key, or make one (mode 0600) if the file isn't there.

    Raises:
        ConfigInvalid: The file is no Ed25519 key, others can read it, or we can't.
    """
    key = Ed25519PrivateKey.generate()
    try:
        make_private(path, _pem(key))
    except FileExistsError:
        return _load_key(path)
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}: let this user write it") from error
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


def _previous(path: Path) -> Path:
    return path.with_name(path.name + PREVIOUS_SUFFIX)


def _pem(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
