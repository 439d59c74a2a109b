"""A SQLite file: looked at before it is used, had by one head, and left as it was if it is not ours."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from gpusched.domain.errors import ConfigInvalid, StoreUnavailable
from gpusched.store.file_lock import FileLock

APPLICATION_ID = 0x67707573  # "gpus", in the header of every file we made


def claim_file(path: Path) -> FileLock:
    """Take a file for this head alone, made if it is not there; close the lock to let it go.

    Raises:
        ConfigInvalid: It is no SQLite file, a damaged one, or another program's.
        StoreUnavailable: It cannot be opened, or another head has it.
    """
    check_file(path)
    lock = FileLock(path.with_name(path.name + ".lock"), str(path))
    try:
        make_file(path)
    except StoreUnavailable:
        lock.close()
        raise
    return lock


def check_file(path: Path) -> None:
    """Refuse a file that gpusched did not make; one that does not exist yet, or is empty, is fine.

    Raises:
        ConfigInvalid: It is no SQLite file, a damaged one, or another program's.
        StoreUnavailable: It cannot be opened.
    """
    if not path.parent.is_dir():
        raise ConfigInvalid(f"{path.parent} is not a directory; make it, or name another file for the store")
    if not path.exists() or (path.is_file() and path.stat().st_size == 0):
        return
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            (owner,) = connection.execute("PRAGMA application_id").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        raise StoreUnavailable(
            f"{path} cannot be opened ({error}); let this user read and write it"
        ) from error
    except sqlite3.DatabaseError as error:
        raise ConfigInvalid(
            f"{path} is no gpusched database, or is damaged ({error}); restore a backup, or move it away "
            "to begin with an empty one"
        ) from error
    if owner != APPLICATION_ID and tables:
        raise ConfigInvalid(f"{path} is another program's SQLite file; give gpusched a file of its own")


def make_file(path: Path) -> None:
    """Make an empty file that only its owner can read, unless there is one: jobs' environments go in.

    Raises:
        StoreUnavailable: It can neither be made nor written.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnavailable(
            f"{path} cannot be opened for writing ({error.strerror}); let this user write it"
        ) from error
