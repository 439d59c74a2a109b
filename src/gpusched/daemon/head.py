"""The head: one store, one engine loop, one server. This is the only wiring.

leadership ── server: stands by, or serves
   │
store ── loop ── bare metal ── agents' streams
           └─ hub ── watchers           reader ── API reads
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import stat
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from gpusched.api.agents import AgentApi
from gpusched.api.auth import TokenAuthority
from gpusched.api.ca import CertificateAuthority
from gpusched.api.jobs import JobApi
from gpusched.api.marks import MarkSeals
from gpusched.api.members import Members, MemberSettings
from gpusched.api.nodes import NodeApi
from gpusched.api.output import JobOutput
from gpusched.api.rank_tokens import RankTokens
from gpusched.api.rate_limit import Rate, RateLimit
from gpusched.api.reports import ReportApi
from gpusched.api.token_keys import TokenKeys
from gpusched.api.watch import EventHub
from gpusched.backends.bare_metal import BareMetal
from gpusched.daemon.clock import SystemClock
from gpusched.daemon.config import HeadConfig
from gpusched.daemon.election import keep, win
from gpusched.daemon.head_tls import HeadCertificate, find_ca, head_names, site_tls
from gpusched.daemon.trust import trust_of
from gpusched.domain.errors import ConfigInvalid, NotLeading
from gpusched.engine.loop import Loop, LoopSettings
from gpusched.store.database import SqlStore, open_store
from gpusched.store.file_lock import FileLock
from gpusched.store.high_water import HighWater, Memory
from gpusched.store.leadership import Leadership
from gpusched.store.reader import Reader
from gpusched.telemetry.latest import Latest
from gpusched.wire.address import TOKEN_SOCKET
from gpusched.wire.handlers import Handlers
from gpusched.wire.server import AgentsDoor, Server
from gpusched.wire.token_socket import serve_tokens

log = logging.getLogger(__name__)
STOP_GRACE_S = 2.0
HOME_LOCK = "head.lock"
HIGH_WATER = "seen"
TOKEN_KEY = "token.key"  # noqa: S105 - a file name


@dataclass(frozen=True, slots=True)
class Serving:
    """A head that answers. ``leader``: the address of the one that leads, if it is another."""

    cluster: str
    addresses: tuple[str, ...]
    leader: str | None = None


async def run_head(
    home: Path, config: HeadConfig, ready: Callable[[Serving], None], *, accepts_loss: bool
) -> None:
    """Serve until SIGTERM or SIGINT; stand by first while another head leads.

    Args:
        home: Where sockets, key and an embedded database live; made if missing, mode 0700.
        config: Settings.
        ready: Called once when clients can connect.
        accepts_loss: An operator has said so of a database that went back in time.

    Raises:
        ConfigInvalid: Something in the configuration or the home can't be used; nothing was started.
        StoreUnavailable: The database doesn't answer, or is SQLite and another head's.
        NotLeading: Another head has taken over. All that is in memory is out of date, so that there is
            nothing better to do than to end, and to be started again.
    """
    make_home(home)
    addresses = _addresses(home, config)
    with ExitStack() as stack:
        lock = stack.enter_context(FileLock(home / HOME_LOCK, str(home)))
        high_water = stack.enter_context(HighWater(home / HIGH_WATER))
        memory = Memory(high_water, accepts_loss)
        keys, ca = TokenKeys(home / TOKEN_KEY), find_ca(home, config.cluster)
        trust = partial(trust_of, config.cluster, keys, ca)
        opening = asyncio.to_thread(
            Leadership,
            config.store_url(home),
            holder=lock.identity,
            lease_s=config.leader.lease_s,
            memory=memory,
            trust=trust,
        )
        with await opening as leadership:
            authority = TokenAuthority(keys, config.cluster, frozenset(config.operators), SystemClock())
            certificate = (
                None if ca is None else HeadCertificate(ca, head_names(config.listen), SystemClock())
            )
            server = Server(
                None,
                authority.authenticate,
                addresses,
                tls=site_tls(config.listen) or (None if certificate is None else certificate.to_people),
                agents=_agents_door(config, certificate),
                why_not=lambda: _standing_by(leadership),
            )
            seals = MarkSeals(keys)
            head = _Head(home, config, leadership, server, authority, seals, ca, memory, trust, ready)
            working = asyncio.create_task(head.work(), name="head")
            try:
                await _until_stopped(working)
            finally:
                await server.stop(STOP_GRACE_S)
                working.cancel()
                await asyncio.wait({working})


@dataclass(frozen=True, slots=True)
class _Head:
    """What a head is made of before it leads."""

    home: Path
    config: HeadConfig
    leadership: Leadership
    server: Server
    authority: TokenAuthority
    seals: MarkSeals
    ca: CertificateAuthority | None
    memory: Memory
    trust: Callable[[], str]
    ready: Callable[[Serving], None]

    async def work(self) -> None:
        """Stand by, then lead."""
        await self.server.start()
        address = self.config.leader.address or _dialable(self.server.addresses[-1])
        is_leading = await asyncio.to_thread(self.leadership.stand, address)
        async with AsyncExitStack() as stack:
            tokens = await serve_tokens(self.home / TOKEN_SOCKET, self.authority.issue)
            stack.callback(tokens.close)
            if not is_leading:
                self._say_ready()
                await win(self.leadership, address, self.trust)
                log.warning("leading from now on, in epoch %d", self.leadership.epoch)
            await until_one_ends(keep(self.leadership), self._lead(says_ready=is_leading))

    async def _lead(self, *, says_ready: bool) -> None:
        config, clock = self.config, SystemClock()
        url = config.store_url(self.home)
        with ExitStack() as stack:
            store = stack.enter_context(
                await asyncio.to_thread(
                    open_store,
                    url,
                    self.leadership,
                    self.memory,
                    node_lease_s=config.engine.silence_max_s,
                )
            )
            reader = stack.enter_context(Reader(url))
            hub, bare_metal, latest = EventHub(), BareMetal(), Latest()
            # In a thread: a long queue takes long to read, and the lead must be renewed meanwhile.
            loop = await asyncio.to_thread(Loop, store, bare_metal, hub, clock, _loop_settings(config))
            members = await self._members(loop, store)
            ranks = RankTokens(self.authority, loop)
            agents = AgentApi(
                loop,
                bare_metal,
                latest,
                members,
                issue=ranks.issue,
                cluster=config.cluster,
                heartbeat_interval_s=config.engine.heartbeat_interval_s,
                lease_s=config.engine.silence_max_s,
                may_grant=self.leadership.holds,
                seal=self.seals.sealed,
                unseal=self.seals.opened,
            )
            handlers = Handlers(
                jobs=JobApi(loop, reader, hub, JobOutput(reader, hub, agents), config.rate_book),
                nodes=NodeApi(loop, latest, reader),
                agents=agents,
                reports=ReportApi(reader, config.rate_book, clock),
                members=members,
            )
            limited = RateLimit(ranks.authenticate, _rate(config), clock)
            await self.server.serve(handlers, limited.authenticate, members.authenticate)
            if says_ready:
                self._say_ready()
            await loop.run()

    async def _members(self, loop: Loop, store: SqlStore) -> Members:
        config = self.config
        settings = MemberSettings(
            cluster=config.cluster, certificate_lifetime_s=config.identity.certificate_lifetime_s
        )
        return Members(
            loop,
            store.members,
            self.ca,
            settings,
            agents_port=lambda: self.server.agents_port,
            revoked=await asyncio.to_thread(store.members.revoked, loop.clock.now_us()),
        )

    def _say_ready(self) -> None:
        leader = None if self.leadership.holds() else self.leadership.leader
        self.ready(Serving(self.config.cluster, self.server.addresses, leader))


async def until_one_ends(*works: Coroutine[Any, Any, None]) -> None:
    """Run them together until one ends; end the others, and raise what it raised."""
    tasks = {asyncio.create_task(work) for work in works}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in done:
        task.result()


def _dialable(address: str) -> str:
    """An address as others may dial it: every interface of this machine goes by its name."""
    host, _, port = address.rpartition(":")
    return f"{socket.gethostname()}:{port}" if host in ("0.0.0.0", "[::]") else address  # noqa: S104


def _standing_by(leadership: Leadership) -> NotLeading:
    if leadership.leader is None:
        return NotLeading("this head stands by, and no head leads now: try again")
    return NotLeading(f"this head stands by: ask the one at {leadership.leader}", leader=leadership.leader)


CHECK_INTERVAL_S = 1.0
"""How often the head looks at what heartbeats brought, unless they come more often."""


def make_home(home: Path) -> None:
    """Make the home. Others may pass through to its sockets and list nothing.

    Raises:
        ConfigInvalid: It can't be made or written, or others could write it.
    """
    try:
        home.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigInvalid(f"{home}: {error.strerror}: choose another GPUSCHED_HOME") from error
    found = home.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigInvalid(f"{home} belongs to uid {found.st_uid}: choose another GPUSCHED_HOME")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):  # they could answer at its sockets in our place
        raise ConfigInvalid(f"{home} may be written by others: `chmod go-w {home}`")
    if not os.access(home, os.W_OK | os.X_OK):
        raise ConfigInvalid(f"{home}: not writable: choose another GPUSCHED_HOME")


def _loop_settings(config: HeadConfig) -> LoopSettings:
    return LoopSettings(
        engine=config.engine_settings(),
        silence_max_s=config.engine.silence_max_s,
        check_interval_s=min(CHECK_INTERVAL_S, config.engine.heartbeat_interval_s),
    )


def _addresses(home: Path, config: HeadConfig) -> tuple[str, ...]:
    unix = f"unix://{(home / config.listen.unix).absolute()}"
    return (unix, config.listen.tcp) if config.listen.tcp else (unix,)


def _rate(config: HeadConfig) -> Rate:
    return Rate(config.limits.requests_per_s, config.limits.request_burst)


def _agents_door(config: HeadConfig, certificate: HeadCertificate | None) -> AgentsDoor | None:
    if not config.listen.agents:
        return None
    if certificate is None:
        raise ConfigInvalid("listen.agents needs the cluster's CA: run `gpusched ca init` first")
    return AgentsDoor(config.listen.agents, certificate.to_agents)


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
