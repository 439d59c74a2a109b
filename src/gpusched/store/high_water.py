"""How far this head has seen its database, in a small file of its home: the database may be restored."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from sqlalchemy import Connection, inspect, select, true

from gpusched.domain.errors import ConfigInvalid, LogCorrupt
from gpusched.domain.history import History, Mark, Term
from gpusched.domain.ids import JobId
from gpusched.store import schema
from gpusched.store.codec import Codec, encode

BYTES = 256  # one write within one page: it is there whole or not at all, however the head is killed
_MARK: Codec[Mark] = Codec(Mark, "mark")

# One statement, so one instant: a term that began between two would make a mark that no history has.
_LOOK = (
    select(
        schema.counters.c.last_seq,
        schema.counters.c.next_job_id,
        schema.terms.c.epoch,
        schema.terms.c.token,
        schema.terms.c.first_seq,
    )
    .join_from(schema.counters, schema.terms, true())
    .order_by(schema.terms.c.epoch)
)


class HighWater:
    """Keeps the newest mark. Survives the head, and a crash of the machine but for its last seconds.

    Args:
        path: The file; made with the first mark.

    Raises:
        ConfigInvalid: It can be neither made nor written, or holds something else.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigInvalid(f"{path}: {error.strerror}: let this user write it") from error
        text = os.pread(self._file, BYTES, 0).decode(errors="replace").strip()
        try:
            self.mark = _MARK.decode(text) if text else None
        except LogCorrupt as error:
            raise ConfigInvalid(f"{path} is damaged: remove it to begin without a memory") from error

    def keep(self, mark: Mark) -> None:
        """Replace the mark."""
        self.mark = mark
        os.pwrite(self._file, encode(mark).ljust(BYTES).encode(), 0)

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def __enter__(self) -> HighWater:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Memory:
    """What a head knows of its database from elsewhere.

    Attributes:
        high_water: How far it has seen it; None: nobody remembers.
        accepts_loss: Whether an operator has said that what is missing will not come back.
    """

    high_water: HighWater | None = None
    accepts_loss: bool = False

    @property
    def mark(self) -> Mark | None:
        """How far this head has seen the database, whatever that holds now."""
        return None if self.high_water is None else self.high_water.mark

    def keep(self, mark: Mark | None) -> None:
        """Remember it."""
        if self.high_water is not None and mark is not None and mark != self.high_water.mark:
            self.high_water.keep(mark)


def read_history(connection: Connection, memory: Memory) -> tuple[History, Mark | None]:
    """What a head with this memory makes of the database, and how far it goes now.

    Those who stand by read this of the leader's database, which may be of the version before: the columns of
    ``counters`` and ``terms`` that stand in ``_LOOK`` must stay.
    """
    rows = connection.execute(_LOOK).all()
    if not rows:
        return History(), None
    last_seq = rows[0].last_seq
    terms = [Term(row.epoch, row.token, row.first_seq) for row in rows]
    history = History.of(terms, last_seq, memory.mark, accepts_loss=memory.accepts_loss)
    return history, history.mark(last_seq, JobId(rows[0].next_job_id))


def follow(connection: Connection, memory: Memory) -> bool:
    """Remember, while standing by, how far the leader has come. Writes nothing to the database.

    What the database has lost stays remembered.

    Returns:
        Whether this head has seen more than the database holds.
    """
    if memory.high_water is None or not inspect(connection).has_table(schema.terms.name):
        return False  # no leader of this version has been here yet
    history, mark = read_history(connection, memory)
    if not history.is_behind:
        memory.keep(mark)
    return history.is_behind
