"""The files of one attempt, and how they are written so that a crash leaves the old or the new."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class AttemptDir:
    """``<agent home>/attempts/<job>.<epoch>``: the names of what lies in it, nothing more.

    The directory and all in it belong to the agent's user; the job's user cannot enter it.
    """

    path: Path

    @property
    def order(self) -> Path:
        """What to run. Once it exists, the launch is durable."""
        return self.path / "launch.json"

    @property
    def script(self) -> Path:
        """The job's script, where it has one."""
        return self.path / "script"

    @property
    def record(self) -> Path:
        """What happened so far."""
        return self.path / "record.json"

    @property
    def stop_order(self) -> Path:
        """Asks the shim to end the ranks."""
        return self.path / "stop.json"

    @property
    def acknowledged(self) -> Path:
        """Exists once the head has committed the end of the attempt."""
        return self.path / "acknowledged"

    @property
    def stacks(self) -> Path:
        """What the ranks were doing when the head asked."""
        return self.path / "stacks"

    def rank_stacks(self, global_rank: int) -> Path:
        """The stacks of one rank."""
        return self.stacks / f"rank-{global_rank}.txt"

    @property
    def wake_fifo(self) -> Path:
        """The agent's: a line with the attempt's name says that its record changed."""
        return self.path.parent.parent / "wake"

    def rank_logs(self, global_rank: int) -> Path:
        """The folder of one rank's output."""
        return self.path / "logs" / f"rank-{global_rank}"


def write_durably(path: Path, data: bytes) -> None:
    """Replace ``path`` with ``data`` for good: temporary file, fsync, rename, fsync of the folder.

    Raises:
        OSError: Nothing was changed.
    """
    temporary = path.with_name(path.name + ".new")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, PRIVATE)
    try:
        write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.rename(path)
    sync_folder(path.parent)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte or raise OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
