"""Addresses as people write them, and what is taken from the environment when they write none."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gpusched.api.ca import create_ca
from gpusched.domain.errors import ConfigInvalid, Unauthenticated
from gpusched.wire.address import default_addresses, default_home, is_loopback, parse_address
from gpusched.wire.channel import tls_for
from gpusched.wire.credentials import FileToken, token_source


@pytest.mark.parametrize(
    ("text", "target", "is_local"),
    [
        ("unix:///run/gs/head.sock", "unix:/run/gs/head.sock", True),
        ("unix:/run/gs/head.sock", "unix:/run/gs/head.sock", True),
        ("127.0.0.1:7700", "127.0.0.1:7700", True),
        ("localhost:7700", "localhost:7700", True),
        ("[::1]:7700", "[::1]:7700", True),
        ("head.example.org:7700", "head.example.org:7700", False),
        ("0.0.0.0:7700", "0.0.0.0:7700", False),
        ("10.0.0.1:0", "10.0.0.1:0", False),
    ],
)
def test_an_address_is_read(text, target, is_local):
    address = parse_address(text)
    assert (address.target, address.is_local) == (target, is_local)


@pytest.mark.parametrize(
    "text", ["", "head", ":7700", "head:", "head:x", "head:70000", "::1:7700", "http://head:7700", "a b:1"]
)
def test_what_is_no_address_is_refused_with_the_two_forms(text):
    with pytest.raises(ConfigInvalid, match=r"unix:///path/head\.sock or host:port"):
        parse_address(text)


def test_a_name_is_loopback_only_if_it_is_localhost():
    assert is_loopback("localhost")
    assert not is_loopback("localhost.example.org")


def test_the_default_is_the_socket_of_the_home():
    (found,) = default_addresses({"GPUSCHED_HOME": "/srv/gs"})
    assert found.socket == Path("/srv/gs/head.sock")
    assert default_home({}) == Path.home() / ".gpusched"
    assert default_home({"GPUSCHED_HOME": ""}) == Path.home() / ".gpusched"


def test_the_environment_names_another_head_or_several():
    (found,) = default_addresses({"GPUSCHED_ADDRESS": "localhost:1", "GPUSCHED_HOME": "/x"})
    assert found.port == 1
    both = default_addresses({"GPUSCHED_ADDRESS": "a:1, unix:///b"})
    assert [address.text for address in both] == ["a:1", "unix:///b"]


def test_tokens_lie_beside_the_socket_and_for_tcp_at_home():
    home = Path("/home/ada/.gpusched")
    assert parse_address("unix:///run/gs/head.sock").token_socket(home) == Path("/run/gs/token.sock")
    assert parse_address("localhost:1").token_socket(home) == home / "token.sock"


def test_a_given_token_goes_before_the_environments():
    address = parse_address("head:1")
    environ = {"GPUSCHED_TOKEN": "from-env", "GPUSCHED_TOKEN_FILE": "/nowhere"}
    assert token_source(address, token="given", environ=environ).token() == "given"
    assert token_source(address, environ=environ).token() == "from-env"


def test_a_token_file_is_read_again_when_its_token_did_not_hold(tmp_path):
    file = tmp_path / "token"
    file.write_text(" one\n")
    source = token_source(parse_address("head:1"), environ={"GPUSCHED_TOKEN_FILE": str(file)})
    assert source.token() == "one"
    assert not source.renew("one")
    file.write_text("two")
    assert source.renew("one")
    assert source.token() == "two"


@pytest.mark.parametrize("content", [None, b"", b"\xff"], ids=["missing", "empty", "no text"])
def test_a_token_file_that_holds_none_is_named(tmp_path, content):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigInvalid, match=str(file)):
        FileToken(file).token()


def test_a_head_elsewhere_needs_a_token():
    with pytest.raises(Unauthenticated, match="GPUSCHED_TOKEN"):
        token_source(parse_address("head.example.org:1"), environ={})


def test_a_head_elsewhere_is_spoken_to_over_tls_only(tmp_path):
    create_ca(tmp_path / "ca", "lab", datetime.now(UTC))
    ca = tmp_path / "ca" / "trusted.pem"
    assert tls_for(parse_address("head.example.org:1"), None) is not None
    assert tls_for(parse_address("localhost:1"), None) is None
    assert tls_for(parse_address("localhost:1"), ca).ca_pem == ca.read_bytes()
    with pytest.raises(ConfigInvalid, match="nowhere"):
        tls_for(parse_address("localhost:1"), tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"PEM", b"\x80\xff", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_ca_file_without_a_certificate_is_refused_before_anybody_is_called(tmp_path, content):
    (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(
        ConfigInvalid, match=r"ca\.pem holds no certificate \(PEM\): `gpusched ca show --pem`"
    ):
        tls_for(parse_address("localhost:1"), tmp_path / "ca.pem")
