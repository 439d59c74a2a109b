"""The readers' side: what the API and reports ask, on connections of their own.

A read never waits for the writer and never delays it (WAL on SQLite, MVCC on PostgreSQL), and
each method sees the database at one instant. What is not there is None or an empty tuple.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, or_, select

from gpusched.domain.events import Recorded
from gpusched.domain.ids import Epoch, JobId, NodeName
from gpusched.domain.job import Job, JobFilter
from gpusched.domain.job_state import EndReason
from gpusched.domain.node import Node
from gpusched.domain.telemetry import NodeUse
from gpusched.domain.usage import AttemptSpan, NodeSpan
from gpusched.engine.health_fold import out_of
from gpusched.store import schema
from gpusched.store.codec import ALLOCATION, DEVICES, EVENTS, JOB, NODE, NODE_USE, OUTAGES
from gpusched.store.connections import parse_url, place_of, reader_engine, store_errors

Uses = tuple[tuple[NodeName, NodeUse], ...]

_jobs, _events, _spans = schema.jobs.c, schema.events.c, schema.node_spans.c
_attempts, _parts = schema.attempts.c, schema.attempt_nodes.c
_LAST_ATTEMPT = and_(_parts.job_id == _jobs.job_id, _parts.epoch == _jobs.epoch)
_SAME_ATTEMPT = and_(_parts.job_id == _attempts.job_id, _parts.epoch == _attempts.epoch)


class Reader:
    """Read-only queries over one database; safe to call from many threads.

    Args:
        url: As of ``open_store``, which must have made the database already.

    Every method raises ``StoreUnavailable`` when the database does not answer, and
    ``LogCorrupt`` when a row cannot be read.
    """

    def __init__(self, url: str) -> None:
        parsed = parse_url(url)
        self._place = place_of(parsed)
        self._engine = reader_engine(parsed)

    def job(self, job_id: JobId) -> Job | None:
        """One job, however long ago it ended."""
        with self._connected() as connection:
            body = connection.scalar(select(_jobs.body).where(_jobs.job_id == job_id))
        return None if body is None else JOB.decode(body)

    def jobs(self, where: JobFilter, limit: int, before: JobId | None = None) -> tuple[Job, ...]:
        """Jobs that match, newest first, at most ``limit``.

        Args:
            where: ``node`` matches a job whose current or last attempt was given that node,
                ``partition`` the name as submitted.
            limit: The most to return.
            before: Continues a listing: only jobs with a lower id.
        """
        query = select(_jobs.body).where(*_conditions(where)).order_by(_jobs.job_id.desc()).limit(limit)
        if where.node is not None:
            query = query.join(schema.attempt_nodes, _LAST_ATTEMPT).where(_parts.node == where.node)
        if before is not None:
            query = query.where(_jobs.job_id < before)
        with self._connected() as connection:
            return tuple(map(JOB.decode, connection.scalars(query)))

    def attempt(self, job_id: JobId, epoch: Epoch) -> AttemptSpan | None:
        """One attempt of a job."""
        found = self._attempts(_attempts.job_id == job_id, _attempts.epoch == epoch)
        return found[0] if found else None

    def attempts(self, job_id: JobId) -> tuple[AttemptSpan, ...]:
        """Every attempt of a job, in order."""
        return self._attempts(_attempts.job_id == job_id)

    def attempt_spans(self, start_us: int, end_us: int) -> tuple[AttemptSpan, ...]:
        """Every attempt that held devices at some time in [``start_us``, ``end_us``), whole, by job."""
        return self._attempts(
            _attempts.granted_at_us < end_us,
            or_(_attempts.ended_at_us.is_(None), _attempts.ended_at_us > start_us),
        )

    def uses(self, job_id: JobId, epoch: Epoch) -> Uses:
        """What each node that has ended its part of an attempt measured, in the order of their ends."""
        query = _uses_query(schema.attempt_nodes).where(_parts.job_id == job_id, _parts.epoch == epoch)
        with self._connected() as connection:
            return tuple((row.node, NODE_USE.decode(row.use)) for row in connection.execute(query))

    def node(self, name: NodeName) -> Node | None:
        """One node."""
        with self._connected() as connection:
            body = connection.scalar(select(schema.nodes.c.body).where(schema.nodes.c.name == name))
        return None if body is None else NODE.decode(body)

    def nodes(self) -> tuple[Node, ...]:
        """All nodes, by name."""
        with self._connected() as connection:
            bodies = connection.scalars(select(schema.nodes.c.body).order_by(schema.nodes.c.name))
            return tuple(map(NODE.decode, bodies))

    def node_spans(self, start_us: int, end_us: int) -> tuple[NodeSpan, ...]:
        """Every span that reaches into [``start_us``, ``end_us``), whole, by node and time."""
        query = (
            select(schema.node_spans)
            .where(_spans.start_us < end_us, or_(_spans.end_us.is_(None), _spans.end_us > start_us))
            .where(or_(_spans.end_us.is_(None), _spans.end_us > _spans.start_us))
            .order_by(_spans.node, _spans.seq)
        )
        with self._connected() as connection:
            return tuple(map(_node_span, connection.execute(query)))

    def events(
        self, after_seq: int, job_ids: Collection[JobId] | None = None, *, limit: int
    ) -> tuple[Recorded, ...]:
        """The log after ``after_seq``, in order, at most ``limit`` events.

        Args:
            after_seq: 0 reads from the start.
            job_ids: Only events about these jobs (at most 30,000); None is the whole log.
            limit: The most to return; ask again after the last one's seq.
        """
        about = () if job_ids is None else (_events.job_id.in_(job_ids),)
        return self._log(_events.seq > after_seq, *about, limit=limit)

    def node_events(self, node: NodeName, after_seq: int = 0, *, limit: int) -> tuple[Recorded, ...]:
        """What happened to a node itself (not to jobs on it), in order, at most ``limit`` events."""
        return self._log(_events.node == node, _events.seq > after_seq, limit=limit)

    def last_node_events(self, node: NodeName, limit: int) -> tuple[Recorded, ...]:
        """The last events about a node itself, in order, at most ``limit``."""
        newest = select(_events.seq).where(_events.node == node).order_by(_events.seq.desc()).limit(limit)
        with self._connected() as connection:
            first = min(connection.scalars(newest), default=None)
        return () if first is None else self.node_events(node, first - 1, limit=limit)

    def last_seq(self) -> int:
        """The seq of the newest event; 0 if there is none."""
        with self._connected() as connection:
            return connection.scalar(select(schema.counters.c.last_seq)) or 0

    def close(self) -> None:
        """Close its connections."""
        self._engine.dispose()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        with store_errors(self._place), self._engine.begin() as connection:
            yield connection

    def _log(self, *where: ColumnElement[bool], limit: int) -> tuple[Recorded, ...]:
        query = select(_events.seq, _events.at_us, _events.kind, _events.payload).where(*where)
        with self._connected() as connection:
            rows = connection.execute(query.order_by(_events.seq).limit(limit))
            return tuple(
                Recorded(seq, at_us, EVENTS.decode(kind, payload)) for seq, at_us, kind, payload in rows
            )

    def _attempts(self, *where: ColumnElement[bool]) -> tuple[AttemptSpan, ...]:
        query = select(schema.attempts).where(*where).order_by(_attempts.job_id, _attempts.epoch)
        used = _uses_query(schema.attempt_nodes.join(schema.attempts, _SAME_ATTEMPT)).where(*where)
        with self._connected() as connection:
            uses = _by_attempt(connection.execute(used))
            return tuple(
                _attempt_span(row, tuple(uses[row.job_id, row.epoch])) for row in connection.execute(query)
            )


def _conditions(where: JobFilter) -> Iterator[ColumnElement[bool]]:
    if where.states:
        yield _jobs.state.in_([state.value for state in where.states])
    for column, wanted in (
        (_jobs.user, where.user),
        (_jobs.account, where.account),
        (_jobs.partition, where.partition),
        (_jobs.name, where.name),
    ):
        if wanted is not None:
            yield column == wanted


def _uses_query(source: Any) -> Select[Any]:
    columns = (_parts.job_id, _parts.epoch, _parts.node, _parts.use)
    return select(*columns).select_from(source).where(_parts.use.is_not(None)).order_by(_parts.ended_seq)


def _by_attempt(rows: Iterable[Row[Any]]) -> defaultdict[tuple[JobId, Epoch], list[tuple[NodeName, NodeUse]]]:
    uses: defaultdict[tuple[JobId, Epoch], list[tuple[NodeName, NodeUse]]] = defaultdict(list)
    for row in rows:
        uses[row.job_id, row.epoch].append((row.node, NODE_USE.decode(row.use)))
    return uses


def _attempt_span(row: Row[Any], uses: Uses) -> AttemptSpan:
    return AttemptSpan(
        job_id=row.job_id,
        epoch=row.epoch,
        user=row.user,
        account=row.account,
        allocation=ALLOCATION.decode(row.allocation),
        running_at_us=row.running_at_us,
        ended_at_us=row.ended_at_us,
        end_reason=None if row.end_reason is None else EndReason(row.end_reason),
        uses=uses,
    )


def _node_span(row: Row[Any]) -> NodeSpan:
    devices = DEVICES.decode(row.devices)
    return NodeSpan(
        node=row.node,
        devices=devices,
        is_up=row.is_up,
        start_us=row.start_us,
        end_us=row.end_us,
        out=out_of(OUTAGES.decode(row.outages), devices),
    )
