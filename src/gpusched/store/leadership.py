"""The right to write a database: had by one head at a time, and lost by one that fell silent.

SQLite: an exclusive lock on a file beside the database; a second head is refused. PostgreSQL: a
lease (``leader_row.py``), so that a second head can stand by and take over. Either way the leader
has an epoch that no other head had or will have, and every write transaction asks for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from types import TracebackType

from sqlalchemy import Connection, Engine

from gpusched.domain.errors import GpuschedError, NotLeading
from gpusched.store import high_water, leader_row
from gpusched.store.connections import file_of, parse_url, place_of, store_errors, writer_engine
from gpusched.store.high_water import Memory
from gpusched.store.leader_row import Candidate, Seen
from gpusched.store.sqlite_file import claim_file

CLOCK_DRIFT = 0.01
"""How much faster one machine's clock may run than another's; both sides of a lease allow for it."""


def boot_time_s() -> float:
    """Seconds of CLOCK_BOOTTIME: it goes on while the machine is suspended, and nobody sets it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Leadership:
    """One head's standing on one database. Blocking; one thread at a time, but any may ask ``holds``.

    Args:
        url: As of ``open_store``.
        holder: Names a lock that this process holds: whoever holds it later has outlived this one.
        lease_s: How long this head may fall silent, once it leads, before another takes over.
        memory: Of how far this head has seen the database; it follows the leader while standing by.
        trust: By which keys this head is known just now, for others to compare with theirs.
        clock_s: A monotonic clock, in seconds.

    Attributes:
        lease_s: As given.
        leaders_trust: The same of the leader; None: it does not say, or has not shown yet that it lives.
        is_behind: Whether the database, when this head last looked, lacked what it has seen.
        leader: Address of the head that led when this one last looked; None: nobody did.

    Raises:
        ConfigInvalid: The URL names no database that gpusched can use.
        StoreUnavailable: It does not answer; for SQLite: another head has it.
    """

    def __init__(
        self,
        url: str,
        *,
        holder: str,
        lease_s: float,
        memory: Memory | None = None,
        trust: Callable[[], str | None] = lambda: None,
        clock_s: Callable[[], float] = boot_time_s,
    ) -> None:
        self.lease_s, self.is_behind = lease_s, False
        self._memory, self._trust = memory or Memory(), trust
        self.leaders_trust: str | None = None
        self._holder, self._clock_s = holder, clock_s
        self._epoch: int | None = None
        self._why_not = "this head does not lead"
        self._deadline_s = 0.0
        self._seen: tuple[Seen, float] | None = None  # the last look that showed news, and when it was over
        self.leader: str | None = None
        parsed = parse_url(url)
        self._place = place_of(parsed)
        self._is_alone = parsed.get_backend_name() == "sqlite"
        with ExitStack() as stack:
            if self._is_alone:
                stack.enter_context(claim_file(file_of(parsed)))
            self._engine: Engine = writer_engine(parsed, name="lease")
            stack.callback(self._engine.dispose)
            with self._transaction() as connection:
                leader_row.ensure(connection)
            self._must_ensure = False
            self._held = stack.pop_all()

    @property
    def epoch(self) -> int:
        """Of this head's lead.

        Raises:
            NotLeading: It does not lead.
        """
        if self._epoch is None:
            raise NotLeading(self._why_not, leader=self.leader)
        return self._epoch

    def stand(self, address: str) -> bool:
        """Take the lead if it is free: vacant, held by this head's own former life, or not renewed in time.

        A leader is given its whole lease from the first of this head's looks that shows its newest
        renewal; a look that fails starts that wait again, so an outage of the database deposes nobody.

        Args:
            address: Where clients and agents find this head when it leads.

        Raises:
            StoreUnavailable: The database does not answer.
        """
        asked_s = self._clock_s()
        candidate = Candidate(self._holder, address, self.lease_s, self._trust())
        try:
            with self._transaction() as connection:
                if self._must_ensure:  # it may be another database by now
                    leader_row.ensure(connection)
                seen = leader_row.look(connection)
                if self._is_free(seen):
                    self._epoch = leader_row.take(connection, seen, candidate)
                if self._epoch is None:
                    self.is_behind = high_water.follow(connection, self._memory)
        except GpuschedError:
            self._seen = self._epoch = None
            self._must_ensure = True
            raise
        self._must_ensure = False
        if self._epoch is not None:
            self._deadline_s = asked_s + self.lease_s * (1 - CLOCK_DRIFT)
            self.leader = address
            return True
        if self._seen is not None and self._seen[0].is_followed_by(seen):
            self.leaders_trust = seen.trust
        if self._seen is None or self._seen[0] != seen:
            self._seen = seen, self._clock_s()
        self.leader = None if seen.holder is None else seen.address
        return False

    def renew(self) -> None:
        """Tell the others, if there can be any, that this head lives.

        Raises:
            NotLeading: Another has taken over.
            StoreUnavailable: The database does not answer; the lease runs on meanwhile.
        """
        if self._is_alone:
            return
        asked_s = self._clock_s()
        with self.checked(), self._transaction() as connection:
            leader_row.renew(connection, self.epoch, self._holder, self._trust())
        self._deadline_s = asked_s + self.lease_s * (1 - CLOCK_DRIFT)

    def holds(self) -> bool:
        """Whether no other head can lead yet: ask it before a promise that no transaction guards."""
        return self._epoch is not None and (self._is_alone or self._clock_s() < self._deadline_s)

    def require(self, connection: Connection) -> None:
        """Begin a write: it is committed under this head's lead or not at all.

        Raises:
            NotLeading: Another head leads.
        """
        with self.checked():
            leader_row.require(connection, self.epoch, self._holder)

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Step down if it turns out inside that another leads."""
        try:
            yield
        except NotLeading as error:
            self._why_not, self.leader, self._epoch = str(error), error.leader, None
            raise

    def close(self) -> None:
        """Let the next head in at once. One that cannot be told waits out the lease."""
        with self._held:
            if self._epoch is not None:
                with suppress(GpuschedError), self._transaction() as connection:
                    leader_row.vacate(connection, self._epoch, self._holder)
                self._epoch = None

    def __enter__(self) -> Leadership:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _is_free(self, seen: Seen) -> bool:
        if self._is_alone or seen.holder in (None, self._holder):
            return True
        if self._seen is None or self._seen[0] != seen:
            return False
        return self._clock_s() - self._seen[1] > seen.lease_s * (1 + CLOCK_DRIFT)

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with store_errors(self._place), self._engine.begin() as connection:
            yield connection
