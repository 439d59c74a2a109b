"""A head and agents on hosts of their own: joined by token, known by certificate, over TLS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpusched_cli import gpusched
from torture.network import Host

from benchmarks.cluster import Head, running_head, until
from gpusched.wire.client import Client

PORT, AGENTS_PORT = 7460, 7461


@contextmanager
def remote_head(home: Path, host: Host, config: str = "") -> Iterator[Head]:
    """A head of that host, with a CA of its own. Its unix socket is reached from all of this machine."""
    listen = f'[listen]\nagents = "{host.address}:{AGENTS_PORT}"\n'
    head = Head(home, listen + config, tcp=f"{host.address}:{PORT}", prefix=host.prefix)
    _told("ca", "init", home=home)
    with running_head(head):
        yield head


@contextmanager
def remote_agent(head: Head, head_host: Host, host: Host, *options: str) -> Iterator[int]:
    """An agent of that host, joined and reachable; its pid."""
    home = head.home / host.name
    home.mkdir()
    token = _told("node", "join-token", "--node", host.name, home=head.home)
    fingerprint = _told("ca", "show", home=head.home).split()[0]
    words = ["agent", "--home", str(home), "--name", host.name, "--head", f"{head_host.address}:{PORT}"]
    words += ["--join", "env", "--ca-fingerprint", fingerprint, "--on-stop", "end", *options]
    with (home / "agent.log").open("ab") as log:
        agent = subprocess.Popen(
            [*host.prefix, sys.executable, "-m", "gpusched", *words],
            env={**os.environ, "GPUSCHED_JOIN_TOKEN": token},
            stdout=log,
            stderr=log,
        )
    try:
        with head.client() as client:
            until(lambda: _has_joined(client, host.name), f"{host.name} to join")
        yield agent.pid
    finally:
        agent.terminate()
        agent.wait()


def _has_joined(client: Client, name: str) -> bool:
    return name in {view.node.name for view in client.nodes.list()}


def _told(*words: str, home: Path) -> str:
    ran = gpusched(*words, home=home)
    if ran.code != 0:
        raise RuntimeError(f"gpusched {words}: {ran}")
    return ran.out.strip()
