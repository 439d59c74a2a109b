"""A folder in which an attempt's ranks leave word: their last step, PyTorch's flight records.

It lies in the machine's folder for temporary files and belongs to the job's user, as our own folders are
closed to them. Nothing in it is trusted: only plain files of that user are read, and not through links.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from gpusched.agent.shim.files import PRIVATE, write_all
from gpusched.domain.identity import Identity
from gpusched.domain.launch_plan import NOTES_WORD, TRACE_NAME

PROGRESS_BYTES_MAX = 64  # digits of two 64-bit numbers
STEP_MAX = 2**63 - 1
TRACE_BYTES_MAX = 64 << 20  # of one rank; 2,000 records take about 2 MB
TRACES_MAX = 64
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def make_notes(path: Path, owner: Identity) -> Path | None:
    """Make the folder; None where there is no room or right to: ranks then run without."""
    try:
        path.mkdir(mode=0o700)
        if owner.uid != os.getuid():
            os.chown(path, owner.uid, owner.gid)
    except OSError:
        return None
    return path


def filled_in(env: tuple[tuple[str, str], ...], notes: str | None) -> dict[str, str]:
    """A rank's environment with the folder's path in it; without one, without what would name it."""
    begins = f"{NOTES_WORD}/"
    if notes is None:
        return {name: value for name, value in env if not value.startswith(begins)}
    return {
        name: f"{notes}/{value.removeprefix(begins)}" if value.startswith(begins) else value
        for name, value in env
    }


@dataclass(frozen=True, slots=True)
class Progress:
    """A rank's last step, and the seconds it had spent on its own work by then, if it says so."""

    step: int
    own_s: float | None = None


def read_progress(notes: Path, name: str, owner: Identity) -> Progress | None:
    """What a rank wrote last, as ``STEP`` or ``STEP SECONDS``; None if it wrote nothing of the kind."""
    text = _read(notes / name, owner, PROGRESS_BYTES_MAX)
    try:
        step, *own_s = (text or b"").split()  # too few words, or too many, are as bad as wrong ones
        progress = Progress(int(step), *map(float, own_s))
    except (ValueError, TypeError):
        return None
    is_sane = abs(progress.step) <= STEP_MAX and (progress.own_s is None or isfinite(progress.own_s))
    return progress if is_sane else None


def keep_traces(notes: Path, folder: Path, owner: Identity) -> None:
    """Copy flight records to ``folder``. What cannot be copied is left behind."""
    with contextlib.suppress(OSError):
        for path in sorted(notes.glob(f"{TRACE_NAME}*"))[:TRACES_MAX]:
            data = _read(path, owner, TRACE_BYTES_MAX)
            if data:
                folder.mkdir(mode=0o700, exist_ok=True)
                _write(folder / path.name, data)


def remove_notes(notes: Path) -> None:
    """Delete the folder and all in it."""
    shutil.rmtree(notes, ignore_errors=True)


def _read(path: Path, owner: Identity, limit: int) -> bytes | None:
    try:
        fd = os.open(path, READ)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != owner.uid or found.st_nlink != 1:
            return None
        return os.read(fd, limit)
    except OSError:
        return None
    finally:
        os.close(fd)


def _write(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, PRIVATE)
    try:
        write_all(fd, data)
    finally:
        os.close(fd)
