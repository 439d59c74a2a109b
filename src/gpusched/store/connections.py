"""Engines for SQLite and PostgreSQL, and the one place where their errors become ours.

SQLite: WAL, so that readers never block the writer; ``synchronous=FULL``, as NORMAL may roll
back an acknowledged commit after a power loss (https://www.sqlite.org/wal.html); every write
transaction begins IMMEDIATE, since one that starts as a read and turns into a write fails at
once when another has written. Never on a network file system.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from gpusched.domain.errors import ConfigInvalid, LogCorrupt, StoreUnavailable
from gpusched.store.migrate import SCHEMA

BUSY_TIMEOUT_S = 10
CONNECT_TIMEOUT_S = 10
READERS_MAX = 8
IDLE_MAX_S = 5.0
"""The server ends a write transaction whose head has said nothing for so long: it holds the leader's row."""
# A database host that vanished is noticed in some ten seconds, not after TCP's quarter of an hour.
KEEPALIVE = {
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}


REMEDIES = (
    (("disk is full", "No space left"), "make room on its disk"),
    (
        ("authentication failed", "no password supplied"),
        "mend the user or password (store.url, ~/.pgpass)",
    ),
    (("does not exist",), "create it, or mend store.url"),
    (("connection failed",), "start it, or mend store.url"),
)
"""By what SQLite or PostgreSQL said; the first that fits."""


def parse_url(text: str) -> URL:
    """Read a database URL.

    Raises:
        ConfigInvalid: It names no SQLite file and no PostgreSQL database.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):  # a port that is no number is a ValueError
        raise ConfigInvalid(
            "the store's URL cannot be read; write sqlite:////path/to/gpusched.db or "
            "postgresql+psycopg://user@host/database"
        ) from None  # the cause may quote the password
    if url.drivername == "sqlite" and url.database not in (None, "", ":memory:"):
        return url
    if url.drivername == "postgresql+psycopg":
        return url
    raise ConfigInvalid(
        f"the store cannot be {place_of(url)!r}; write sqlite:////path/to/gpusched.db (a file: readers "
        "open it too) or postgresql+psycopg://user@host/database"
    )


def place_of(url: URL) -> str:
    """Name a database in messages: no password, no options."""
    host = url.host or url.query.get("host")
    named = URL.create(
        url.drivername,
        username=url.username,
        host=host if isinstance(host, str) and "/" not in host else None,
        port=url.port,
        database=url.database,
    )
    return named.render_as_string()


def file_of(url: URL) -> Path:
    """The file of a SQLite URL."""
    assert url.database is not None
    return Path(url.database)


@contextmanager
def store_errors(place: str) -> Iterator[None]:
    """Translate whatever the database raises inside.

    Raises:
        LogCorrupt: A row is there already that must not be.
        StoreUnavailable: Anything else: the database does not answer, or refuses.
    """
    try:
        yield
    except IntegrityError as error:
        raise LogCorrupt(f"{place} refuses a contradiction: {first_line(error)}") from error
    except SQLAlchemyError as error:
        said = first_line(error)
        raise StoreUnavailable(f"{place} does not answer or refuses: {said}{remedy_for(said)}") from error


def first_line(error: SQLAlchemyError) -> str:
    """What the driver said, without statement, parameters or row values."""
    said = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    return (said.strip().splitlines() or [type(error).__name__])[0]


def remedy_for(said: str) -> str:
    """What an operator can do about it, as the end of a sentence; nothing where only the database knows."""
    return next((f"; {do}" for words, do in REMEDIES if any(word in said for word in words)), "")


def writer_engine(url: URL, *, name: str) -> Engine:
    """Make an engine that writes: one connection, kept open. PostgreSQL shows ``name`` and our pid."""
    if url.get_backend_name() != "sqlite":
        url = url.update_query_dict({"application_name": f"gpusched head, pid {os.getpid()}, {name}"})
    engine = _engine(url, connections_max=1, begin="BEGIN IMMEDIATE")
    if url.get_backend_name() != "sqlite":
        event.listen(engine, "connect", _limit_idling)
        event.listen(engine, "connect", _commit_durably)
    return engine


def reader_engine(url: URL) -> Engine:
    """Make an engine that can only read; each transaction sees one instant."""
    if url.get_backend_name() == "sqlite":
        engine = _engine(url, connections_max=READERS_MAX, begin="BEGIN")
        event.listen(engine, "connect", _forbid_writes)
        return engine
    engine = _engine(url, connections_max=READERS_MAX, begin="BEGIN", pool_pre_ping=True)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _engine(url: URL, *, connections_max: int, begin: str, pool_pre_ping: bool = False) -> Engine:
    is_sqlite = url.get_backend_name() == "sqlite"
    arguments: dict[str, Any] = (
        {"timeout": BUSY_TIMEOUT_S} if is_sqlite else {"connect_timeout": CONNECT_TIMEOUT_S, **KEEPALIVE}
    )
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=connections_max,
        max_overflow=0,
        pool_pre_ping=pool_pre_ping,
        hide_parameters=True,  # payloads hold users' environments
        connect_args=arguments,
    )
    if is_sqlite:
        event.listen(engine, "connect", _prepare_sqlite)

        @event.listens_for(engine, "begin")
        def _begin(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

    else:
        # Before SQLAlchemy's own first look, so that it takes our schema for the default one.
        event.listen(engine, "connect", _enter_schema, insert=True)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    connection.isolation_level = None  # sqlite3 must not begin transactions by itself: ``_begin`` does
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _forbid_writes(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute("PRAGMA query_only=ON")


def _limit_idling(connection: Any, _record: Any) -> None:
    connection.execute(f"SET idle_in_transaction_session_timeout TO {IDLE_MAX_S * 1000:.0f}")
    connection.commit()


def _commit_durably(connection: Any, _record: Any) -> None:
    # A server, database or role may be set to answer before a commit is on its disk: what we then
    # acknowledged would be lost with the server. Every other setting waits for that, or for more.
    is_off = "current_setting('synchronous_commit') = 'off'"
    connection.execute(f"SELECT set_config('synchronous_commit', 'on', false) WHERE {is_off}")
    connection.commit()


def _enter_schema(connection: Any, _record: Any) -> None:
    connection.execute(f"SET search_path TO {SCHEMA}")
    connection.commit()
