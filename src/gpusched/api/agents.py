"""The agents' side of the head: one session per stream, and log streams through it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from gpusched import __version__
from gpusched.api.change_pace import ChangePace
from gpusched.api.measured import is_usable, kept_quiet, kept_report, kept_sample, kept_words
from gpusched.api.versions import why_not_served
from gpusched.backends.bare_metal import BareMetal, Channel
from gpusched.domain.check_facts import require_facts, require_seen
from gpusched.domain.commands import FIRST_KINDS, LaunchTasks, Queued, kind_of
from gpusched.domain.errors import NodeUnavailable, NotLeading, NotPermitted, OverLimit, WrongState
from gpusched.domain.events import AgentReport, HealthReport
from gpusched.domain.health import HealthObserved
from gpusched.domain.history import Mark
from gpusched.domain.identity import Principal
from gpusched.domain.ids import AttemptId, NodeName
from gpusched.domain.link import (
    CertificateWanted,
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
    Report,
    ReportTaken,
    Welcome,
)
from gpusched.domain.logs import LogChunk, LogQuery
from gpusched.domain.membership import CertificateGiven
from gpusched.domain.node import NodeFacts
from gpusched.engine.inputs import CommandAcknowledged, CommandNotKnown, NodeConnected, Reported
from gpusched.engine.loop import Loop
from gpusched.telemetry.latest import Latest

log = logging.getLogger(__name__)

LOG_CREDIT = 32
"""Chunks (of at most 64 KiB) that an agent may send ahead of the reader: 2 MiB a stream."""

LOG_CHUNK_BYTES_MAX = 256 * 1024
LOG_ERROR_LENGTH_MAX = 4_096
ATTEMPTS_MAX = 10_000
"""What one node may hold or have to report at once: far more than runs on any."""

RECONNECT_WAIT_S = 5.0
"""A reader of logs waits this long for an agent that is restarting."""


IssueRankTokens = Callable[[NodeName, AttemptId], RankTokens | None]
"""The tokens of an attempt's ranks on a node; None if it does not live there."""


class MemberCheck(Protocol):
    """Who may hold a stream, also in the middle of it."""

    def require(self, who: Principal) -> None:
        """Raise ``NotPermitted`` or ``Unauthenticated`` once the caller's certificate no longer holds."""
        ...

    async def renew(self, who: Principal, signing_request: bytes) -> CertificateGiven:
        """The caller's next certificate."""
        ...


@dataclass(eq=False, slots=True)
class _LogStream:
    node: NodeName
    received: asyncio.Queue[LogData | None]


class AgentApi:
    """Sessions of agents. Facts go to the loop, samples to the ring, log data to their readers.

    Args:
        loop: The engine's.
        bare_metal: The agents' channels.
        latest: Takes samples.
        members: Who may hold a stream.
        issue: Makes the tokens of ranks.
        cluster: Its name, for the welcome.
        heartbeat_interval_s: How often agents report.
        lease_s: What the answer to a heartbeat is worth.
        may_grant: Whether this head surely leads. Asked *after* a heartbeat has come in: its lease runs
            from when it was sent, so that what a head grants ends ``lease_s`` after its own lead at most.
        seal: Signs a mark before a node gets it.
        unseal: Takes one back; None if no head of the cluster signed it.
    """

    def __init__(
        self,
        loop: Loop,
        bare_metal: BareMetal,
        latest: Latest,
        members: MemberCheck,
        *,
        issue: IssueRankTokens,
        cluster: str,
        heartbeat_interval_s: float,
        lease_s: float,
        may_grant: Callable[[], bool] = lambda: True,
        seal: Callable[[Mark], Mark] = lambda mark: mark,
        unseal: Callable[[Mark], Mark | None] = lambda mark: mark,
    ) -> None:
        self._loop, self._bare_metal, self._latest = loop, bare_metal, latest
        self._members, self._issue = members, issue
        self._welcome = Welcome(cluster, heartbeat_interval_s, lease_s)
        self._may_grant, self._seal, self._unseal = may_grant, seal, unseal
        self._paces: dict[NodeName, ChangePace] = {}
        self._log_streams: dict[int, _LogStream] = {}
        self._stream_ids = count(1)

    async def connect(self, who: Principal, incoming: AsyncIterator[FromAgent]) -> AsyncIterator[FromHead]:
        """Serve one agent until either side ends.

        Raises:
            NotPermitted: The agent names a node that is not its own.
            TooManyRequests: Its facts change too often.
            WrongState: The first message is not a hello, does not name what may run on the node, or names
                what cannot.
            NotLeading: This head may grant no lease, or not any more: another may lead by now.
            InvalidSpec: No machine is as its facts say, or no cluster has come as far as it has seen.
        """
        hello = await anext(incoming, None)
        if not isinstance(hello, Hello):
            raise WrongState("an agent's first message must be its hello")
        node = hello.facts.name
        if who.node != node:
            raise NotPermitted(f"these credentials are for node {who.node!r}, not for {node!r}")
        self._members.require(who)
        if len(hello.attempts) > ATTEMPTS_MAX:
            raise OverLimit(f"node {node} names {len(hello.attempts)} attempts, {ATTEMPTS_MAX} at most")
        require_facts(hello.facts)
        require_seen(hello.attempts, hello.mark)
        self._count_facts(hello.facts)
        _check_version(node, hello.facts.agent_version)
        self._require_lead()
        fact = NodeConnected(hello.facts, hello.attempts, self._mark_of(hello))
        if unknown := self._loop.forgotten_by(fact):
            raise WrongState(
                f"this agent of node {node} knows nothing of {', '.join(map(str, unknown))}, which may run "
                "there: if another agent has that name, stop one of them; if its home was lost, it is heard "
                "when the lease of the one before is over"
            )
        if unknown := self._loop.never_granted(fact):
            raise WrongState(
                f"this agent of node {node} holds {', '.join(map(str, unknown))}, which this database never "
                "granted: if a backup was restored, put the right one back or start the head with "
                "--accept-restored-database; if not, give the agent an empty home"
            )
        channel = self._bare_metal.attach(node)
        reading = asyncio.create_task(self._read(who, node, incoming, channel))
        self._loop.heard(node)
        try:
            yield self._welcome
            understands = hello.understands or FIRST_KINDS
            self._loop.tell(fact, lambda: self._greeted(channel))
            while (message := await channel.outgoing.get()) is not None:
                if isinstance(message, Queued) and kind_of(message.command) not in understands:
                    self._not_known(node, message)
                    continue
                if isinstance(message, Queued) and isinstance(message.command, LaunchTasks):
                    launch = message.command
                    if (tokens := self._issue(node, AttemptId(launch.job_id, launch.epoch))) is not None:
                        yield tokens
                yield message
            if not reading.done():
                raise WrongState(
                    f"another agent has connected as node {node}: only the latest is heard; if "
                    "both are meant to run, give one another --name"
                )
            reading.result()  # the agent's end, or what went wrong while reading it
        finally:
            reading.cancel()
            self._bare_metal.detach(channel)
            if not self._bare_metal.is_connected(node):
                self._break_log_streams(node)

    def _mark_of(self, hello: Hello) -> Mark | None:
        if hello.mark is None:
            return None
        mark = self._unseal(hello.mark)
        if mark is None:
            log.warning("node %s shows a mark that no head with our token keys gave it", hello.facts.name)
        return mark

    def _pace(self, node: NodeName) -> ChangePace:
        return self._paces.setdefault(node, ChangePace(self._loop.clock))

    def _count_facts(self, facts: NodeFacts) -> None:
        known = self._loop.engine.state.nodes.get(facts.name)
        if known is None or known.facts != facts:
            self._pace(facts.name).count_facts()

    def _kept(self, node: NodeName, fact: AgentReport | HealthReport) -> AgentReport | HealthReport:
        kept = kept_report(fact)
        return self._pace(node).fitted(kept) if isinstance(kept, HealthObserved) else kept

    def _refused(self, node: NodeName, refused: CommandRefused) -> None:
        for queued in self._loop.engine.outbox_of(node):
            if queued.seq == refused.seq:
                self._not_known(node, queued, refused.why)

    def _not_known(self, node: NodeName, queued: Queued, why: str | None = None) -> None:
        """An order that the node's agent does not know: said by name, and answered in its place."""
        known = self._loop.engine.state.nodes.get(node)
        version = "" if known is None else f" {known.facts.agent_version}"
        words = f"agent {node}{version} does not know {kind_of(queued.command)}: upgrade it"
        words += "" if why is None else f" ({kept_words(why)})"
        log.error("order %d is not carried out: %s", queued.seq, words)
        self._loop.tell(CommandNotKnown(node, queued, words))

    def _greeted(self, channel: Channel) -> None:
        """The hello is committed: from here on the node is told what it has not heard of."""
        channel.is_greeted = True
        self._loop.resend(channel.node)

    async def _read(
        self, who: Principal, node: NodeName, incoming: AsyncIterator[FromAgent], channel: Channel
    ) -> None:
        try:
            async for message in incoming:
                self._members.require(who)
                self._loop.heard(node)
                if isinstance(message, CertificateWanted):
                    channel.outgoing.put_nowait(await self._members.renew(who, message.signing_request))
                else:
                    self._take(node, message, channel)
        finally:
            self._bare_metal.detach(channel)

    def _beat(self, node: NodeName, beat: Heartbeat, channel: Channel) -> None:
        self._require_lead()
        mark = self._loop.mark_for(node) if channel.is_greeted else None
        sealed = None if mark is None else self._seal(mark)
        channel.outgoing.put_nowait(LeaseRenewed(beat.seq, self._loop.clock.now_us(), sealed))
        self._loop.heard_quiet(node, map(kept_quiet, beat.quiet))
        self._loop.heard_paces(node, filter(is_usable, beat.paces))
        if beat.sample.node == node:
            sample = kept_sample(beat.sample)
            self._latest.put(sample)
            self._loop.heard_sample(sample)

    def _require_lead(self) -> None:
        """End a stream that this head can promise nothing on: its agent finds the one that leads."""
        if not self._may_grant():
            raise NotLeading("this head is not sure to lead any more: connect again")

    def _take(self, node: NodeName, message: FromAgent, channel: Channel) -> None:
        match message:
            case Heartbeat():
                self._beat(node, message, channel)
            case Report() if message.fact.node != node:
                log.warning("node %s reported for node %s: refused", node, message.fact.node)
                raise NotPermitted(f"node {node} may not report for node {message.fact.node!r}")
            case Report():
                taken = ReportTaken(message.report_id)
                fact = self._kept(node, message.fact)
                self._loop.tell(Reported(node, fact), lambda: channel.outgoing.put_nowait(taken))
            case CommandTaken():
                self._loop.tell(CommandAcknowledged(node, message.seq))
            case CommandRefused():
                self._refused(node, message)
            case LogData():
                stream = self._log_streams.get(message.stream_id)
                if stream is not None and stream.node == node:
                    _check_log_data(node, message, stream.received.qsize())
                    stream.received.put_nowait(message)
            case RankTokensWanted():
                tokens = self._issue(node, AttemptId(message.job_id, message.epoch))
                if tokens is not None:
                    channel.outgoing.put_nowait(tokens)
            case Hello():
                pass  # only the first one counts

    @asynccontextmanager
    async def _log_stream(self, query: LogQuery, node: NodeName) -> AsyncIterator[tuple[int, _LogStream]]:
        stream_id = next(self._stream_ids)
        stream = self._log_streams[stream_id] = _LogStream(node, asyncio.Queue())
        try:
            await self._bare_metal.wait_connected(node, RECONNECT_WAIT_S)
            if not self._bare_metal.send(node, LogRequest(stream_id, query, LOG_CREDIT)):
                raise NodeUnavailable(
                    f"the logs are on node {node}, whose agent is not connected: try again when it is back"
                )
            yield stream_id, stream
        finally:
            del self._log_streams[stream_id]
            self._bare_metal.send(node, LogCancel(stream_id))

    async def read_logs(self, node: NodeName, query: LogQuery) -> AsyncIterator[LogChunk]:
        """Stream one node's part of a job's output.

        Raises:
            NodeUnavailable: The agent is not connected, or left while streaming.
        """
        async with self._log_stream(query, node) as (stream_id, stream):
            while True:
                data = await stream.received.get()
                if data is None:
                    raise NodeUnavailable(f"node {node} disconnected while its logs were read")
                if data.error is not None:
                    raise NodeUnavailable(f"node {node}: {data.error}")
                if data.chunk is None:
                    return
                yield data.chunk
                self._bare_metal.send(node, LogCredit(stream_id, 1))

    def _break_log_streams(self, node: NodeName) -> None:
        for stream in self._log_streams.values():
            if stream.node == node:
                stream.received.put_nowait(None)


def _check_version(node: NodeName, agent_version: str) -> None:
    """Refuse an agent that is too old or too new; name in the log any that is not of the head's version.

    Raises:
        NotPermitted: It is; says what to install.
    """
    why_not = why_not_served(agent_version, __version__)
    if why_not is not None:
        log.warning("node %s refused: %s", node, why_not)
        raise NotPermitted(why_not)
    if agent_version != __version__:
        log.info(
            "node %s is served by an agent of version %s, the head is %s", node, agent_version, __version__
        )


def _check_log_data(node: NodeName, data: LogData, waiting: int) -> None:
    """Refuse what no agent of ours sends, before it piles up.

    Raises:
        WrongState: More than the credit, a chunk or an error that is too long.
    """
    size = 0 if data.chunk is None else len(data.chunk.data)
    if waiting > LOG_CREDIT or size > LOG_CHUNK_BYTES_MAX or len(data.error or "") > LOG_ERROR_LENGTH_MAX:
        log.warning("node %s sent output beyond its bounds: refused", node)
        raise WrongState(
            f"node {node} sent {size} bytes of output with {waiting} chunks unread: "
            f"{LOG_CHUNK_BYTES_MAX} bytes and {LOG_CREDIT} chunks at most"
        )
