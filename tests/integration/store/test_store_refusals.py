"""Databases that cannot be used: one clear message, and nothing changed."""

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from leading import taken_over
from sqlalchemy import make_url, text
from store_histories import History, answer

from gpusched.domain.errors import ConfigInvalid, GpuschedError, LogCorrupt, NotLeading, StoreUnavailable
from gpusched.domain.ids import JobId, RequestId
from gpusched.store.database import open_store
from gpusched.store.reader import Reader


def url_of(path):
    return f"sqlite:///{path}"


def cut_connections(server):
    """What a restart of the database does to a head."""
    with closing(server.admin()) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'gpusched head%'"
        )


@pytest.mark.parametrize("content", [b"not a database, but long enough to have a header " * 99, b"hello"])
def test_a_file_that_is_no_database_is_refused_and_left_as_it_was(tmp_path, content):
    path = tmp_path / "gpusched.db"
    path.write_bytes(content)
    with pytest.raises(ConfigInvalid, match=r"gpusched\.db is no gpusched database.*restore a backup"):
        open_store(url_of(path))
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_another_programs_database_is_refused_and_left_as_it_was(tmp_path):
    path = tmp_path / "firefox.db"
    with closing(sqlite3.connect(path)) as foreign:
        foreign.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    with pytest.raises(ConfigInvalid, match="another program's SQLite file"):
        open_store(url_of(path))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_database_is_refused(tmp_path):
    path = tmp_path / "gpusched.db"
    open_store(url_of(path)).close()
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    with pytest.raises(GpuschedError, match=r"gpusched\.db"):
        open_store(url_of(path))


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigInvalid, match="nowhere is not a directory; make it"):
        open_store(url_of(tmp_path / "nowhere" / "gpusched.db"))


def test_a_directory_in_place_of_the_file_is_refused(tmp_path):
    with pytest.raises(GpuschedError, match=str(tmp_path)):
        open_store(url_of(tmp_path))


def test_the_file_is_private_to_its_owner(tmp_path):
    path = tmp_path / "gpusched.db"
    history = History()
    with open_store(url_of(path)) as store:
        store.commit(history.batch(history.submitted()))
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_server_that_is_not_there_is_named_without_the_password():
    url = "postgresql+psycopg://ada:hunter2@127.0.0.1:1/db"
    with pytest.raises(StoreUnavailable, match=r"postgresql\+psycopg://ada@127.0.0.1:1/db") as refused:
        open_store(url)
    assert "hunter2" not in str(refused.value)
    assert str(refused.value).endswith("; start it, or mend store.url")
    with Reader(url) as reader, pytest.raises(StoreUnavailable) as refused:
        reader.last_seq()
    assert "hunter2" not in str(refused.value)


def test_a_database_that_is_not_there_is_to_be_created(postgres_server):
    with pytest.raises(StoreUnavailable, match=r'"nowhere" does not exist; create it, or mend store\.url$'):
        open_store(postgres_server.url("nowhere"))


def test_a_lost_connection_is_unavailable_and_the_store_recovers_by_loading_again(
    postgres_server, postgres_url
):
    history = History()
    with open_store(postgres_url) as store:
        store.commit(history.batch(history.submitted(), requests=(answer("r1", 1),)))
        cut_connections(postgres_server)
        with pytest.raises(StoreUnavailable, match="does not answer or refuses"):
            store.commit(history.batch(history.submitted()))
        assert store.load().last_seq == 1
        assert store.find_requests([("uid:1000", RequestId("r1"))]) != ()


def test_a_head_that_lost_its_connection_cannot_write_once_another_has_taken_over(
    postgres_server, postgres_url
):
    history = History()
    with open_store(postgres_url) as first:
        first.commit(history.batch(history.submitted()))
        cut_connections(postgres_server)
        with taken_over(postgres_url) as second:
            late = history.batch(history.submitted())
            with pytest.raises(StoreUnavailable):  # its connection is gone
                first.commit(late)
            with pytest.raises(NotLeading):
                first.commit(late)
            assert second.load().last_seq == 1


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("DELETE FROM events WHERE seq = 2", "log ends at seq 1, its projections at 2"),
        ("UPDATE jobs SET body = '{}' WHERE job_id = 1", "job that cannot be read"),
    ],
)
def test_projections_that_contradict_the_log_or_cannot_be_read_are_not_loaded(tmp_path, damage, said):
    path, history = tmp_path / "gpusched.db", History()
    with open_store(url_of(path)) as store:
        store.commit(history.batch(history.submitted(), history.submitted(ahead=1)))
    with closing(sqlite3.connect(path)) as other:
        other.execute(damage)
        other.commit()
    with open_store(url_of(path)) as store, pytest.raises(LogCorrupt, match=said):
        store.load()


def test_an_allocation_without_its_job_is_refused_whole(tmp_path):
    history = History()
    with open_store(url_of(tmp_path / "gpusched.db")) as store:
        store.commit(history.batch(history.submitted()))
        batch = history.batch(history.allocated(1))
        broken = type(batch)(events=batch.events, next_job_id=JobId(2))
        with pytest.raises(LogCorrupt, match="allocates job 1 without its projection"):
            store.commit(broken)
        assert store.load().last_seq == 1


def test_loading_waits_for_a_commit_whose_connection_was_lost(postgres_server, postgres_url):
    with (
        open_store(postgres_url) as store,
        ThreadPoolExecutor() as pool,
        closing(postgres_server.admin()) as admin,
    ):
        with psycopg.connect(
            host=str(postgres_server.socket_dir), user="postgres", dbname=make_url(postgres_url).database
        ) as unheard:
            unheard.execute("UPDATE gpusched.counters SET next_job_id = 7")
            loading = pool.submit(store.load)
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            while not loading.done() and admin.execute(waiting).fetchone() == (0,):
                pass
            unheard.commit()
        assert loading.result(30).next_job_id == 7


def test_a_server_that_answers_before_its_disk_is_made_to_wait(postgres_server, postgres_url):
    name = make_url(postgres_url).database
    with closing(postgres_server.admin()) as admin:
        admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    with open_store(postgres_url) as store, store._transaction() as connection:
        assert connection.scalar(text("SHOW synchronous_commit")) == "on"
    with closing(postgres_server.admin()) as admin:
        admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = remote_apply")
    with open_store(postgres_url) as store, store._transaction() as connection:
        assert connection.scalar(text("SHOW synchronous_commit")) == "remote_apply"
