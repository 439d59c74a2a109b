"""Log streams: what is asked of a node and what comes back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpusched.domain.ids import Epoch, JobId, NodeName


class LogSource(StrEnum):
    """What is read of a rank."""

    OUTPUT = "output"  # what it wrote
    STACKS = "stacks"  # what it was doing when its gang stalled


@dataclass(frozen=True, slots=True)
class LogPosition:
    """How far a reader has come with one rank: ``offset`` is that of the first byte it has not got."""

    global_rank: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which output of one attempt. Ranks None: all of them."""

    job_id: JobId
    epoch: Epoch
    source: LogSource | None = None  # None: OUTPUT, as older heads ask
    ranks: tuple[int, ...] | None = None
    since_us: int | None = None  # only what was written at or after this wall time on its node
    tail_lines: int | None = None  # per rank, of what is there at the start
    follow: bool = False  # go on until the rank has ended and its last byte is sent
    positions: tuple[LogPosition, ...] = ()  # where to go on; ``since_us`` and ``tail_lines`` hold elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChunk:
    """A run of bytes of one rank, in order. ``offset`` counts from the rank's first byte."""

    global_rank: int
    node: NodeName
    offset: int
    data: bytes
    dropped_bytes: int = 0  # output lost just before ``data``: past the cap, or a full disk
    is_last: bool = False  # nothing of this rank follows
    epoch: Epoch | None = None  # of the attempt; None: from an agent that does not say
