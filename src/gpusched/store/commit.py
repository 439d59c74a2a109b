"""Writes a batch: its events and every projection that follows from them.

One ``executemany`` per table, whatever the size of the batch. Statements are built once, so
each is compiled once, and a batch of one event costs little beside its fsync.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, Executable, Table, bindparam, delete, exists, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from gpusched.domain.errors import LogCorrupt
from gpusched.domain.events import (
    AttemptEnded,
    AttemptStopping,
    JobAllocated,
    JobEvent,
    Recorded,
    TasksEnded,
    TasksStarted,
)
from gpusched.domain.ids import AttemptId, JobId, NodeName
from gpusched.domain.job import Job
from gpusched.engine.ports import Batch
from gpusched.store import schema
from gpusched.store.codec import DEVICES, OUTAGES, encode, kind_of
from gpusched.store.node_spans import OpenSpan, SpanEvent, span_changes

Row = dict[str, Any]  # column name to value: what SQLAlchemy takes

_INSERT: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_NAMES_PER_QUERY = 500  # SQLite allows 32,766 parameters in a statement

_counters = schema.counters.c
_READ_COUNTERS = select(
    _counters.last_seq, _counters.last_command_seq, _counters.next_job_id
).with_for_update()
_WRITE_COUNTERS = update(schema.counters)

_attempts, _parts = schema.attempts.c, schema.attempt_nodes.c
_THIS_ATTEMPT = (_attempts.job_id == bindparam("of_job"), _attempts.epoch == bindparam("of_epoch"))
_THIS_PART = (
    _parts.job_id == bindparam("of_job"),
    _parts.epoch == bindparam("of_epoch"),
    _parts.node == bindparam("of_node"),
)
_NOTE_STARTED = (
    update(schema.attempt_nodes)
    .where(*_THIS_PART, _parts.started_at_us.is_(None))
    .values(started_at_us=bindparam("at_us"))
)
_NOTE_USE = (
    update(schema.attempt_nodes).where(*_THIS_PART).values(ended_seq=bindparam("seq"), use=bindparam("body"))
)
_WAITED_FOR = exists().where(
    _parts.job_id == _attempts.job_id, _parts.epoch == _attempts.epoch, _parts.started_at_us.is_(None)
)
_NOTE_RUNNING = (
    update(schema.attempts)
    .where(
        *_THIS_ATTEMPT, _attempts.running_at_us.is_(None), _attempts.stopping_at_us.is_(None), ~_WAITED_FOR
    )
    .values(running_at_us=bindparam("at_us"))
)
_NOTE_STOPPING = (
    update(schema.attempts)
    .where(*_THIS_ATTEMPT, _attempts.stopping_at_us.is_(None))
    .values(stopping_at_us=bindparam("at_us"))
)
_NOTE_ENDED = (
    update(schema.attempts)
    .where(*_THIS_ATTEMPT)
    .values(ended_at_us=bindparam("at_us"), end_reason=bindparam("reason"))
)
_spans = schema.node_spans.c
_OPEN_SPANS = select(
    _spans.seq, _spans.node, _spans.start_us, _spans.is_up, _spans.devices, _spans.outages
).where(_spans.end_us.is_(None), _spans.node.in_(bindparam("names", expanding=True)))
_CLOSE_SPAN = (
    update(schema.node_spans).where(_spans.seq == bindparam("of_seq")).values(end_us=bindparam("at_us"))
)
_FORGET_COMMAND = delete(schema.outbox).where(schema.outbox.c.seq == bindparam("of_seq"))

_JOB_CHANGES = ("state", "epoch", "ended_at_us", "body")  # the rest of a job's row never changes


class BatchWriter:
    """Writes batches in one SQL dialect."""

    def __init__(self, dialect: str) -> None:
        self._put_job = _upsert(dialect, schema.jobs, ("job_id",), _JOB_CHANGES)
        self._put_node = _upsert(dialect, schema.nodes, ("name",), ("body",))

    def write(self, connection: Connection, batch: Batch) -> None:
        """Write everything, inside the caller's transaction.

        Raises:
            LogCorrupt: The batch does not continue the log, or contradicts itself; the
                caller's transaction must be rolled back.
        """
        _continue_counters(connection, batch)
        _run(connection, insert(schema.events), [_event_row(recorded) for recorded in batch.events])
        _run(connection, self._put_job, [_job_row(job) for job in batch.jobs])
        nodes = [{"name": node.name, "body": encode(node)} for node in batch.nodes]
        _run(connection, self._put_node, nodes)
        _write_attempts(connection, batch)
        _write_spans(connection, batch.events)
        _write_dispatch(connection, batch)


def _run(connection: Connection, statement: Executable, rows: Sequence[Row]) -> None:
    if rows:
        connection.execute(statement, rows)


def _upsert(dialect: str, table: Table, key: tuple[str, ...], changes: tuple[str, ...]) -> Executable:
    statement = _INSERT[dialect](table)
    upsert: Executable = statement.on_conflict_do_update(
        index_elements=key, set_={name: statement.excluded[name] for name in changes}
    )
    return upsert


def _continue_counters(connection: Connection, batch: Batch) -> None:
    """Check that the batch continues what is there; the row lock also keeps a second writer out."""
    last_seq, last_command_seq, next_job_id = connection.execute(_READ_COUNTERS).one()
    for expected, recorded in enumerate(batch.events, last_seq + 1):
        if recorded.seq != expected:
            raise LogCorrupt(
                f"event {kind_of(recorded.event)} has seq {recorded.seq}, but the log goes on at {expected}; "
                "another head may have written: load again"
            )
    for queued in batch.queued:
        if queued.seq <= last_command_seq:
            raise LogCorrupt(
                f"command seq {queued.seq} was used before (the last is {last_command_seq}); load again"
            )
        last_command_seq = queued.seq
    if batch.next_job_id < next_job_id:
        raise LogCorrupt(
            f"next job id {batch.next_job_id} would be handed out again: {next_job_id} is next; load again"
        )
    counters = {
        "last_seq": last_seq + len(batch.events),
        "last_command_seq": last_command_seq,
        "next_job_id": batch.next_job_id,
    }
    connection.execute(_WRITE_COUNTERS, counters)


def _event_row(recorded: Recorded) -> Row:
    event = recorded.event
    job_id: JobId | None = None
    node: NodeName | None = None
    if isinstance(event, JobEvent):
        job_id = event.job_id
    else:
        node = event.node
    return {
        "seq": recorded.seq,
        "at_us": recorded.at_us,
        "kind": kind_of(event),
        "job_id": job_id,
        "node": node,
        "payload": encode(event),
    }


def _job_row(job: Job) -> Row:
    spec = job.spec
    return {
        "job_id": job.job_id,
        "state": job.state.value,
        "user": job.owner.user,
        "account": spec.account,
        "partition": spec.partition,
        "name": spec.name,
        "epoch": None if job.attempt is None else job.attempt.epoch,
        "submitted_at_us": job.submitted_at_us,
        "ended_at_us": job.ended_at_us,
        "body": encode(job),
    }


def _write_attempts(connection: Connection, batch: Batch) -> None:
    jobs = {job.job_id: job for job in batch.jobs}
    granted: list[Row] = []
    parts: list[Row] = []
    started: list[Row] = []
    stopping: dict[AttemptId, Row] = {}
    uses: list[Row] = []
    ended: list[Row] = []
    for recorded in batch.events:
        match recorded.event:
            case JobAllocated() as event:
                granted.append(_attempt_row(event, jobs))
                names = (part.node for part in event.allocation.nodes)
                parts += ({"job_id": event.job_id, "epoch": event.epoch, "node": name} for name in names)
            case TasksStarted() as event:
                if AttemptId(event.job_id, event.epoch) not in stopping:
                    started.append(_change(event, of_node=event.node, at_us=recorded.at_us))
            case AttemptStopping() as event:
                row = _change(event, at_us=recorded.at_us)
                stopping.setdefault(AttemptId(event.job_id, event.epoch), row)
            case TasksEnded() as event:
                uses.append(_change(event, of_node=event.node, seq=recorded.seq, body=encode(event.use)))
            case AttemptEnded() as event:
                ended.append(_change(event, at_us=recorded.at_us, reason=event.reason.value))
    _run(connection, insert(schema.attempts), granted)
    _run(connection, insert(schema.attempt_nodes), parts)
    _run(connection, _NOTE_STARTED, started)
    newest = {(row["of_job"], row["of_epoch"]): row for row in started}
    _run(connection, _NOTE_RUNNING, list(newest.values()))
    _run(connection, _NOTE_STOPPING, list(stopping.values()))
    _run(connection, _NOTE_USE, uses)
    _run(connection, _NOTE_ENDED, ended)


def _change(event: TasksStarted | AttemptStopping | TasksEnded | AttemptEnded, **values: object) -> Row:
    return {"of_job": event.job_id, "of_epoch": event.epoch, **values}


def _attempt_row(event: JobAllocated, jobs: dict[JobId, Job]) -> Row:
    job = jobs.get(event.job_id)
    if job is None:
        raise LogCorrupt(f"the batch allocates job {event.job_id} without its projection")
    return {
        "job_id": event.job_id,
        "epoch": event.epoch,
        "user": job.owner.user,
        "account": job.spec.account,
        "granted_at_us": event.allocation.granted_at_us,
        "allocation": encode(event.allocation),
    }


def _write_spans(connection: Connection, log: Sequence[Recorded]) -> None:
    names = {recorded.event.node for recorded in log if isinstance(recorded.event, SpanEvent)}
    if not names:
        return
    changes = span_changes(_open_spans(connection, sorted(names)), log)
    opened = [
        {
            "seq": span.seq,
            "node": span.node,
            "start_us": span.start_us,
            "is_up": span.is_up,
            "devices": encode(span.devices),
            "outages": encode(span.outages),
        }
        for span in changes.opened
    ]
    _run(connection, insert(schema.node_spans), opened)
    _run(connection, _CLOSE_SPAN, [{"of_seq": seq, "at_us": end} for seq, end in changes.closed.items()])


def _open_spans(connection: Connection, names: Sequence[NodeName]) -> list[OpenSpan]:
    found: list[OpenSpan] = []
    for first in range(0, len(names), _NAMES_PER_QUERY):
        rows = connection.execute(_OPEN_SPANS, {"names": names[first : first + _NAMES_PER_QUERY]})
        found += (
            OpenSpan(
                seq=row.seq,
                node=row.node,
                start_us=row.start_us,
                is_up=row.is_up,
                devices=DEVICES.decode(row.devices),
                outages=OUTAGES.decode(row.outages),
            )
            for row in rows
        )
    return found


def _write_dispatch(connection: Connection, batch: Batch) -> None:
    answers = [
        {
            "subject": request.subject,
            "request_id": request.request_id,
            "digest": request.digest,
            "job_ids": encode(request.job_ids),
            "answered_at_us": request.answered_at_us,
        }
        for request in batch.requests
    ]
    _run(connection, insert(schema.requests), answers)
    commands = [
        {
            "seq": queued.seq,
            "node": queued.command.node,
            "kind": kind_of(queued.command),
            "payload": encode(queued.command),
        }
        for queued in batch.queued
    ]
    _run(connection, insert(schema.outbox), commands)
    _run(connection, _FORGET_COMMAND, [{"of_seq": seq} for seq in batch.acknowledged])
