"""The writer's side: opens a database, migrates it, and is the engine's ``Store``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import ceil
from types import TracebackType
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Engine, bindparam, func, insert, select, tuple_, update

from gpusched.domain.commands import Queued
from gpusched.domain.errors import LogCorrupt, StoreUnavailable
from gpusched.domain.history import History
from gpusched.domain.ids import JobId, RequestId
from gpusched.domain.job_state import JobState
from gpusched.domain.node import WHOLE_MILLI
from gpusched.engine.demand import RECENT
from gpusched.engine.past import RUNS_KEPT, PastRun, Work
from gpusched.engine.ports import Batch, Loaded, RequestRecord
from gpusched.store import schema
from gpusched.store.codec import ALLOCATION, COMMANDS, JOB, JOB_IDS, NODE
from gpusched.store.commit import BatchWriter
from gpusched.store.connections import parse_url, place_of, store_errors, writer_engine
from gpusched.store.high_water import Memory, read_history
from gpusched.store.leadership import Leadership
from gpusched.store.members import MemberRecords
from gpusched.store.migrate import migrate

_UNFINISHED = [state.value for state in JobState if not state.is_terminal]
_LOAD_JOBS = (
    select(schema.jobs.c.body).where(schema.jobs.c.state.in_(_UNFINISHED)).order_by(schema.jobs.c.job_id)
)
_LOAD_SUBMITTED = (
    select(schema.jobs.c.body)
    .where(schema.jobs.c.job_id >= bindparam("first"))
    .order_by(schema.jobs.c.job_id)
)
_LOAD_RUNS = (
    select(
        schema.attempts.c.user,
        schema.attempts.c.account,
        schema.jobs.c.name,
        schema.attempts.c.allocation,
        schema.attempts.c.granted_at_us,
        schema.attempts.c.ended_at_us,
    )
    .join(schema.jobs, schema.jobs.c.job_id == schema.attempts.c.job_id)
    .where(schema.attempts.c.ended_at_us.is_not(None))
    .order_by(*(schema.attempts.c[name].desc() for name in ("ended_at_us", "job_id", "epoch")))
    .limit(RUNS_KEPT)
)
_LOAD_NODES = select(schema.nodes.c.body).order_by(schema.nodes.c.name)
_LOAD_OUTBOX = select(schema.outbox.c.seq, schema.outbox.c.kind, schema.outbox.c.payload).order_by(
    schema.outbox.c.seq
)
_FIND_REQUESTS = select(schema.requests).where(
    tuple_(schema.requests.c.subject, schema.requests.c.request_id).in_(bindparam("keys", expanding=True))
)
READS_AT_LEISURE = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    "SET LOCAL idle_in_transaction_session_timeout TO 0",  # rows are decoded between the statements
)
UNRENEWED_LEASE_S = 6.0
_KEYS_PER_QUERY = 400  # two variables each: SQLite took no more than 999 in a statement for long


class SqlStore:
    """Durable state in SQL: implements ``engine.ports.Store``. Made by ``open_store``.

    One writer. Methods block and may be called from any thread, one at a time. When a commit
    raises ``StoreUnavailable`` its outcome is unknown: ``load`` again to learn it. Every method
    raises ``NotLeading``, having written nothing, once another head leads.
    """

    def __init__(
        self,
        engine: Engine,
        leadership: Leadership,
        place: str,
        held: ExitStack,
        memory: Memory,
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._history = History()
        self._leadership = leadership
        self._place = place
        self._held = held
        self._writer = BatchWriter(engine.dialect.name)
        self.members = MemberRecords(self._transaction)

    def load(self) -> Loaded:
        """Read what a starting engine needs: projections only, never the log.

        Raises:
            StoreUnavailable: The database does not answer.
            LogCorrupt: Log and projections contradict each other, or cannot be read.
        """
        with self._transaction() as connection:
            # The lock waits for a commit of ours that the server is still busy with though we have lost
            # its connection: loaded without it, the state would miss what is about to be written.
            connection.execute(select(schema.counters).with_for_update())
        with self._reading() as connection:
            counters = connection.execute(select(schema.counters)).one()
            last_seq = connection.scalar(select(func.max(schema.events.c.seq))) or 0
            if last_seq != counters.last_seq:
                raise LogCorrupt(
                    f"{self._place}: the log ends at seq {last_seq}, its projections at {counters.last_seq}; "
                    "restore a backup of the whole database"
                )
            self._history, _ = read_history(connection, self._memory)
            node_lease_ms = connection.scalar(select(func.max(schema.terms.c.node_lease_ms))) or 0
            return Loaded(
                history=self._history,
                node_lease_us=node_lease_ms * 1000,
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
                runs=tuple(_run(row) for row in connection.execute(_LOAD_RUNS))[::-1],
            )

    def commit(self, batch: Batch) -> None:
        """Write a batch in one transaction; on return it survives a crash of anything.

        Raises:
            StoreUnavailable: The database does not answer; whether the batch was written is unknown.
            LogCorrupt: The batch does not continue the log; nothing was written.
        """
        with self._transaction() as connection:
            self._writer.write(connection, batch)
        self._remember(batch)

    def find_requests(self, keys: Sequence[tuple[str, RequestId]]) -> tuple[RequestRecord, ...]:
        """Earlier answers to requests of these subjects and ids; those never answered are left out.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        with self._transaction() as connection:
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

    def _remember(self, batch: Batch) -> None:
        """Before anybody hears of it. One that is behind keeps in mind what it misses."""
        if batch.events and not self._history.is_behind:
            self._memory.keep(self._history.mark(batch.events[-1].seq, batch.next_job_id))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with store_errors(self._place), self._engine.begin() as connection:
            self._leadership.require(connection)
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """One snapshot, for as long as it takes: nothing is held meanwhile, so that the lead is renewed."""
        with store_errors(self._place), self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                for setting in READS_AT_LEISURE:
                    connection.exec_driver_sql(setting)
            yield connection

    def close(self) -> None:
        """Let go of the database; with a leadership of its own, so that another head may have it."""
        self._held.close()

    def __enter__(self) -> SqlStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _run(row: Any) -> PastRun:
    parts = ALLOCATION.decode(row.allocation).nodes
    milli = sum(device.milli for part in parts for device in part.devices)
    work = Work(row.user, row.account, row.name, milli / WHOLE_MILLI)
    return PastRun(work, row.granted_at_us, max(row.granted_at_us, row.ended_at_us))


def open_store(
    url: str,
    leadership: Leadership | None = None,
    memory: Memory | None = None,
    *,
    node_lease_s: float = 0.0,
) -> SqlStore:
    """Open a database as its one writer, and bring its schema up to date.

    Args:
        url: ``sqlite:////path/to/gpusched.db`` (made if it is not there) or
            ``postgresql+psycopg://user@host/database``.
        leadership: Of the head that leads on this database. None: take the lead now and give it up
            with the store; nobody renews it, so on PostgreSQL another head may depose this one.
        memory: What shows that the database went back in time; None: nothing.
        node_lease_s: What this head will give its nodes; noted, as the next one must wait for it.

    Raises:
        ConfigInvalid: The URL, or what it names, is not a gpusched database of this version.
        StoreUnavailable: The database does not answer, or another head has it.
        NotLeading: The leadership was lost.
    """
    parsed = parse_url(url)
    place = place_of(parsed)
    with ExitStack() as stack:
        if leadership is None:
            leadership = stack.enter_context(_take_lead(url, place))
        engine = writer_engine(parsed, name=f"epoch {leadership.epoch}")
        stack.callback(engine.dispose)
        with store_errors(place), engine.begin() as connection:
            leadership.require(connection)
            migrate(connection, place)
            _begin_term(connection, leadership.epoch, memory or Memory(), node_lease_s)
        return SqlStore(engine, leadership, place, stack.pop_all(), memory or Memory())


def _begin_term(connection: Connection, epoch: int, memory: Memory, node_lease_s: float) -> None:
    counters = connection.execute(select(schema.counters)).one()
    if connection.scalar(select(schema.terms.c.epoch).where(schema.terms.c.epoch == epoch)) is None:
        term = {
            "epoch": epoch,
            "token": uuid4().hex,
            "first_seq": counters.last_seq + 1,
            "node_lease_ms": ceil(node_lease_s * 1000),
        }
        connection.execute(insert(schema.terms), term)
    seen = memory.mark
    if seen is not None and seen.next_job_id > counters.next_job_id:  # ids are for ever, whoever forgets them
        connection.execute(update(schema.counters).values(next_job_id=seen.unused_job_id))


def _take_lead(url: str, place: str) -> Leadership:
    leadership = Leadership(url, holder=uuid4().hex, lease_s=UNRENEWED_LEASE_S)
    if not leadership.stand(f"pid {os.getpid()}"):
        leadership.close()
        raise StoreUnavailable(
            f"{place} is in use by another head ({leadership.leader}); stop that one first, "
            "or give this one another database"
        )
    return leadership
