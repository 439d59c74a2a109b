"""The agent: keeps one stream to the head open, and one runner going across streams."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from gpusched.agent.declared import declare_devices, share_devices
from gpusched.agent.entrance import Entrance
from gpusched.agent.facts import Declared, read_facts
from gpusched.agent.health.monitor import HealthMonitor
from gpusched.agent.health.settings import HealthSettings
from gpusched.agent.home import claimed_home
from gpusched.agent.host import read_boot_id
from gpusched.agent.membership import Joining
from gpusched.agent.metering import Meters
from gpusched.agent.nvml import NvmlReader, open_nvml
from gpusched.agent.outbox import Outbox
from gpusched.agent.rank_tokens import RankTokenFiles
from gpusched.agent.renewal import CertificateRenewed
from gpusched.agent.runner import Runner
from gpusched.agent.sampler import Sampler
from gpusched.agent.seen import Seen
from gpusched.agent.session import Session
from gpusched.agent.shim.containment import own_cgroup
from gpusched.agent.vitals import Vitals
from gpusched.domain.errors import (
    ConfigInvalid,
    GpuschedError,
    HeadUnavailable,
    InvalidSpec,
    NotPermitted,
    Violation,
)
from gpusched.domain.events import TasksEnded
from gpusched.domain.hostlist import NODE_NAME
from gpusched.domain.ids import NodeName
from gpusched.domain.node import Device
from gpusched.wire.address import Address, default_addresses, parse_addresses
from gpusched.wire.heads import Heads

log = logging.getLogger(__name__)

RECONNECT_FIRST_S = 0.1
RECONNECT_MAX_S = 3.0  # a lease that a dead head gave must be renewed by the next one in time
STOP_KILL_WAIT_S = 10


class OnStop(StrEnum):
    """What happens to running attempts when the agent is asked to stop."""

    LEAVE = "leave"  # shims go on; the next agent adopts them
    END = "end"  # end them and report it first


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """What an agent was started with."""

    node: NodeName
    home: Path
    address: str | None = None  # of the head, or of several, by commas; None: the local one
    devices: str | None = None  # declared; None: read by NVML
    is_shareable: bool = False  # several jobs may hold shares of each of its GPUs
    declared: Declared = field(default_factory=Declared)
    on_stop: OnStop = OnStop.LEAVE
    joining: Callable[[], Joining] | None = None  # None: a member already, or on the head's machine
    health: HealthSettings = field(default_factory=HealthSettings)


async def run_agent(settings: AgentSettings) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        InvalidSpec: The name or the declared devices make no sense.
        ConfigInvalid: The home cannot be used, another agent has it, the address is none, or a file that
            was named cannot be used.
        NotPermitted: The head does not take this agent.
    """
    _check_name(settings.node)
    heads = Heads(default_addresses() if settings.address is None else parse_addresses(settings.address))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with AsyncExitStack() as stack:
        stack.enter_context(claimed_home(settings.home))
        reader = None if settings.devices is not None else open_nvml()
        if reader is not None:
            stack.enter_context(reader)
        devices = _devices(settings, reader)
        if settings.is_shareable:
            devices = share_devices(devices)
        sampler = Sampler(settings.node, reader, [device.uuid for device in devices if device.declared])
        meters = Meters(sampler)
        rank_tokens = RankTokenFiles(settings.home, heads.text)
        runner = Runner(
            settings.home, settings.node, cgroup_parent=own_cgroup(), callback=rank_tokens.callback
        )
        await runner.start()
        stack.push_async_callback(runner.close)
        outbox = Outbox()
        health = HealthMonitor(
            settings.node,
            read_boot_id(),
            devices,
            settings.health,
            meters=meters,
            in_use=runner.attempts.devices_in_use,
            tell=outbox.put,
        )
        agent = _Agent(
            settings,
            heads,
            devices,
            runner,
            meters=meters,
            outbox=outbox,
            health=health,
            rank_tokens=rank_tokens,
        )
        working = asyncio.create_task(agent.work())
        waiting = asyncio.create_task(stopped.wait())
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not working.done() and settings.on_stop is OnStop.END:
            await agent.end_attempts()
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working


def _check_name(node: NodeName) -> None:
    if NODE_NAME.fullmatch(node) is None:
        raise InvalidSpec((Violation("name", f"{node[:64]!a}: use letters, digits, '.', '-' and '_'"),))


def _devices(settings: AgentSettings, reader: NvmlReader | None) -> tuple[Device, ...]:
    if settings.devices is not None:
        return declare_devices(settings.devices, settings.node)
    if reader is None:
        return ()
    scan = reader.scan()
    for unusable in scan.unusable:
        log.error("device left out: %s", unusable)
    return scan.devices


class _Agent:
    def __init__(
        self,
        settings: AgentSettings,
        heads: Heads,
        devices: tuple[Device, ...],
        runner: Runner,
        *,
        meters: Meters,
        outbox: Outbox,
        health: HealthMonitor,
        rank_tokens: RankTokenFiles,
    ) -> None:
        self._settings, self._heads, self._devices = settings, heads, devices
        self._runner, self._meters = runner, meters
        self._entrance = Entrance(settings.node, settings.home, settings.joining)
        self._outbox, self._health, self._rank_tokens = outbox, health, rank_tokens
        real = frozenset(device.uuid for device in devices if not device.declared)
        self._vitals = Vitals(runner.attempts, real)
        self._seen = Seen(settings.home / "seen.json")

    async def work(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._collect_reports())
                tasks.create_task(self._stay_connected())
                tasks.create_task(self._health.run())
        except ExceptionGroup as group:
            raise _first_of(group) from None

    async def end_attempts(self) -> None:
        """End every attempt and wait until the head has heard of it; whoever asked may kill us sooner."""
        for attempt_id in self._runner.attempts.unsettled():
            await self._runner.stop(
                attempt_id.job_id, attempt_id.epoch, STOP_KILL_WAIT_S, "its agent was asked to stop"
            )
        # Once in an agent's life: no event is worth it.
        while self._runner.attempts.unsettled():  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    async def _collect_reports(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            while True:
                fact = await self._meters.complete(await self._runner.reports.get())
                if isinstance(fact, TasksEnded) and self._health.has_epilog:
                    tasks.create_task(self._report_after_epilog(fact))
                else:
                    self._outbox.put(fact)

    async def _report_after_epilog(self, ended: TasksEnded) -> None:
        """The devices are free when the site has cleaned up, and not before."""
        await self._health.epilog(ended)
        self._outbox.put(ended)

    async def _stay_connected(self) -> None:
        wait_s = RECONNECT_FIRST_S
        told: set[str] = set()  # since a stream lived: an outage of hours is a few lines, not thousands
        while True:
            began, head = time.monotonic(), self._heads.current
            try:
                await self._serve_once(head)
                log.warning("the head ended the stream")
                self._heads.move_on(head, HeadUnavailable("the stream has ended"))
            except (GpuschedError, ExceptionGroup) as error:
                cause = _first_of(error)
                if isinstance(cause, CertificateRenewed):
                    wait_s = RECONNECT_FIRST_S
                    continue
                if isinstance(cause, NotPermitted | ConfigInvalid) or not isinstance(cause, GpuschedError):
                    raise cause from None
                if str(cause) not in told:
                    told.add(str(cause))
                    log.warning("stream to the head ended, trying again: %s", cause)
                self._heads.move_on(head, cause)
            # A stream that lived was a good one: start over with short waits.
            if time.monotonic() - began > RECONNECT_MAX_S:
                wait_s = RECONNECT_FIRST_S
                told.clear()
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RECONNECT_MAX_S / len(self._heads))  # a round of all takes as long

    async def _serve_once(self, head: Address) -> None:
        async with self._entrance.opened(head) as (link, renewal):
            if renewal is not None:
                self._rank_tokens.trust(renewal.trusted)
            facts = read_facts(
                self._settings.node,
                head.text,
                devices=self._devices,
                agent_version=_version(),
                declared=self._settings.declared,
            )
            session = Session(
                link,
                facts,
                runner=self._runner,
                outbox=self._outbox,
                meters=self._meters,
                vitals=self._vitals,
                renewal=renewal,
                rank_tokens=self._rank_tokens,
                health=self._health,
                seen=self._seen,
            )
            await session.run()


def _first_of(error: Exception) -> Exception:
    """The first error in however many groups."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _version() -> str:
    try:
        return version("gpusched")
    except PackageNotFoundError:
        return "0"
