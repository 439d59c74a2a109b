"""What a trial leaves behind to be judged: acknowledgements as clients saw them, the log, and ticks.

The judge is the one that judges simulated histories too (``simulation.checkers``).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
from simulation.checkers import Acknowledged, History, Tick, Violation, check, executions_of

from benchmarks.report import Figure, at_most, say
from gpusched.domain.events import Recorded
from gpusched.store.reader import Reader

PAGE = 10_000
SHOWN_MAX = 20
_as_ack = msgspec.json.Decoder(Acknowledged).decode
_as_tick = msgspec.json.Decoder(Tick).decode


class AckLog:
    """A file of acknowledgements. A line is on the disk before ``write`` returns (O_DSYNC)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.jobs = 0
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_DSYNC, 0o600)
        self._lock = threading.Lock()

    def write(self, ack: Acknowledged) -> None:
        """Keep one answer."""
        with self._lock:
            os.write(self._file, msgspec.json.encode(ack) + b"\n")
            self.jobs += len(ack.job_ids)

    def read(self) -> list[Acknowledged]:
        """All that was written so far."""
        return [_as_ack(line) for line in self.path.read_bytes().splitlines()]


def whole_log(url: str) -> list[Recorded]:
    """Every event of a database."""
    found: list[Recorded] = []
    with Reader(url) as reader:
        while page := reader.events(found[-1].seq if found else 0, limit=PAGE):
            found += page
    return found


def read_ticks(folder: Path) -> list[Tick]:
    """The ticks of all files of a folder. The last line of a process that was killed may be half."""
    found: list[Tick] = []
    for path in folder.iterdir():
        for line in path.read_bytes().splitlines():
            with suppress(msgspec.DecodeError):
                found.append(_as_tick(line))
    return found


def judge(
    url: str, *, acks: Sequence[Acknowledged] = (), ticks: Path | None = None, is_settled: bool = True
) -> tuple[Violation, ...]:
    """Everything that is wrong with what happened, by the log in ``url``; said as it is found."""
    found = check(
        History(
            acknowledged=acks,
            log=whole_log(url),
            executions=None if ticks is None else executions_of(read_ticks(ticks)),
            is_settled=is_settled,
        )
    )
    for violation in found[:SHOWN_MAX]:
        say(f"BROKEN {violation}")
    return found


def broken(what: str, found: Sequence[Violation]) -> Figure:
    """The one figure that matters."""
    return Figure(f"promises broken, {what}", len(found), "", at_most(0))
