"""The head that is attacked: its tokens, requests that it takes, and somebody else who goes on asking."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cluster import Head
from gpusched.api.auth import TokenAuthority
from gpusched.api.token_keys import TokenKeys
from gpusched.daemon.clock import SystemClock
from gpusched.domain.ids import NodeName
from gpusched.domain.job_spec import JobSpec
from gpusched.wire.async_client import AsyncClient
from gpusched.wire.convert import JOB_SPEC
from gpusched.wire.methods import Method

WITHOUT_RATE_LIMIT = """
[limits]
requests_per_s = 1000000
request_burst = 1000000
"""
OTHER_PAUSE_S = 0.02
OTHER_UID = 54_321


def authority(home: Path) -> TokenAuthority:
    """Signs as the head does, with its own key."""
    return TokenAuthority(TokenKeys(home / "token.key"), "gpusched", frozenset(), SystemClock())


def operator_token(home: Path) -> str:
    """Of the head's own user."""
    return authority(home).issue(os.geteuid(), 0).token


def user_token(home: Path) -> str:
    """Of somebody without any role but that of a user."""
    return authority(home).issue(OTHER_UID, OTHER_UID).token


def node_token(home: Path, node: NodeName) -> str:
    """Of a node's agent."""
    return authority(home).issue(0, 0, node=node).token


def target_of(head: Head) -> str:
    """The head's unix socket, as gRPC names it."""
    return f"unix:{head.home / 'head.sock'}"


def port_of(process: psutil.Process) -> int:
    """The TCP port on which it listens."""
    return int(next(each.laddr.port for each in process.net_connections("tcp") if each.status == "LISTEN"))


def good_request(method: Method) -> Any:
    """A request that is taken: a held job, job 1, node n1."""
    request, fields = method.request(), method.request.DESCRIPTOR.fields_by_name
    spec = JOB_SPEC.to_proto(JobSpec(name="good", command=("true",), workdir="/", hold=True))
    for name, value in (("request_id", "fuzz"), ("job_id", 1), ("node", "n1"), ("reason", "fuzz")):
        if name in fields and fields[name].message_type is None:
            setattr(request, name, value)
    if "spec" in fields:
        request.spec.CopyFrom(spec)
    if "specs" in fields:
        request.specs.append(spec)
    return request


@asynccontextmanager
async def somebody_else(head: Head) -> AsyncIterator[list[float]]:
    """Another user who lists the nodes all the while. Yields how long each answer took, in seconds."""
    waits_s: list[float] = []
    asking = asyncio.create_task(_ask(head, waits_s))
    try:
        yield waits_s
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


async def _ask(head: Head, waits_s: list[float]) -> None:
    async with AsyncClient(head.address, token=user_token(head.home)) as client:
        while True:
            began = time.monotonic()
            await client.nodes.list()
            waits_s.append(time.monotonic() - began)
            await asyncio.sleep(OTHER_PAUSE_S)
