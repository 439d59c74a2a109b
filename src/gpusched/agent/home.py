"""The agent's folder, had by one agent at a time: two would both supervise what lies in it."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gpusched.domain.errors import ConfigInvalid

FOLDER_MODE = 0o700
PID_BYTES_MAX = 32


@contextmanager
def claimed_home(home: Path) -> Iterator[None]:
    """Make ``home`` if it is not there, and hold it until the block is left or this process dies.

    Raises:
        ConfigInvalid: It cannot be used, somebody else could change what lies in it, or another agent has it.
    """
    try:
        home.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        _require_own(home)
        lock = os.open(home / "agent.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigInvalid(f"{home}: {error.strerror}: choose another --home") from error
    try:
        _lock(lock, home)
        yield
    finally:
        os.close(lock)


def _require_own(home: Path) -> None:
    """Orders are read from it and carried out: who could plant one would run what they like as anybody."""
    found = home.stat()
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigInvalid(f"{home} belongs to uid {found.st_uid}: choose another --home")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigInvalid(f"{home} may be written by others: `chmod go-w {home}`")


def _lock(lock: int, home: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(lock, PID_BYTES_MAX, 0).decode(errors="replace").strip() or "unknown"
        raise ConfigInvalid(
            f"{home} is in use by another agent (pid {holder}): stop that one first, "
            "or give this one another --name or --home"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
