"""Who leads on PostgreSQL: one at a time, and what a deposed head does comes to nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from leading import LEASE_S, HandClock, candidate, taken_over
from postgres import PostgresServer
from sqlalchemy import Connection, Engine, event, text
from store_histories import History
from witness import connect, count_writes, watch_writes

from benchmarks.cluster import until
from gpusched.domain.errors import NotLeading, StoreUnavailable
from gpusched.store import leader_row
from gpusched.store.connections import parse_url, writer_engine
from gpusched.store.database import SqlStore, open_store
from gpusched.store.high_water import HighWater, Memory
from gpusched.store.leadership import CLOCK_DRIFT, Leadership
from gpusched.store.reader import Reader


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@contextmanager
def two_heads(url: str, clock: HandClock) -> Iterator[tuple[Leadership, Leadership]]:
    """One that leads and one that has looked once."""
    with candidate(url, clock) as first, candidate(url, clock) as second:
        assert first.stand("first:1")
        assert not second.stand("second:1")
        yield first, second


def silence(clock: HandClock) -> None:
    clock.sleep(LEASE_S * (1 + CLOCK_DRIFT) + 0.001)


def last_seq(url: str) -> int:
    with Reader(url) as reader:
        return reader.last_seq()


def test_one_of_many_that_stand_at_once_leads(postgres_url: str, clock: HandClock) -> None:
    heads = [candidate(postgres_url, clock) for _ in range(6)]
    try:
        with ThreadPoolExecutor(len(heads)) as pool:
            for _ in range(5):
                won = list(pool.map(lambda head: head.stand("here"), heads))
                assert sum(head.holds() for head in heads) == 1, won
                clock.sleep(0.5)
                next(head for head in heads if head.holds()).renew()
    finally:
        for head in heads:
            head.close()


def test_a_leader_that_renews_stays_and_one_that_does_not_is_deposed(
    postgres_url: str, clock: HandClock
) -> None:
    with two_heads(postgres_url, clock) as (first, second):
        for _ in range(5):
            clock.sleep(LEASE_S / 2)
            first.renew()
            assert not second.stand("second:1")
        assert second.leader == "first:1"
        silence(clock)
        assert second.stand("second:1")
        assert second.epoch == first.epoch + 1
        with pytest.raises(NotLeading) as lost:
            first.renew()
        assert lost.value.leader == "second:1"


def test_a_leader_stops_promising_before_another_can_lead(postgres_url: str, clock: HandClock) -> None:
    with two_heads(postgres_url, clock) as (first, second):
        while not second.stand("second:1"):
            still_held = first.holds()
            clock.sleep(0.05)
        assert not still_held
        assert second.holds()


def test_the_wait_is_as_long_as_the_leader_asked_for(postgres_url: str, clock: HandClock) -> None:
    with (
        candidate(postgres_url, clock, lease_s=60.0) as slow,
        candidate(postgres_url, clock, lease_s=1.0) as quick,
    ):
        assert slow.stand("slow:1")
        assert not quick.stand("quick:1")
        clock.sleep(59.0)
        assert not quick.stand("quick:1")
        clock.sleep(2.0)
        assert quick.stand("quick:1")


def test_an_outage_of_the_database_deposes_nobody(
    postgres_server, postgres_url: str, clock: HandClock
) -> None:
    with two_heads(postgres_url, clock) as (first, second):
        with closing(postgres_server.admin()) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'gpusched%'"
            )
        with pytest.raises(StoreUnavailable):
            second.stand("second:1")
        silence(clock)
        assert not second.stand("second:1")  # as if it had never looked before
        with pytest.raises(StoreUnavailable):
            first.renew()
        first.renew()
        assert first.holds()


def test_the_next_life_of_a_head_leads_at_once(postgres_url: str, clock: HandClock) -> None:
    with candidate(postgres_url, clock, holder="one lock") as first:
        assert first.stand("here")
        with candidate(postgres_url, clock, holder="one lock") as again:
            assert again.stand("here")
            assert again.epoch == first.epoch + 1
            with pytest.raises(NotLeading):
                first.renew()


def test_a_head_that_ends_in_order_is_followed_at_once(postgres_url: str, clock: HandClock) -> None:
    with candidate(postgres_url, clock) as first, candidate(postgres_url, clock) as second:
        assert first.stand("first:1")
        first.close()
        assert second.stand("second:1")
        first.close()
        assert second.holds()
        second.renew()


# ── what the deposed one writes ──────────────────────────────────────────────────────────


def test_a_deposed_head_writes_and_reads_nothing_by_any_method(postgres_url: str, clock: HandClock) -> None:
    history = History()
    with two_heads(postgres_url, clock) as (first, second), open_store(postgres_url, first) as stale:
        stale.commit(history.batch(history.submitted()))
        late = history.batch(history.submitted())
        silence(clock)
        assert second.stand("second:1")
        for write in (lambda: stale.commit(late), stale.load, lambda: stale.find_requests([])):
            with pytest.raises(NotLeading, match="another leads since, in epoch 2, at second:1"):
                write()
        with pytest.raises(NotLeading):
            open_store(postgres_url, first)
        assert last_seq(postgres_url) == 1
        with open_store(postgres_url, second) as store:
            store.commit(late)
    assert last_seq(postgres_url) == 2


def test_a_commit_that_is_under_way_when_another_takes_over_comes_to_nothing(
    postgres_url: str, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    history = History()
    entered, go_on = threading.Event(), threading.Event()
    with (
        two_heads(postgres_url, clock) as (first, second),
        open_store(postgres_url, first) as store,
        ThreadPoolExecutor(1) as pool,
    ):
        write = store._writer.write

        def slow_write(*args: object) -> None:
            entered.set()
            assert go_on.wait(60)
            write(*args)  # type: ignore[arg-type]

        monkeypatch.setattr(store._writer, "write", slow_write)
        committing = pool.submit(store.commit, history.batch(history.submitted()))
        assert entered.wait(60)
        silence(clock)
        assert second.stand("second:1")
        go_on.set()
        with pytest.raises(StoreUnavailable):
            committing.result(60)
        with pytest.raises(NotLeading):
            store.commit(history.batch(history.submitted()))
    assert last_seq(postgres_url) == 0


def test_a_leader_stopped_between_two_statements_holds_nobody_up(postgres_url: str, clock: HandClock) -> None:
    with two_heads(postgres_url, clock) as (first, second):
        engine = writer_engine(parse_url(postgres_url), name="test")
        with engine.connect() as stopped:
            first.require(stopped)  # and nothing more is heard of it
            until_old(stopped, postgres_url)
            silence(clock)
            assert second.stand("second:1")
            with pytest.raises(Exception, match=r"terminating connection|closed"):
                stopped.execute(text("SELECT 1"))
            stopped.invalidate()
        engine.dispose()


def test_a_leader_stopped_in_the_middle_of_a_pipeline_holds_nobody_up(
    postgres_url: str, clock: HandClock
) -> None:
    """To the server such a session is at work: no timeout for idle ones ends it."""
    with two_heads(postgres_url, clock) as (first, second):
        engine = writer_engine(parse_url(postgres_url), name="test")
        with engine.connect() as stopped, closing(connect(postgres_url)) as watcher:
            first.require(stopped)
            driver = stopped.connection.driver_connection
            assert driver is not None
            pipeline = driver.pipeline()
            pipeline.__enter__()
            driver.execute("SELECT 1")
            state = "SELECT state, wait_event FROM pg_stat_activity WHERE pid = %s"
            while watcher.execute(state, (driver.info.backend_pid,)).fetchone() != ("active", "ClientRead"):
                driver.pgconn.flush()
            until_old(stopped, postgres_url)
            silence(clock)
            assert second.stand("second:1")
            stopped.invalidate()
        engine.dispose()


def test_a_session_of_another_role_is_waited_for(postgres_url: str, clock: HandClock) -> None:
    """It may not be ended by us; it ends by itself when it has been idle for too long."""
    with two_heads(postgres_url, clock) as (_, second), closing(connect(postgres_url)) as other:
        other.execute("CREATE ROLE somebody SUPERUSER LOGIN")
        try:
            with psycopg.connect(postgres_url.replace("+psycopg", ""), user="somebody") as holding:
                holding.execute("SET idle_in_transaction_session_timeout TO 200")
                holding.commit()
                holding.execute("SELECT * FROM gpusched.leader FOR SHARE")
                silence(clock)
                assert second.stand("second:1")
                with pytest.raises(psycopg.Error, match=r"idle-in-transaction|closed"):
                    holding.execute("SELECT 1")
        finally:
            other.execute("DROP ROLE somebody")


def until_old(stopped: Connection, url: str) -> None:
    """Until its transaction has gone on for as long as that of a leader that was stopped."""
    driver = stopped.connection.driver_connection
    assert driver is not None
    age = "SELECT extract(epoch FROM clock_timestamp() - xact_start) FROM pg_stat_activity WHERE pid = %s"
    with closing(connect(url)) as watcher:

        def is_old() -> bool:
            row = watcher.execute(age, (driver.info.backend_pid,)).fetchone()
            return row is not None and row[0] > LEASE_S / 3

        until(is_old, "the transaction to be old")


def live(url: str, leadership: Leadership, clock: HandClock, enough: threading.Event) -> int:
    """Lead, commit, and go on committing after the lead was lost; how often that was refused."""
    refused = 0
    while not enough.wait(0.05):  # the other one is to get something done
        clock.sleep(LEASE_S)
        if not leadership.stand("here"):
            continue
        with suppress(NotLeading), open_store(url, leadership) as store:
            refused += _commit_until_refused(store, enough)
    return refused


def _commit_until_refused(store: SqlStore, enough: threading.Event) -> int:
    history, loaded = History(), store.load()
    history.state.last_seq, history.state.next_job_id = loaded.last_seq, loaded.next_job_id
    while not enough.is_set():
        try:
            store.commit(history.batch(history.submitted()))
        except NotLeading:
            return 1
        except StoreUnavailable:  # the next leader ended it: the next try tells why
            continue
    return 0


def test_a_trigger_sees_no_write_of_a_head_that_does_not_lead(postgres_url: str, clock: HandClock) -> None:
    enough = threading.Event()
    open_store(postgres_url).close()
    watch_writes(postgres_url)
    with (
        candidate(postgres_url, clock) as first,
        candidate(postgres_url, clock) as second,
        ThreadPoolExecutor(2) as pool,
    ):
        lives = [pool.submit(live, postgres_url, head, clock, enough) for head in (first, second)]
        try:
            until(lambda: count_writes(postgres_url)[0] > 2_000, "many writes")
        finally:
            enough.set()
        assert sum(each.result(60) for each in lives) > 3
    assert count_writes(postgres_url)[1] == 0


def test_the_trigger_would_see_it(
    postgres_url: str, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leader_row, "require", lambda connection, epoch, holder: None)
    history = History()
    with two_heads(postgres_url, clock) as (first, second), open_store(postgres_url, first) as stale:
        watch_writes(postgres_url)
        silence(clock)
        assert second.stand("second:1")
        stale.commit(history.batch(history.submitted()))
    assert count_writes(postgres_url)[1] > 0


def test_who_stands_by_follows_what_is_committed_and_keeps_it_when_it_is_gone(
    postgres_server: PostgresServer, postgres_url: str, clock: HandClock, tmp_path: Path
) -> None:
    history = History()
    with (
        HighWater(tmp_path / "first") as of_first,
        HighWater(tmp_path / "second") as of_second,
        candidate(postgres_url, clock) as first,
        candidate(postgres_url, clock, memory=Memory(of_second)) as second,
    ):
        assert first.stand("first:1")
        assert not second.stand("second:1")  # before there are tables
        with open_store(postgres_url, first, Memory(of_first)) as store:
            store.load()
            watch_writes(postgres_url)
            store.commit(history.batch(history.submitted()))
            backup = postgres_server.dump(postgres_url)
            for _ in range(3):
                store.commit(history.batch(history.submitted()))
                before = count_writes(postgres_url)
                assert not second.stand("second:1")
                assert count_writes(postgres_url) == before
                assert of_second.mark == of_first.mark
                assert not second.is_behind
        postgres_server.restore(postgres_url, backup)
        assert not second.stand("second:1")
        assert second.is_behind
        assert of_second.mark == of_first.mark
        silence(clock)
        assert second.stand("second:1")
        with open_store(postgres_url, second, Memory(of_second)) as store:
            loaded = store.load()
        assert loaded.history.is_behind
        assert loaded.next_job_id > history.state.next_job_id


def test_a_head_killed_in_the_lead_is_followed(postgres_url: str) -> None:
    with open_store(postgres_url) as dead:  # nobody renews its lead
        history = History()
        dead.commit(history.batch(history.submitted()))
        with taken_over(postgres_url) as store:
            assert store.load().last_seq == 1


WHO_HOLDS_THE_ROW = "SELECT count(*) FROM pg_locks WHERE relation = 'gpusched.leader'::regclass"


def test_a_long_load_hinders_no_renewal_and_is_not_ended_by_the_server(postgres_url: str) -> None:
    """Decoding a long queue took longer than a session may idle, and held the leader's row meanwhile."""
    history, seen = History(), list[tuple[object, object]]()

    def look(connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if "FROM jobs" in statement:
            with closing(connect(postgres_url)) as other:
                held = other.execute(WHO_HOLDS_THE_ROW).fetchone()
            limit = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar()
            seen.append((held, limit))

    with taken_over(postgres_url) as store:
        store.commit(history.batch(history.submitted()))
        event.listen(Engine, "before_cursor_execute", look)
        try:
            loaded = store.load()
        finally:
            event.remove(Engine, "before_cursor_execute", look)
        assert len(loaded.jobs) == 1
        assert set(seen) == {((0,), "0")}
