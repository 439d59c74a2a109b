"""The writer's side: opens a database, migrates it, and is the engine's ``Store``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType

from sqlalchemy import URL, Engine, bindparam, event, func, select, tuple_

from gpusched.domain.commands import Queued
from gpusched.domain.errors import LogCorrupt
from gpusched.domain.ids import JobId, RequestId
from gpusched.domain.job_state import JobState
from gpusched.engine.demand import RECENT
from gpusched.engine.ports import Batch, Loaded, RequestRecord
from gpusched.store import schema
from gpusched.store.codec import COMMANDS, JOB, JOB_IDS, NODE
from gpusched.store.commit import BatchWriter
from gpusched.store.connections import file_of, parse_url, place_of, store_errors, writer_engine
from gpusched.store.migrate import migrate
from gpusched.store.sqlite_file import APPLICATION_ID, check_file, make_file
from gpusched.store.writer_lock import FileLock, take_advisory_lock

_UNFINISHED = [state.value for state in JobState if not state.is_terminal]
_LOAD_JOBS = (
    select(schema.jobs.c.body).where(schema.jobs.c.state.in_(_UNFINISHED)).order_by(schema.jobs.c.job_id)
)
_LOAD_SUBMITTED = (
    select(schema.jobs.c.body)
    .where(schema.jobs.c.job_id >= bindparam("first"))
    .order_by(schema.jobs.c.job_id)
)
_LOAD_NODES = select(schema.nodes.c.body).order_by(schema.nodes.c.name)
_LOAD_OUTBOX = select(schema.outbox.c.seq, schema.outbox.c.kind, schema.outbox.c.payload).order_by(
    schema.outbox.c.seq
)
_FIND_REQUESTS = select(schema.requests).where(
    tuple_(schema.requests.c.subject, schema.requests.c.request_id).in_(bindparam("keys", expanding=True))
)
_KEYS_PER_QUERY = 400  # two variables each: SQLite took no more than 999 in a statement for long


class SqlStore:
    """Durable state in SQL: implements ``engine.ports.Store``. Made by ``open_store``.

    One writer. Methods block and may be called from any thread, one at a time. When a commit
    raises ``StoreUnavailable`` its outcome is unknown: ``load`` again to learn it.
    """

    def __init__(self, engine: Engine, place: str, held: ExitStack) -> None:
        self._engine = engine
        self._place = place
        self._held = held
        self._writer = BatchWriter(engine.dialect.name)

    def load(self) -> Loaded:
        """Read what a starting engine needs: projections only, never the log.

        Raises:
            StoreUnavailable: The database does not answer.
            LogCorrupt: Log and projections contradict each other, or cannot be read.
        """
        with store_errors(self._place), self._engine.begin() as connection:
            counters = connection.execute(select(schema.counters)).one()
            last_seq = connection.scalar(select(func.max(schema.events.c.seq))) or 0
            if last_seq != counters.last_seq:
                raise LogCorrupt(
                    f"{self._place}: the log ends at seq {last_seq}, its projections at {counters.last_seq}; "
                    "restore a backup of the whole database"
                )
            return Loaded(
                jobs=tuple(map(JOB.decode, connection.scalars(_LOAD_JOBS))),
                nodes=tuple(map(NODE.decode, connection.scalars(_LOAD_NODES))),
                outbox=tuple(
                    Queued(seq, COMMANDS.decode(kind, payload))
                    for seq, kind, payload in connection.execute(_LOAD_OUTBOX)
                ),
                last_seq=last_seq,
                last_command_seq=counters.last_command_seq,
                next_job_id=JobId(counters.next_job_id),
                submitted=tuple(
                    (job.job_id, job.spec)
                    for job in map(
                        JOB.decode,
                        connection.scalars(_LOAD_SUBMITTED, {"first": counters.next_job_id - RECENT}),
                    )
                ),
            )

    def commit(self, batch: Batch) -> None:
        """Write a batch in one transaction; on return it survives a crash of anything.

        Raises:
            StoreUnavailable: The database does not answer; whether the batch was written is unknown.
            LogCorrupt: The batch does not continue the log; nothing was written.
        """
        with store_errors(self._place), self._engine.begin() as connection:
            self._writer.write(connection, batch)

    def find_requests(self, keys: Sequence[tuple[str, RequestId]]) -> tuple[RequestRecord, ...]:
        """Earlier answers to requests of these subjects and ids; those never answered are left out.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        with store_errors(self._place), self._engine.begin() as connection:
            return tuple(
                RequestRecord(
                    request_id=row.request_id,
                    subject=row.subject,
                    digest=bytes(row.digest),
                    job_ids=JOB_IDS.decode(row.job_ids),
                    answered_at_us=row.answered_at_us,
                )
                for first in range(0, len(keys), _KEYS_PER_QUERY)
                for row in connection.execute(
                    _FIND_REQUESTS, {"keys": list(keys[first : first + _KEYS_PER_QUERY])}
                )
            )

    def close(self) -> None:
        """Let go of the database, so that another head may have it."""
        self._held.close()

    def __enter__(self) -> SqlStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_store(url: str) -> SqlStore:
    """Open a database as its one writer, and bring its schema up to date.

    Args:
        url: ``sqlite:////path/to/gpusched.db`` (made if it is not there) or
            ``postgresql+psycopg://user@host/database``.

    Raises:
        ConfigInvalid: The URL, or what it names, is not a gpusched database of this version.
        StoreUnavailable: The database does not answer, or another head has it.
    """
    parsed = parse_url(url)
    place = place_of(parsed)
    with ExitStack() as stack:
        if parsed.get_backend_name() == "sqlite":
            engine = _claim_sqlite(parsed, stack)
        else:
            engine = _claim_postgresql(parsed, place)
        stack.callback(engine.dispose)
        with store_errors(place), engine.begin() as connection:
            if connection.dialect.name == "sqlite":
                connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
            migrate(connection, place)
        return SqlStore(engine, place, stack.pop_all())


def _claim_sqlite(url: URL, stack: ExitStack) -> Engine:
    path = file_of(url)
    check_file(path)
    stack.enter_context(FileLock(path))
    make_file(path)
    return writer_engine(url)


def _claim_postgresql(url: URL, place: str) -> Engine:
    engine = writer_engine(url.update_query_dict({"application_name": f"gpusched head, pid {os.getpid()}"}))
    event.listen(engine, "connect", lambda connection, _record: take_advisory_lock(connection, place))
    return engine
