"""Which history of the cluster somebody has seen: what shows that a database went back in time.

Each lead of a head is a *term* with a token of its own. A restored backup, or a replica that lost
commits, ends a term earlier than those who lived through it remember, or does not know it at all;
and it stays so however far the log goes on from there. (Raft matches logs in this way.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gpusched.domain.ids import AttemptId, JobId

IDS_UNSEEN = 100_000
"""As many may have been handed out since somebody was last told: more than a leader accepts in seconds."""


@dataclass(frozen=True, slots=True)
class Term:
    """One lead of one head. Its events begin with ``first_seq``, and end before the next term's."""

    epoch: int
    token: str
    first_seq: int


@dataclass(frozen=True, slots=True)
class Mark:
    """How far somebody has seen: up to event ``seq`` of a term, and ids below ``next_job_id`` handed out."""

    epoch: int
    token: str
    seq: int
    next_job_id: JobId

    @property
    def unused_job_id(self) -> JobId:
        """An id that nobody was given, though this mark be a while old."""
        return JobId(self.next_job_id + IDS_UNSEEN)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a node knows that the database does not: attempts that it holds, and ids handed out."""

    attempts: tuple[AttemptId, ...]
    next_job_id: JobId


@dataclass(frozen=True, slots=True)
class History:
    """The terms of a database, oldest first. Without any nothing can be missed."""

    terms: tuple[Term, ...] = ()
    is_behind: bool = False  # its head has seen more of it
    accepts_loss: bool = False  # an operator has said that what is missing will not come back

    @classmethod
    def of(cls, terms: Iterable[Term], last_seq: int, seen: Mark | None, *, accepts_loss: bool) -> History:
        """What a head makes of a database that ends with ``last_seq``, having ``seen`` one."""
        history = cls(tuple(terms), accepts_loss=accepts_loss)
        is_behind = seen is not None and not history.knows(seen, last_seq)
        return cls(history.terms, is_behind and not accepts_loss, accepts_loss)

    def knows(self, mark: Mark, last_seq: int) -> bool:
        """Whether all that ``mark`` saw is in this history, which ends with ``last_seq``."""
        if not self.terms:
            return True
        for term, following in zip(self.terms, (*self.terms[1:], None), strict=True):
            if (term.epoch, term.token) == (mark.epoch, mark.token):
                return mark.seq <= (last_seq if following is None else following.first_seq - 1)
        return False

    def mark(self, last_seq: int, next_job_id: JobId) -> Mark | None:
        """How far one has seen who has seen all of it."""
        if not self.terms:
            return None
        now = self.terms[-1]
        return Mark(now.epoch, now.token, last_seq, next_job_id)
