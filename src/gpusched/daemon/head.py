"""The head: one store, one engine loop, one server. This is the only wiring.

store ── loop ── bare metal ── agents' streams
           └─ hub ── watchers           reader ── API reads
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from gpusched.api.agents import AgentApi
from gpusched.api.auth import TokenAuthority
from gpusched.api.jobs import JobApi
from gpusched.api.members import Members, MemberSettings
from gpusched.api.nodes import NodeApi
from gpusched.api.output import JobOutput
from gpusched.api.rank_tokens import RankTokens
from gpusched.api.reports import ReportApi
from gpusched.api.token_keys import TokenKeys
from gpusched.api.watch import EventHub
from gpusched.backends.bare_metal import BareMetal
from gpusched.daemon.clock import SystemClock
from gpusched.daemon.config import HeadConfig
from gpusched.daemon.head_tls import HeadCertificate, find_ca, head_names, site_tls
from gpusched.domain.errors import ConfigInvalid
from gpusched.engine.core import EngineSettings
from gpusched.engine.loop import Loop, LoopSettings
from gpusched.store.database import open_store
from gpusched.store.reader import Reader
from gpusched.telemetry.latest import Latest
from gpusched.wire.address import TOKEN_SOCKET
from gpusched.wire.handlers import Handlers
from gpusched.wire.server import AgentsDoor, Server
from gpusched.wire.token_socket import serve_tokens

log = logging.getLogger(__name__)
STOP_GRACE_S = 2.0
TOKEN_KEY = "token.key"  # noqa: S105 - a file name


@dataclass(frozen=True, slots=True)
class Serving:
    """A head that answers."""

    cluster: str
    addresses: tuple[str, ...]


async def run_head(home: Path, config: HeadConfig, ready: Callable[[Serving], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        home: Where sockets, key and an embedded database live; made if missing, mode 0700.
        config: Settings.
        ready: Called once when clients can connect.

    Raises:
        ConfigInvalid: Something in the configuration or the home can't be used; nothing was started.
        StoreUnavailable: The database doesn't answer.
    """
    make_home(home)
    clock = SystemClock()
    url = config.store_url(home)
    async with AsyncExitStack() as stack:
        store = stack.enter_context(await asyncio.to_thread(open_store, url))
        reader = stack.enter_context(Reader(url))
        hub, bare_metal, latest = EventHub(), BareMetal(), Latest()
        loop = Loop(store, bare_metal, hub, clock, _loop_settings(config))
        ca = find_ca(home, config.cluster)
        revoked = await asyncio.to_thread(store.members.revoked, clock.now_us())
        members = Members(
            loop,
            store.members,
            ca,
            MemberSettings(
                cluster=config.cluster, certificate_lifetime_s=config.identity.certificate_lifetime_s
            ),
            agents_port=lambda: server.agents_port,
            revoked=revoked,
        )
        authority = TokenAuthority(
            TokenKeys(home / TOKEN_KEY),
            config.cluster,
            frozenset(config.operators),
            clock,
        )
        ranks = RankTokens(authority, loop)
        agents = AgentApi(
            loop,
            bare_metal,
            latest,
            members,
            cluster=config.cluster,
            heartbeat_interval_s=config.engine.heartbeat_interval_s,
            lease_s=config.engine.silence_max_s,
        )
        handlers = Handlers(
            jobs=JobApi(loop, reader, hub, JobOutput(reader, hub, agents), config.rate_book),
            nodes=NodeApi(loop, latest),
            agents=agents,
            reports=ReportApi(reader, config.rate_book, clock),
            members=members,
        )
        certificate = None if ca is None else HeadCertificate(ca, head_names(config.listen), clock)
        server = Server(
            handlers,
            ranks.authenticate,
            _addresses(home, config),
            tls=site_tls(config.listen) or (None if certificate is None else certificate.to_people),
            agents=_agents_door(config, certificate, members),
        )
        working = asyncio.create_task(loop.run(), name="engine")
        stack.callback(working.cancel)
        await server.start()
        stack.push_async_callback(server.stop, STOP_GRACE_S)
        tokens = await serve_tokens(home / TOKEN_SOCKET, authority.issue)
        stack.callback(tokens.close)
        ready(Serving(config.cluster, server.addresses))
        await _until_stopped(working)


def make_home(home: Path) -> None:
    """Make the home. Others may pass through to its sockets and list nothing.

    Raises:
        ConfigInvalid: It can't be made or written.
    """
    try:
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigInvalid(f"{home}: {error.strerror}: choose another GPUSCHED_HOME") from error
    if not os.access(home, os.W_OK | os.X_OK):
        raise ConfigInvalid(f"{home}: not writable: choose another GPUSCHED_HOME")


def _loop_settings(config: HeadConfig) -> LoopSettings:
    return LoopSettings(
        engine=EngineSettings(
            cluster=config.cluster,
            partitions=config.partitions,
            topology=config.topology.read(),
            cycle_depth_max=config.engine.cycle_depth_max,
        ),
        silence_max_s=config.engine.silence_max_s,
    )


def _addresses(home: Path, config: HeadConfig) -> tuple[str, ...]:
    unix = f"unix://{(home / config.listen.unix).absolute()}"
    return (unix, config.listen.tcp) if config.listen.tcp else (unix,)


def _agents_door(
    config: HeadConfig, certificate: HeadCertificate | None, members: Members
) -> AgentsDoor | None:
    if not config.listen.agents:
        return None
    if certificate is None:
        raise ConfigInvalid("listen.agents needs the cluster's CA: run `gpusched ca init` first")
    return AgentsDoor(config.listen.agents, certificate.to_agents, members.authenticate)


async def _until_stopped(working: asyncio.Task[None]) -> None:
    """Wait for a signal; if the engine ends first, its error is ours: a head without it must not serve."""
    stopped = asyncio.Event()
    running = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.add_signal_handler(number, stopped.set)
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait({waiting, working}, return_when=asyncio.FIRST_COMPLETED)
    if working.done():
        waiting.cancel()
        working.result()
