"""Tokens for local users: a unix socket that reads who connected from the kernel and answers with a token.

One line of JSON each way. Request: ``{"node": null}``, or ``{"node": "n1"}`` for an agent. Answer:
``{"token": "...", "expires_at_us": 1}``, or ``{"error": "NotPermitted", "message": "..."}``.
gRPC for Python does not show peer credentials, hence the second socket.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from pathlib import Path
from typing import Any, Protocol

from gpusched.domain.errors import GpuschedError, HeadUnavailable, NotPermitted, Unauthenticated
from gpusched.domain.ids import NodeName
from gpusched.wire.address import check_socket_path
from gpusched.wire.unix_socket import Peer, claim_path, open_to_all, peer_of

LINE_BYTES_MAX = 8_192
ANSWER_TIMEOUT_S = 5.0
CONNECTIONS_PER_USER_MAX = 128
"""Of one user at once. A token takes a millisecond: who has more open is not asking for one."""


class Token(Protocol):
    """A signed token and when it ends."""

    @property
    def token(self) -> str: ...
    @property
    def expires_at_us(self) -> int: ...


class IssueToken(Protocol):
    """Signs a token for a unix user as the kernel named it. May raise ``NotPermitted``."""

    def __call__(self, uid: int, gid: int, *, node: NodeName | None) -> Token: ...


# ── the head's side ───────────────────────────────────────────────────────────────────


async def serve_tokens(path: Path, issue: IssueToken) -> asyncio.Server:
    """Serve tokens on ``path`` until the returned server is closed. Every local user may connect.

    Raises:
        ConfigInvalid: The path cannot be bound, or somebody answers there already.
    """

    open_by_uid: Counter[int] = Counter()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = peer_of(writer.get_extra_info("socket"))
        if open_by_uid[peer.uid] >= CONNECTIONS_PER_USER_MAX:
            writer.close()  # one user's silence must not use up the head's descriptors
            return
        open_by_uid[peer.uid] += 1
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reply = _answer(await reader.readline(), peer, issue)
                writer.write(json.dumps(reply).encode() + b"\n")
                await writer.drain()
        except (OSError, TimeoutError, ValueError, RecursionError):
            pass  # a caller that went away, said nothing, or sent an endless line gets no answer
        finally:
            open_by_uid[peer.uid] -= 1
            writer.close()

    claim_path(path)
    server = await asyncio.start_unix_server(answer, path, limit=LINE_BYTES_MAX)
    open_to_all(path)
    return server


def _answer(line: bytes, peer: Peer, issue: IssueToken) -> dict[str, object]:
    try:
        token = issue(peer.uid, peer.gid, node=_asked_node(line))
    except GpuschedError as error:
        return {"error": type(error).__name__, "message": str(error)}
    return {"token": token.token, "expires_at_us": token.expires_at_us}


def _asked_node(line: bytes) -> NodeName | None:
    request = json.loads(line)
    node = request.get("node") if isinstance(request, dict) else None
    if node is not None and not isinstance(node, str):
        raise NotPermitted("node must be a node's name")
    return None if node is None else NodeName(node)


# ── the client's side ─────────────────────────────────────────────────────────────────


def fetch_token(path: Path, node: NodeName | None = None) -> str:
    """Ask the head on this machine for a token for the calling user; for ``node``, an agent's.

    Blocks for at most ``ANSWER_TIMEOUT_S``.

    Raises:
        ConfigInvalid: ``path`` is too long for a socket.
        HeadUnavailable: Nobody answers on ``path``.
        NotPermitted: An agent's token is not given to this user.
        Unauthenticated: The head refused for another reason.
    """
    request = json.dumps({"node": node}).encode() + b"\n"
    check_socket_path(path)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.connect(str(path))
            connection.sendall(request)
            with connection.makefile("rb") as stream:
                reply: Any = json.loads(stream.readline(LINE_BYTES_MAX))
    except (OSError, ValueError) as error:
        raise HeadUnavailable(
            f"no head gives out tokens on {path} ({error}): start one with `gpusched up`, "
            "or name the home of one that runs in GPUSCHED_HOME"
        ) from error
    if "token" in reply:
        return str(reply["token"])
    refusal = NotPermitted if reply.get("error") == "NotPermitted" else Unauthenticated
    raise refusal(str(reply.get("message")))
