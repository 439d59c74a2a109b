"""One stream to the head, from hello to its end: orders come down, facts and samples go up.

The session holds nothing that must survive it. Attempts live in the runner, facts in the
outbox; a new session on a new stream carries on with both.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from itertools import count
from typing import Protocol

from gpusched.agent.metering import Meters
from gpusched.agent.outbox import Outbox
from gpusched.agent.rank_tokens import RankTokenFiles
from gpusched.agent.renewal import Renewal
from gpusched.agent.runner import Runner
from gpusched.agent.seen import Seen
from gpusched.agent.shim.lease import boot_time_us
from gpusched.agent.vitals import Vitals
from gpusched.domain.commands import KINDS, Command, DumpStacks, LaunchTasks, Queued, RepairNode, StopTasks
from gpusched.domain.errors import GpuschedError
from gpusched.domain.events import HealthReport
from gpusched.domain.ids import AttemptId
from gpusched.domain.job_state import EndReason
from gpusched.domain.launch_plan import NodeLaunch
from gpusched.domain.link import (
    CommandRefused,
    CommandTaken,
    FromAgent,
    FromHead,
    Heartbeat,
    Hello,
    LeaseRenewed,
    LogCancel,
    LogCredit,
    LogData,
    LogRequest,
    RankTokens,
    RankTokensWanted,
    ReportTaken,
    Unreadable,
    Welcome,
)
from gpusched.domain.membership import CertificateGiven
from gpusched.domain.node import WHOLE_MILLI, NodeFacts
from gpusched.domain.telemetry import NodeSample

log = logging.getLogger(__name__)

ORDERS_AT_ONCE = 16
RANK_TOKENS_EVERY_S = 6 * 3600.0  # a quarter of their life


class Link(Protocol):
    """The agent's end of the stream."""

    async def send(self, message: FromAgent) -> None:
        """Send one message."""
        ...

    def __aiter__(self) -> AsyncIterator[FromHead | Unreadable]:
        """What the head sends, until the stream ends."""
        ...


class Health(Protocol):
    """What watches and mends the node (``health.monitor``)."""

    def acknowledge(self, fact: HealthReport) -> None:
        """The head has committed it."""
        ...

    def compare_clocks(self, head_us: int | None, sent_us: int, received_us: int) -> None:
        """Wall clocks around a heartbeat's answer, and the head's in it."""
        ...

    async def repair(self, order: RepairNode) -> None:
        """Mend, check, and tell."""
        ...

    async def prolog(self, launch: NodeLaunch) -> str | None:
        """Make the node ready for an attempt; why that failed, if it did."""
        ...

    def observe(self, sample: NodeSample) -> None:
        """What a heartbeat measured."""
        ...


class Session:
    """Serves one stream. ``run`` ends when the head does."""

    def __init__(
        self,
        link: Link,
        facts: NodeFacts,
        *,
        runner: Runner,
        outbox: Outbox,
        meters: Meters,
        vitals: Vitals,
        health: Health,
        seen: Seen,
        renewal: Renewal | None = None,
        rank_tokens: RankTokenFiles | None = None,
    ) -> None:
        self._link, self._facts, self._renewal = link, facts, renewal
        self._rank_tokens = rank_tokens
        self._runner, self._outbox, self._meters, self._vitals = runner, outbox, meters, vitals
        self._health, self._seen = health, seen
        self._log_streams: dict[int, _LogStream] = {}
        self._at_once = asyncio.Semaphore(ORDERS_AT_ONCE)
        self._lease_us = 0
        self._sent_us: dict[int, tuple[int, int]] = {}  # boot and wall time, of heartbeats not answered yet

    async def run(self) -> None:
        """Say hello, then work until the stream ends.

        Raises:
            GpuschedError: The stream broke, or the head refused it.
            CertificateRenewed: Open the next stream with the new certificate.
        """
        hello_us = boot_time_us()
        held = self._runner.attempts.unsettled()
        await self._link.send(Hello(self._facts, held, self._seen.mark, KINDS))
        async with asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(self._send_reports())]
            async for message in self._link:
                match message:
                    case Welcome():
                        log.info("joined cluster %s as %s", message.cluster, self._facts.name)
                        self._lease_us = round(message.lease_s * 1e6)
                        self._runner.lease.renew(hello_us + self._lease_us)
                        beat = self._send_heartbeats(message.heartbeat_interval_s)
                        background.append(tasks.create_task(beat))
                        background.append(tasks.create_task(self._ask_rank_tokens()))
                        if self._renewal is not None:
                            background.append(tasks.create_task(self._ask_renewal(self._renewal)))
                    case Queued():
                        tasks.create_task(self._carry_out(message))
                    case LogRequest():
                        stream = _LogStream(message)
                        self._log_streams[message.stream_id] = stream
                        stream.task = tasks.create_task(self._send_logs(stream))
                    case Unreadable():
                        await self._refuse(message)
                    case _:
                        await self._take(message)
            for task in background:
                task.cancel()
            for stream_id in list(self._log_streams):
                self._cancel_logs(stream_id)

    async def _refuse(self, message: Unreadable) -> None:
        """Tell both sides by name: nothing that the head waits for may end in silence."""
        version = self._facts.agent_version
        log.error("the head sent what this agent, %s, does not know: upgrade it (%s)", version, message.why)
        if message.command_seq is not None:
            await self._link.send(CommandRefused(message.command_seq, message.why))
        if message.stream_id is not None:
            why = f"its agent {version} does not know what was asked for: {message.why}"
            await self._link.send(LogData(message.stream_id, None, why))

    async def _ask_renewal(self, renewal: Renewal) -> None:
        await self._link.send(await renewal.due())

    async def _ask_rank_tokens(self) -> None:
        while True:
            for attempt_id in self._runner.attempts.unsettled():
                await self._link.send(RankTokensWanted(attempt_id.job_id, attempt_id.epoch))
            await asyncio.sleep(RANK_TOKENS_EVERY_S)

    async def _take(
        self, message: LeaseRenewed | ReportTaken | LogCredit | LogCancel | CertificateGiven | RankTokens
    ) -> None:
        match message:
            case CertificateGiven():
                if self._renewal is not None:
                    self._renewal.take(message)
            case RankTokens():
                if self._rank_tokens is not None:
                    self._rank_tokens.put(message, self._runner.attempts.unsettled())
            case LeaseRenewed():
                self._seen.keep(message.mark)
                sent = self._sent_us.pop(message.seq, None)
                if sent is not None:
                    self._runner.lease.renew(sent[0] + self._lease_us)
                    self._health.compare_clocks(message.now_us, sent[1], time.time_ns() // 1_000)
            case ReportTaken():
                self._acknowledge(message.report_id)
            case LogCredit():
                if message.stream_id in self._log_streams:
                    self._log_streams[message.stream_id].add_credit(message.chunks)
            case LogCancel():
                self._cancel_logs(message.stream_id)

    async def _carry_out(self, queued: Queued) -> None:
        """Do what is ordered; it is durable before it is acknowledged.

        Orders are carried out side by side, since each waits for the disk. A stop that overtakes
        its launch makes the runner refuse the launch, and an older attempt never overtakes a newer.
        """
        # Outside of the turn that orders take: a slow prolog must not keep a stop waiting.
        unfit = await self._prolog(queued.command)
        async with self._at_once:
            match queued.command:
                case LaunchTasks(launch=launch) if unfit is not None:
                    attempt_id = AttemptId(launch.job_id, launch.epoch)
                    await self._runner.refuse(attempt_id, EndReason.PROLOG_FAILED, unfit)
                case LaunchTasks(launch=launch):
                    # What NVML measures of a device is everybody's who shares it: of one, nothing.
                    own = () if launch.gpu_milli < WHOLE_MILLI else launch.devices
                    await self._meters.start(AttemptId(launch.job_id, launch.epoch), own)
                    await self._runner.launch(launch)
                case DumpStacks() as dump:
                    await self._runner.dump_stacks(AttemptId(dump.job_id, dump.epoch))
                case StopTasks() as stop:
                    await self._runner.stop(stop.job_id, stop.epoch, stop.kill_wait_s, stop.reason)
                case RepairNode() as order:
                    await self._health.repair(order)
        await self._link.send(CommandTaken(queued.seq))

    async def _prolog(self, command: Command) -> str | None:
        if not isinstance(command, LaunchTasks):
            return None
        attempt_id = AttemptId(command.job_id, command.epoch)
        if attempt_id in self._runner.attempts.unsettled():  # the order came before, and was carried out
            return None
        return await self._health.prolog(command.launch)

    def _acknowledge(self, report_id: int) -> None:
        fact = self._outbox.take(report_id)
        if fact is None:
            return
        if isinstance(fact, HealthReport):
            self._health.acknowledge(fact)
            return
        try:
            self._runner.acknowledge(fact)
        except OSError as error:  # a full disk: the next agent reports the fact once more, no harm done
            log.warning("attempt %s.%s: its end cannot be noted: %s", fact.job_id, fact.epoch, error)

    async def _send_reports(self) -> None:
        sent = 0
        while True:
            for report in await self._outbox.after(sent):
                await self._link.send(report)
                sent = report.report_id

    async def _send_heartbeats(self, interval_s: float) -> None:
        for seq in count(1):
            sample = await self._meters.sample()
            self._health.observe(sample)
            quiet, paces = await self._vitals.look(sample)
            # The lease runs from before the head could hear of us.
            self._sent_us[seq] = boot_time_us(), time.time_ns() // 1_000
            await self._link.send(Heartbeat(seq, sample, quiet, paces))
            await asyncio.sleep(interval_s)

    async def _send_logs(self, stream: _LogStream) -> None:
        error = None
        try:
            async for chunk in self._runner.read_logs(stream.request.query):
                await stream.spend_credit()
                await self._link.send(LogData(stream.request.stream_id, chunk))
        except (GpuschedError, OSError) as failure:
            error = str(failure)
        await self._link.send(LogData(stream.request.stream_id, None, error))
        self._log_streams.pop(stream.request.stream_id, None)

    def _cancel_logs(self, stream_id: int) -> None:
        stream = self._log_streams.pop(stream_id, None)
        if stream is not None and stream.task is not None:
            stream.task.cancel()


class _LogStream:
    """One reader's stream: how much may be sent ahead of it."""

    def __init__(self, request: LogRequest) -> None:
        self.request = request
        self.task: asyncio.Task[None] | None = None
        self._credit = asyncio.Semaphore(request.credit)

    def add_credit(self, chunks: int) -> None:
        for _ in range(chunks):
            self._credit.release()

    async def spend_credit(self) -> None:
        await self._credit.acquire()
