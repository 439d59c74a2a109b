"""What a shim writes down about its attempt: the only thing that the agent believes.

The shim writes it with ``json``, the agent reads it with msgspec into the same types.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

from gpusched.agent.shim.files import PRIVATE, AttemptDir, sync_folder, write_all
from gpusched.domain.job_state import EndReason

RESERVE_BYTES = 64 * 1024  # room for the record of an attempt with some hundred ranks


class Phase(StrEnum):
    """How far the attempt has come on this node."""

    STARTING = "starting"  # a shim has taken it on
    RUNNING = "running"  # every rank was started
    ENDED = "ended"  # no process of it is left


@dataclass(frozen=True, slots=True, kw_only=True)
class RankRecord:
    """One rank. ``start_ticks`` (field 22 of ``/proc/<pid>/stat``) tells its pid from a reused one."""

    global_rank: int
    pid: int
    start_ticks: int
    exit_code: int | None = None
    signal: int | None = None
    ended_at_us: int | None = None
    output_bytes: int = 0  # written by the rank so far, lost bytes included; final once ENDED

    @property
    def has_ended(self) -> bool:
        """Whether its exit code or signal is known."""
        return self.exit_code is not None or self.signal is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One attempt on one node. Instants are this node's wall clock, durations its boot-time clock."""

    phase: Phase
    boot_id: str
    shim_pid: int | None = None  # None: no shim was ever started
    shim_start_ticks: int | None = None
    ranks: tuple[RankRecord, ...] = ()
    started_at_us: int | None = None
    ended_at_us: int | None = None
    failed_rank: int | None = None  # global rank of the first that failed by itself
    cause: EndReason | None = None  # decided here; None where the exits say it all or the head decided
    detail: str | None = None
    wall_s: float = 0.0
    cpu_s: float | None = None
    memory_peak_bytes: int | None = None


class RecordFile:
    """The record on disk. Room for the next version is set aside, so that a full disk cannot hide the end."""

    def __init__(self, attempt: AttemptDir) -> None:
        self._path = attempt.record
        self._next = attempt.path / f"record.{os.getpid()}.next"

    def claim(self, record: Record) -> bool:
        """Write the first version, unless somebody else already has: then change nothing, return False.

        Raises:
            OSError: It could not be written.
        """
        self._write_next(record)
        try:
            os.link(self._next, self._path)
        except FileExistsError:
            return False
        finally:
            self._next.unlink()
        sync_folder(self._path.parent)
        self._reserve()
        return True

    def save(self, record: Record) -> None:
        """Replace the record for good.

        Raises:
            OSError: The old version stands.
        """
        self._write_next(record)
        self._next.rename(self._path)
        if record.phase is not Phase.ENDED:
            self._reserve()
        sync_folder(self._path.parent)

    def _write_next(self, record: Record) -> None:
        data = json.dumps(asdict(record)).encode()
        fd = os.open(self._next, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
        try:
            write_all(fd, data)
            os.ftruncate(fd, len(data))
            os.fsync(fd)
        finally:
            os.close(fd)

    def _reserve(self) -> None:
        fd = os.open(self._next, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
        try:
            os.posix_fallocate(fd, 0, RESERVE_BYTES)
        except OSError:
            pass  # a file system without fallocate, or full: the next save does what it can
        finally:
            os.close(fd)


def remove_reserve(folder: Path) -> None:
    """Delete what dead shims had set aside."""
    for path in folder.glob("record.*.next"):
        path.unlink(missing_ok=True)
