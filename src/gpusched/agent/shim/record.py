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

RESERVE_BYTES = 4096  # room for a record
RESERVE_RANK_BYTES = 512  # and for each rank in it


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
    """The record on disk, replaced as a whole.

    Only the last version is synced: a crash of the machine makes the earlier ones worthless (another
    boot: the attempt is lost with the node), a crash of the shim or the agent does not touch them.
    Room for the next version is set aside, so that a full disk cannot hide the end.
    """

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
        self._settle(record)
        return True

    def save(self, record: Record) -> None:
        """Replace the record.

        Raises:
            OSError: The old version stands.
        """
        self._write_next(record)
        self._next.rename(self._path)
        self._settle(record)

    def _write_next(self, record: Record) -> None:
        data = json.dumps(asdict(record)).encode()
        fd = os.open(self._next, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
        try:
            write_all(fd, data)
            os.ftruncate(fd, len(data))
            if record.phase is Phase.ENDED:
                os.fsync(fd)
        finally:
            os.close(fd)

    def _settle(self, record: Record) -> None:
        if record.phase is Phase.ENDED:
            sync_folder(self._path.parent)
        else:
            self._reserve(RESERVE_BYTES + RESERVE_RANK_BYTES * len(record.ranks))

    def _reserve(self, size_bytes: int) -> None:
        fd = os.open(self._next, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
        try:
            os.posix_fallocate(fd, 0, size_bytes)
        except OSError:
            pass  # a file system without fallocate, or full: the next save does what it can
        finally:
            os.close(fd)


def remove_reserve(folder: Path) -> None:
    """Delete what dead shims had set aside."""
    for path in folder.glob("record.*.next"):
        path.unlink(missing_ok=True)
