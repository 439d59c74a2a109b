"""The cluster's own certificate authority: who is a head and who is a node, in X.509 (RFC 5280).

Files, in ``<home>/ca``: ``ca.key`` (mode 0600) signs; ``trusted.pem`` holds the CA certificates that count,
newest first; ``bridge.pem``, after a change of keys, is the new CA signed by the one before it, so that
who trusts only the old one follows too. A node is named by a URI as SPIFFE has it:
``spiffe://<cluster>/node/<name>``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gpusched.api.private_file import file_stamp, write_private
from gpusched.domain.errors import ConfigInvalid, InvalidSpec, Violation
from gpusched.domain.ids import NodeName
from gpusched.wire.tls import HEAD_NAME

FOLDER = "ca"
CA_LIFETIME = timedelta(days=3650)
HEAD_LIFETIME = timedelta(days=30)
CLOCKS_APART = timedelta(days=1)
"""Certificates begin this long ago, for hosts whose clocks lag behind the head's."""

SIGNING_REQUEST_BYTES_MAX = 16_384

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key and its certificate chain, PEM, and when the chain ends."""

    key: bytes
    chain: bytes
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SignedNode:
    """A node's certificate chain, PEM."""

    chain: bytes
    serial: str
    issued_at_us: int
    expires_at_us: int


@dataclass(frozen=True, slots=True)
class _Files:
    key: Key
    trusted: tuple[x509.Certificate, ...]  # newest first
    bridge: x509.Certificate | None


class CertificateAuthority:
    """Signs for one cluster. The files are read again when they have changed.

    Args:
        folder: As made by ``create_ca``.
        cluster: The cluster's name, in every URI.

    Raises:
        ConfigInvalid: There is no usable CA in ``folder``.
    """

    def __init__(self, folder: Path, cluster: str) -> None:
        self._folder, self._cluster = folder, cluster
        self._seen = file_stamp(folder / "ca.key")
        self._files = _read(folder)

    @property
    def trusted(self) -> bytes:
        """The CA certificates that count, PEM, newest first."""
        return b"".join(each.public_bytes(Encoding.PEM) for each in self._now().trusted)

    @property
    def fingerprint(self) -> str:
        """Of the newest CA certificate: ``sha256:`` and the digest of its DER in hex."""
        return fingerprint(self._now().trusted[0])

    def node_uri(self, node: NodeName) -> str:
        """How a certificate names ``node``."""
        return f"spiffe://{self._cluster}/node/{node}"

    def issue_head(self, names: Iterable[str], now: datetime) -> KeyPair:
        """Make a key and a certificate for a head that is reached by ``names`` (hosts and addresses)."""
        key = ec.generate_private_key(ec.SECP256R1())
        uri = x509.UniformResourceIdentifier(f"spiffe://{self._cluster}/head")
        all_names = [uri, *map(_host, dict.fromkeys((HEAD_NAME, *names)))]
        expires_at = now + HEAD_LIFETIME
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        chain, _ = self._sign(
            HEAD_NAME,
            all_names,
            key.public_key(),
            usage=usage,
            begins_at=now - CLOCKS_APART,
            expires_at=expires_at,
        )
        return KeyPair(_key_pem(key), chain, expires_at)

    def sign_node(
        self, signing_request: bytes, node: NodeName, now: datetime, lifetime: timedelta
    ) -> SignedNode:
        """Certify that whoever has the key of ``signing_request`` (PKCS #10, PEM) is ``node``.

        Nothing but the public key is taken from the request: who it is for is ours to say. It begins one
        lifetime ago, for heads whose clocks lag.

        Raises:
            InvalidSpec: It is no such request, or for another kind of key than P-256.
        """
        public = requested_key(signing_request)
        names = [x509.UniformResourceIdentifier(self.node_uri(node))]
        expires_at = now + lifetime
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        chain, serial = self._sign(
            node, names, public, usage=usage, begins_at=now - lifetime, expires_at=expires_at
        )
        return SignedNode(chain, serial, _us(now), _us(expires_at))

    def _sign(
        self,
        subject: str,
        names: Iterable[x509.GeneralName],
        public: ec.EllipticCurvePublicKey,
        *,
        usage: x509.ObjectIdentifier,
        begins_at: datetime,
        expires_at: datetime,
    ) -> tuple[bytes, str]:
        files = self._now()
        serial = x509.random_serial_number()
        certificate = (
            x509.CertificateBuilder(files.trusted[0].subject, _name(subject[:64]), public, serial)
            .not_valid_before(begins_at)
            .not_valid_after(expires_at)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(list(names)), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=True)
            .add_extension(_issued_by(files.key), critical=False)
            .sign(files.key, hashes.SHA256())
        )
        chain = [certificate] if files.bridge is None else [certificate, files.bridge]
        return b"".join(each.public_bytes(Encoding.PEM) for each in chain), f"{serial:x}"

    def _now(self) -> _Files:
        stamp = file_stamp(self._folder / "ca.key")
        if stamp is not None and stamp != self._seen:
            self._files, self._seen = _read(self._folder), stamp
        return self._files


def create_ca(folder: Path, cluster: str, now: datetime) -> str:
    """Make the CA of a cluster in ``folder``. Returns its fingerprint.

    Raises:
        ConfigInvalid: There is one already, or the folder cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (folder / "ca.key").exists():
            raise ConfigInvalid(f"{folder} has a CA already: `gpusched ca rotate` gives it a new key")
        key, certificate = _new_root(cluster, now)
        write_private(folder / "trusted.pem", certificate.public_bytes(Encoding.PEM))
        write_private(folder / "ca.key", _key_pem(key))
    except OSError as error:
        raise ConfigInvalid(f"{folder}: {error.strerror}: let this user write it") from error
    return fingerprint(certificate)


def rotate_ca(folder: Path, cluster: str, now: datetime) -> str:
    """Give the CA a new key. What the one before signed stays good until the next change of keys.

    Returns:
        The new fingerprint.

    Raises:
        ConfigInvalid: There is no usable CA, or the folder cannot be written; the CA is as it was.
    """
    old = _read(folder)
    key, certificate = _new_root(cluster, now)
    issuer = old.trusted[0].subject
    bridge = _ca_certificate(certificate.subject, issuer, key, old.key, now, path_length=0)
    trusted = (certificate, old.trusted[0])
    try:
        # The key last: until it is there, the head goes on with what it has read.
        write_private(folder / "trusted.pem", b"".join(c.public_bytes(Encoding.PEM) for c in trusted))
        write_private(folder / "bridge.pem", bridge.public_bytes(Encoding.PEM))
        write_private(folder / "ca.key", _key_pem(key))
    except OSError as error:
        raise ConfigInvalid(f"{folder}: {error.strerror}: let this user write it") from error
    return fingerprint(certificate)


def trusted_by(folder: Path) -> tuple[x509.Certificate, ...]:
    """The CA certificates in ``folder``, newest first.

    Raises:
        ConfigInvalid: There is no usable CA.
    """
    return _read(folder).trusted


def fingerprint(certificate: x509.Certificate) -> str:
    """``sha256:`` and the digest of the certificate's DER in hex."""
    return f"sha256:{certificate.fingerprint(hashes.SHA256()).hex()}"


def requested_key(signing_request: bytes) -> ec.EllipticCurvePublicKey:
    """The public key of a PKCS #10 request that is signed with it.

    Raises:
        InvalidSpec: It is no such request, or for another kind of key than P-256.
    """
    why = "is no signed PKCS #10 request for a P-256 key"
    if len(signing_request) > SIGNING_REQUEST_BYTES_MAX:
        raise InvalidSpec((Violation("signing_request", f"{why}: it is too long"),))
    try:
        request = x509.load_pem_x509_csr(signing_request)
        public = request.public_key()
        # The kind of key first: anybody may ask, and a signature by a giant RSA key is slow to check.
        if (
            isinstance(public, ec.EllipticCurvePublicKey)
            and public.curve.name == "secp256r1"
            and request.is_signature_valid
        ):
            return public
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise InvalidSpec((Violation("signing_request", why),)) from error
    raise InvalidSpec((Violation("signing_request", why),))


def key_digest(public: ec.EllipticCurvePublicKey) -> bytes:
    """SHA-256 of a public key: what a spent join token remembers."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize()


def named_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """The URIs of a certificate."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(names.value.get_values_for_type(x509.UniformResourceIdentifier))


def _read(folder: Path) -> _Files:
    path = folder / "ca.key"
    try:
        if path.stat().st_mode & 0o077:
            raise ConfigInvalid(f"{path}: others can read the CA's key: `chmod 600 {path}`")
        key = load_pem_private_key(path.read_bytes(), password=None)
        trusted = x509.load_pem_x509_certificates((folder / "trusted.pem").read_bytes())
        bridges = _bridges(folder / "bridge.pem")
    except FileNotFoundError as error:
        raise ConfigInvalid(f"{error.filename} is not there: `gpusched ca init` makes a CA") from error
    except OSError as error:
        raise ConfigInvalid(f"{folder}: {error.strerror}: let this user read it") from error
    except (TypeError, ValueError) as error:
        raise ConfigInvalid(
            f"{folder}: not a CA's files: restore them, or remove them to start anew"
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigInvalid(f"{path}: not a P-256 key: restore it, or remove {folder} to start anew")
    if trusted[0].public_key() != key.public_key():
        # Between two files of a rotation that was cut off: what was trusted before still is.
        trusted = [each for each in trusted if each.public_key() == key.public_key()]
        if not trusted:
            raise ConfigInvalid(f"{folder}: ca.key is not the key of trusted.pem: restore both together")
    bridge = next((each for each in bridges if each.public_key() == key.public_key()), None)
    return _Files(key, tuple(trusted), bridge)


def _bridges(path: Path) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(path.read_bytes()) if path.exists() else []


def _new_root(cluster: str, now: datetime) -> tuple[Key, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own for each key: two certificates of one name are easily taken for one another.
    name = _name(f"gpusched {cluster[:32]} {now:%Y-%m-%d} {os.urandom(4).hex()}")
    return key, _ca_certificate(name, name, key, key, now, path_length=1)


def _ca_certificate(
    subject: x509.Name, issuer: x509.Name, key: Key, by: Key, now: datetime, *, path_length: int
) -> x509.Certificate:
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - CLOCKS_APART)
        .not_valid_after(now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_issued_by(by), critical=False)
        .sign(by, hashes.SHA256())
    )


def _issued_by(key: Key) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _us(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)


def at(now_us: int) -> datetime:
    """An instant as X.509 has it: to the second, UTC."""
    return datetime.fromtimestamp(now_us // 1_000_000, UTC)


def describe(certificate: x509.Certificate, *, wants_pem: bool) -> str:
    """A CA certificate for people to read, or as PEM."""
    if wants_pem:
        return certificate.public_bytes(Encoding.PEM).decode()
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    until = certificate.not_valid_after_utc.date().isoformat()
    return f"{fingerprint(certificate)}  {name.value!s}, until {until}\n"
