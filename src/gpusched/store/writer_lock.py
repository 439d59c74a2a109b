"""One head per database: a second one is refused before it writes anything.

SQLite: an exclusive ``flock`` on ``<file>.lock``, which the kernel gives up with the process,
however it dies. PostgreSQL: a session advisory lock, taken on the writer's only connection as
it is made. A write thus always travels on a connection that holds the lock, and a head that
lost its connection must win the lock again before its next write.

That keeps two heads apart on one PostgreSQL server reached directly. It is no leader election:
behind a transaction-mode pooler or across a database failover an advisory lock promises
nothing. Failover between heads comes with leader leases.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from psycopg.errors import LockNotAvailable

from gpusched.domain.errors import StoreUnavailable

ADVISORY_KEY = 0x6770757363686564  # "gpusched", one per database
PATIENCE_MS = 2_000  # a head killed a moment ago may still have a commit in flight on the server


class FileLock:
    """Holds ``<database>.lock`` until closed.

    Raises:
        StoreUnavailable: Another process holds it, or it cannot be made.
    """

    def __init__(self, database: Path) -> None:
        path = database.with_name(database.name + ".lock")
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreUnavailable(
                f"{path} cannot be opened ({error.strerror}); let this user write its directory"
            ) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._descriptor)
            raise StoreUnavailable(
                f"{database} is in use by another head (pid {holder}, lock {path}); "
                "stop that one first, or give this one another home"
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let the next head in. The file stays: removing it would race with one that waits."""
        os.close(self._descriptor)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def take_advisory_lock(connection: Any, place: str) -> None:
    """Take the writer's lock on a new psycopg connection; it is held until that closes.

    Raises:
        StoreUnavailable: Another head holds it.
    """
    cursor = connection.cursor()
    try:
        cursor.execute(f"SET lock_timeout TO {PATIENCE_MS}")
        cursor.execute("SELECT pg_advisory_lock(%s)", (ADVISORY_KEY,))
        cursor.execute("SET lock_timeout TO 0")
    except LockNotAvailable as error:
        connection.rollback()
        raise StoreUnavailable(
            f"{place} is in use by another head ({_holder(cursor)}); stop that one first, "
            "or give this one another database"
        ) from error
    connection.commit()


def _holder(cursor: Any) -> str:
    cursor.execute(
        "SELECT a.application_name, a.client_addr FROM pg_locks l JOIN pg_stat_activity a USING (pid) "
        "WHERE l.locktype = 'advisory' AND l.granted "
        "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
        "AND (l.classid::bigint << 32 | l.objid::bigint) = %s",
        (ADVISORY_KEY,),
    )
    row = cursor.fetchone()
    return "unknown" if row is None else f"{row[0]} on {row[1] or 'this machine'}"
