"""Keys and certificates of a node, in PEM. Members alone load this: it is large."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


def new_key(common_name: str) -> tuple[bytes, bytes]:
    """A new key (PKCS 8), and the request to certify it for ``common_name`` (64 characters at most)."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    request = x509.CertificateSigningRequestBuilder(name).sign(key, hashes.SHA256())
    kept = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return kept, request.public_bytes(Encoding.PEM)


def span(chain: bytes) -> tuple[datetime, datetime]:
    """From when to when the first certificate of ``chain`` holds.

    Raises:
        ValueError: There is none.
    """
    certificate = x509.load_pem_x509_certificate(chain)
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def by_fingerprint(certificates: bytes) -> dict[str, bytes]:
    """Each certificate by its fingerprint, ``sha256:HEX``.

    Raises:
        ValueError: There are none.
    """
    return {
        f"sha256:{each.fingerprint(hashes.SHA256()).hex()}": each.public_bytes(Encoding.PEM)
        for each in x509.load_pem_x509_certificates(certificates)
    }
