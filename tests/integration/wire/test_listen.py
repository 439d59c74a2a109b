"""Where a head listens: its own socket and loopback; elsewhere only with TLS; never beside another head."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fakes import wire_head as fake
from fakes.wire_head import Head, opened

from gpusched.domain.errors import ConfigInvalid, HeadUnavailable
from gpusched.domain.ids import JobId
from gpusched.wire.address import parse_address
from gpusched.wire.tls import Shown, served_certificate


async def asked(address: str, **options):
    async with opened("async", address, **options) as caller:
        return await caller.call(lambda client: client.jobs.get(JobId(7)))


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "10.1.2.3:7700", "head.example.org:7700"])
async def test_beyond_loopback_it_refuses_to_start_without_tls(home, address):
    head = Head(home)
    head.tcp = address
    with pytest.raises(ConfigInvalid, match=r"refusing to start: .* TLS"):
        await head.start()
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0"])
async def test_port_zero_takes_a_free_port_and_says_which(home, address):
    head = Head(home)
    head.tcp = address
    await head.start()
    try:
        assert not head.tcp.endswith(":0")
        assert await asked(head.tcp) == fake.JOB
    finally:
        await head.stop()


async def test_a_port_in_use_is_named_with_the_remedy(home):
    with socket.create_server(("127.0.0.1", 0)) as other:
        head = Head(home)
        head.tcp = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConfigInvalid, match=rf"{head.tcp}.*choose another port"):
            await head.start()
    assert list(home.iterdir()) == []  # the socket that was bound before is gone too


async def test_two_heads_never_share_a_port(head, tmp_path, home):
    second = Head(home / "second")
    second.home.mkdir()
    second.tcp = head.tcp
    with pytest.raises(ConfigInvalid, match="cannot listen"):
        await second.start()
    assert await asked(head.tcp) == fake.JOB


async def test_a_second_head_on_one_socket_is_refused_and_harms_nothing(head, home):
    with pytest.raises(ConfigInvalid, match=r"another gpusched is serving on .*head\.sock"):
        await Head(home).start()
    assert await asked(head.unix) == fake.JOB


async def test_a_dead_heads_socket_is_taken_over(home):
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home / "head.sock"))
    head = Head(home)
    await head.start()
    assert await asked(head.unix) == fake.JOB
    await head.stop()


async def test_a_file_in_the_way_is_left_alone(home):
    (home / "head.sock").write_text("mine")
    with pytest.raises(ConfigInvalid, match="not a socket"):
        await Head(home).start()
    assert (home / "head.sock").read_text() == "mine"


async def test_a_socket_path_too_long_for_the_kernel_is_said_to_be(home):
    with pytest.raises(ConfigInvalid, match="107 at most"):
        await Head(home / ("x" * 120)).start()


async def test_a_missing_home_is_named(home):
    with pytest.raises(ConfigInvalid, match="is no folder"):
        await Head(home / "nowhere").start()


async def test_every_local_user_may_connect(head, home):
    assert stat.S_IMODE((home / "head.sock").stat().st_mode) == 0o666


async def test_a_stopped_head_leaves_no_socket_and_answers_nobody(head, home):
    await head.stop()
    assert list(home.iterdir()) == []
    with pytest.raises(HeadUnavailable, match=r"head\.sock.*gpusched up"):
        await asked(head.unix, retry_s=0)


@dataclass(frozen=True)
class Files:
    certificate: Path
    key: Path

    def __call__(self) -> Shown:
        return Shown(self.key.read_bytes(), self.certificate.read_bytes())


@pytest.fixture
def tls(tmp_path) -> Files:
    files = Files(tmp_path / "cert.pem", tmp_path / "key.pem")
    make_certificate(files)
    return files


def make_certificate(files: Files) -> None:
    """A self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "head")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    files.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_with_tls_every_interface_is_served(home, tls, kind):
    head = Head(home)
    head.tcp = "0.0.0.0:0"
    await head.start(tls=tls)
    port = head.tcp.rpartition(":")[2]
    try:
        async with opened(kind, f"127.0.0.1:{port}", ca_file=tls.certificate) as caller:
            assert await caller.call(lambda client: client.jobs.get(JobId(7))) == fake.JOB
        with pytest.raises(HeadUnavailable):  # in the clear it is not spoken to
            await asked(f"127.0.0.1:{port}", retry_s=0)
    finally:
        await head.stop()


async def test_tls_files_that_cannot_be_read_are_named(home, tmp_path):
    with pytest.raises(ConfigInvalid, match=r"nowhere\.pem"):
        await Head(home).start(tls=Files(tmp_path / "nowhere.pem", tmp_path / "nowhere.pem"))


async def test_tls_files_that_are_no_certificate_are_refused(home, tls):
    tls.certificate.write_text("not a certificate")
    with pytest.raises(ConfigInvalid, match="certificate"):
        await Head(home).start(tls=tls)


async def test_a_certificate_that_was_renewed_is_shown_to_who_comes_next(home, tls, tmp_path):
    head = Head(home)
    await head.start(tls=tls)
    old = await asyncio.to_thread(served_certificate, parse_address(head.tcp))
    make_certificate(tls)
    new = await asyncio.to_thread(served_certificate, parse_address(head.tcp))
    assert (await asked(head.tcp, ca_file=tls.certificate)).job.job_id == 7
    await head.stop()
    assert old != new == tls.certificate.read_text().encode()
