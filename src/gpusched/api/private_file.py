"""Files of secrets: whole or not at all, and their owner's alone."""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE = 0o600


def write_private(path: Path, data: bytes) -> None:
    """Replace ``path`` with ``data``, mode 0600, durably.

    Raises:
        OSError: ``path`` is as it was.
    """
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    make_private(new, data)
    new.rename(path)


def make_private(path: Path, data: bytes) -> None:
    """Make ``path`` with ``data``, mode 0600, durably.

    Raises:
        OSError: It is there already, or cannot be written.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Changes whenever the file is replaced; None while there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
