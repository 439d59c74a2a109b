"""The token socket believes the kernel about who asks, and survives whoever asks badly."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import stat
from dataclasses import dataclass

import pytest

from gpusched.domain.errors import ConfigInvalid, HeadUnavailable, NotPermitted
from gpusched.domain.ids import NodeName
from gpusched.wire.token_socket import CONNECTIONS_PER_USER_MAX, LINE_BYTES_MAX, fetch_token, serve_tokens
from gpusched.wire.unix_socket import Peer, peer_of


@dataclass
class Issued:
    token: str
    expires_at_us: int


def issue(uid, gid, *, node):
    if node == "forbidden":
        raise NotPermitted("ada may not run an agent")
    return Issued(f"{uid}:{gid}:{node}", 9)


@pytest.fixture
async def path(home):
    server = await serve_tokens(home / "token.sock", issue)
    yield home / "token.sock"
    server.close()


async def ask(path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line)
    writer.write_eof()
    async with asyncio.timeout(10):
        try:
            answer = await reader.read()
        except ConnectionError:
            answer = b""
    writer.close()
    return answer


def test_the_kernel_names_the_peer():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert peer_of(ours) == Peer(os.getpid(), os.getuid(), os.getgid())


async def test_a_caller_gets_a_token_for_who_it_is(path):
    token = await asyncio.to_thread(fetch_token, path)
    assert token == f"{os.getuid()}:{os.getgid()}:None"


async def test_an_agent_gets_a_token_for_its_node(path):
    assert (await asyncio.to_thread(fetch_token, path, NodeName("n1"))).endswith(":n1")


async def test_a_refusal_keeps_its_class_and_words(path):
    with pytest.raises(NotPermitted, match="ada may not run an agent"):
        await asyncio.to_thread(fetch_token, path, NodeName("forbidden"))


async def test_a_claim_to_be_somebody_else_is_not_even_read(path):
    answer = json.loads(await ask(path, b'{"node": null, "uid": 0, "gid": 0, "user": "root"}\n'))
    assert answer == {"token": f"{os.getuid()}:{os.getgid()}:None", "expires_at_us": 9}


@pytest.mark.parametrize(
    "line",
    [b"\n", b"hello\n", b"\xff\n", b"", b"x" * (LINE_BYTES_MAX * 4) + b"\n", b"[" * 4000 + b"\n"],
    ids=["empty", "no json", "no utf-8", "nothing", "endless", "deep"],
)
async def test_a_bad_request_gets_no_token_and_the_next_caller_is_served(path, line):
    assert b"token" not in await ask(path, line)
    assert await asyncio.to_thread(fetch_token, path)


async def test_a_node_that_is_no_name_is_refused(path):
    assert json.loads(await ask(path, b'{"node": 7}\n'))["error"] == "NotPermitted"


async def test_every_local_user_may_ask(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o666


async def test_a_second_server_is_refused(path):
    with pytest.raises(ConfigInvalid, match="another gpusched"):
        await serve_tokens(path, issue)
    assert await asyncio.to_thread(fetch_token, path)


async def test_who_connects_and_says_nothing_takes_a_bounded_part_of_the_heads_descriptors(path):
    silent = [await asyncio.open_unix_connection(path) for _ in range(CONNECTIONS_PER_USER_MAX)]
    reader, writer = await asyncio.open_unix_connection(path)
    async with asyncio.timeout(2):  # not held for as long as the others are
        assert await reader.read() == b""
    for _, open_writer in silent:
        open_writer.close()
    writer.close()
    async with asyncio.timeout(10):
        while b"token" not in await ask(path, b"{}\n"):
            pass  # the server has not seen yet that they are gone


async def test_no_head_is_said_with_the_remedy(home):
    with pytest.raises(HeadUnavailable, match=r"token\.sock.*gpusched up"):
        await asyncio.to_thread(fetch_token, home / "token.sock")
