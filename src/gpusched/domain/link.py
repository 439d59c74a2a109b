"""What travels on the one stream between an agent and the head."""

from __future__ import annotations

from dataclasses import dataclass

from gpusched.domain.commands import Queued
from gpusched.domain.events import AgentReport, HealthReport
from gpusched.domain.history import Mark
from gpusched.domain.identity import Identity
from gpusched.domain.ids import AttemptId, Epoch, JobId
from gpusched.domain.logs import LogChunk, LogQuery
from gpusched.domain.membership import CertificateGiven
from gpusched.domain.node import NodeFacts
from gpusched.domain.pulse import QuietRank, RankPace
from gpusched.domain.telemetry import NodeSample


@dataclass(frozen=True, slots=True)
class Hello:
    """First message of an agent: its machine, and every attempt it holds or has not had acknowledged."""

    facts: NodeFacts
    attempts: tuple[AttemptId, ...]
    mark: Mark | None = None  # how far it has seen; None: it was never told
    understands: tuple[str, ...] = ()  # kinds of orders; none: it is older than this field, ``FIRST_KINDS``


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """I live; this is what I measured. Answered by ``LeaseRenewed`` with the same ``seq``."""

    seq: int
    sample: NodeSample
    quiet: tuple[QuietRank, ...] = ()  # of the ranks that run here; one that is not named shows work
    paces: tuple[RankPace, ...] = ()  # of those that write their steps


@dataclass(frozen=True, slots=True)
class Report:
    """A fact, repeated over reconnects until ``ReportTaken`` comes back for its id."""

    report_id: int
    fact: AgentReport | HealthReport


@dataclass(frozen=True, slots=True)
class CommandTaken:
    """The command is durable on the node (or was known already)."""

    seq: int


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """The order is of a newer head: this agent cannot read it, and will never carry it out."""

    seq: int
    why: str


@dataclass(frozen=True, slots=True)
class LogData:
    """Part of the answer to one ``LogRequest``. No chunk ends it; ``error`` then says why in words."""

    stream_id: int
    chunk: LogChunk | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class CertificateWanted:
    """Sign this request (PKCS #10, PEM) for the node of this stream. Answered by ``CertificateGiven``."""

    signing_request: bytes


@dataclass(frozen=True, slots=True)
class RankTokensWanted:
    """The tokens of this attempt's ranks end soon. Answered by ``RankTokens`` if the attempt lives here."""

    job_id: JobId
    epoch: Epoch


FromAgent = (
    Hello
    | Heartbeat
    | Report
    | CommandTaken
    | CommandRefused
    | LogData
    | CertificateWanted
    | RankTokensWanted
)


@dataclass(frozen=True, slots=True)
class Welcome:
    """First message of the head. Answers the hello, and grants a lease counted from its sending."""

    cluster: str
    heartbeat_interval_s: float
    lease_s: float


@dataclass(frozen=True, slots=True)
class LeaseRenewed:
    """The node's lease now runs ``Welcome.lease_s`` from when heartbeat ``seq`` was *sent*.

    Counting from the sending, on the node's own clock, makes the node's idea of the lease end
    before the head's, however long messages take and whatever the clocks say.
    """

    seq: int
    now_us: int | None = None  # the head's wall clock: for noticing skew, and nothing else
    mark: Mark | None = None  # how far the log goes by now; to be kept, and shown in the next hello


@dataclass(frozen=True, slots=True)
class ReportTaken:
    """The fact is committed; forget it."""

    report_id: int


@dataclass(frozen=True, slots=True)
class LogRequest:
    """Send this output, for the ranks that live on this node, ``credit`` chunks ahead at most."""

    stream_id: int
    query: LogQuery
    credit: int


@dataclass(frozen=True, slots=True)
class LogCredit:
    """The reader has taken ``chunks`` more: as many may follow."""

    stream_id: int
    chunks: int


@dataclass(frozen=True, slots=True)
class LogCancel:
    """Nobody reads this stream any more."""

    stream_id: int


@dataclass(frozen=True, slots=True)
class RankToken:
    """What one rank shows when it calls the head."""

    global_rank: int
    token: str


@dataclass(frozen=True, slots=True)
class RankTokens:
    """Of an attempt's ranks on this node. Sent before its launch and when asked for; no head stores them."""

    job_id: JobId
    epoch: Epoch
    tokens: tuple[RankToken, ...]
    owner: Identity


FromHead = (
    Welcome
    | LeaseRenewed
    | Queued
    | ReportTaken
    | LogRequest
    | LogCredit
    | LogCancel
    | CertificateGiven
    | RankTokens
)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What a newer head sent and this version has no words for: made where it arrives, never sent."""

    why: str
    command_seq: int | None = None  # of an order, which is to be answered
    stream_id: int | None = None  # of a request for logs, likewise
