"""The row that says which head leads. Every write transaction begins by asking it (``require``).

A head leads for one *epoch*: taking the row adds one to it, in a compare-and-set on all that was
seen. The leader adds one to ``beats`` well within its lease; whoever has seen neither number change
for as long as that, on its own monotonic clock, may take the row. No wall clock is compared, not
even the database's: one that is set by an hour must not depose a leader that works.

``require`` holds the row until its transaction ends, so that nobody takes it meanwhile, and after
it was taken finds another epoch there. The table is older than every migration: a standby of one
version must be able to read the leader of another.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    insert,
    inspect,
    select,
    text,
    update,
)

from gpusched.domain.errors import NotLeading
from gpusched.store.migrate import make_schema
from gpusched.store.sqlite_file import APPLICATION_ID

ADVISORY_KEY = 0x6770757363686564  # "gpusched": who makes the table; no two at once
_Int64 = BigInteger().with_variant(Integer, "sqlite")

leader = Table(
    "leader",
    MetaData(),
    Column("id", Integer, primary_key=True, autoincrement=False),  # one row, 1
    Column("epoch", _Int64, nullable=False),
    Column("beats", _Int64, nullable=False),  # renewals in this epoch
    Column("holder", Text),  # NULL: nobody; take it at once
    Column("address", Text, nullable=False),
    Column("lease_ms", _Int64, nullable=False),
    Column("trust", Text),  # by which keys the leader is known, for others to compare; NULL: it does not say
)
_row = leader.c
# A head that is stopped while it sends holds the row for as long: the server waits for the rest of a message,
# or of a pipeline, under no timeout. Who locks a row is its xmax (PostgreSQL, "System Columns"), and
# whoever is at work holds a lock on its own number ("pg_locks"). Other roles' sessions may not be ended.
# A leader renews several times in a lease, so it was stopped in a transaction of some age by now; heads that
# stand at the same time take the row in transactions of milliseconds.
_END_WHO_HOLDS = text("""
SELECT pg_terminate_backend(held.pid)
FROM leader
JOIN pg_locks held ON held.locktype = 'transactionid' AND held.transactionid = leader.xmax AND held.granted
JOIN pg_stat_activity session ON session.pid = held.pid AND session.usename = current_user
WHERE epoch = :epoch AND beats = :beats AND holder = :holder
  AND clock_timestamp() - session.xact_start > make_interval(secs => :age_s)
  AND held.pid <> pg_backend_pid()
""")
_LOOK = select(_row.epoch, _row.beats, _row.holder, _row.address, _row.lease_ms, _row.trust)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a head writes of itself when it takes the row."""

    holder: str
    address: str
    lease_s: float
    trust: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """The row as it was read: ``holder`` None, nobody leads."""

    epoch: int
    beats: int
    holder: str | None
    address: str
    lease_s: float
    trust: str | None

    def is_followed_by(self, later: Seen) -> bool:
        """Whether the leader has renewed its lead between these two looks."""
        return (self.epoch, self.holder) == (later.epoch, later.holder) and self.beats < later.beats


def ensure(connection: Connection) -> None:
    """Make the table and its row, unless they are there. A column that came later is added."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_KEY})
        make_schema(connection)
    else:
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
    if not inspect(connection).has_table(leader.name):
        leader.create(connection)
        nobody = {"id": 1, "epoch": 0, "beats": 0, "holder": None, "address": "", "lease_ms": 0}
        connection.execute(insert(leader), nobody)
    elif all(column["name"] != "trust" for column in inspect(connection).get_columns(leader.name)):
        connection.execute(text(f"ALTER TABLE {leader.name} ADD COLUMN trust TEXT"))


def look(connection: Connection) -> Seen:
    """Read the row."""
    epoch, beats, holder, address, lease_ms, trust = connection.execute(_LOOK).one()
    return Seen(epoch, beats, holder, address, lease_ms / 1000, trust)


def take(connection: Connection, seen: Seen, candidate: Candidate) -> int | None:
    """Lead from now on if the row is still as it was seen: the new epoch. None: it has changed.

    A transaction of the old leader that is under way is ended, or has been committed by then.
    """
    if connection.dialect.name == "postgresql" and seen.holder is not None:
        known = {"epoch": seen.epoch, "beats": seen.beats, "holder": seen.holder, "age_s": seen.lease_s / 4}
        connection.execute(_END_WHO_HOLDS, known)
    taken = connection.execute(
        update(leader)
        .where(
            _row.epoch == seen.epoch, _row.beats == seen.beats, _row.holder.is_not_distinct_from(seen.holder)
        )
        .values(
            epoch=seen.epoch + 1,
            beats=0,
            holder=candidate.holder,
            address=candidate.address,
            lease_ms=round(candidate.lease_s * 1000),
            trust=candidate.trust,
        )
    )
    return seen.epoch + 1 if taken.rowcount else None


def renew(connection: Connection, epoch: int, holder: str, trust: str | None) -> None:
    """Show that the leader lives, and by which keys it is known now.

    Raises:
        NotLeading: Another head leads.
    """
    mine = update(leader).where(_row.epoch == epoch, _row.holder == holder)
    if not connection.execute(mine.values(beats=_row.beats + 1, trust=trust)).rowcount:
        raise _deposed(connection, epoch)


def vacate(connection: Connection, epoch: int, holder: str) -> None:
    """Let the next head take over at once; one that leads by now is left alone."""
    mine = update(leader).where(_row.epoch == epoch, _row.holder == holder)
    connection.execute(mine.values(holder=None))


def require(connection: Connection, epoch: int, holder: str) -> None:
    """Let this transaction go on only in one's own epoch, and nobody take over before it has ended.

    The holder is asked for too: a restored database counts epochs again.

    Raises:
        NotLeading: Another head leads; nothing may be written.
    """
    mine = select(_row.id).where(_row.epoch == epoch, _row.holder == holder)
    if connection.scalar(mine.with_for_update(read=True)) is None:
        raise _deposed(connection, epoch)


def _deposed(connection: Connection, epoch: int) -> NotLeading:
    now = look(connection)
    return NotLeading(
        f"this head led in epoch {epoch} and another leads since, in epoch {now.epoch}"
        + (f", at {now.address}" if now.address else ""),
        leader=now.address or None,
    )
