"""A head killed between two instructions loses nothing that it had acknowledged."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from leading import taken_over
from store_histories import History

from gpusched.domain.errors import StoreUnavailable
from gpusched.domain.ids import JobId
from gpusched.store.database import open_store

JOBS_PER_BATCH = 7
WRITER = Path(__file__).with_name("writer_process.py")
TESTS = Path(__file__).parents[2]


@contextmanager
def writer(url):
    path = [str(TESTS.parent / "src"), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    process = subprocess.Popen(
        [sys.executable, WRITER, url], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def acknowledged(process, acks):
    """Read so many acknowledgements; the writer goes on meanwhile."""
    last = 0
    for _ in range(acks):
        last = int(process.stdout.readline())
    return last


@pytest.mark.parametrize("acks", [1, 2, 13, 60])
def test_kill_9_in_the_middle_of_commits_loses_no_acknowledged_batch(store_url, acks):
    with writer(store_url) as process:
        last = acknowledged(process, acks)
        process.kill()
        last = max([last, *map(int, process.stdout.read().split("\n")[:-1])])
        process.wait()
    with taken_over(store_url) as store:
        loaded = store.load()
        assert loaded.last_seq >= last
        assert loaded.last_seq % JOBS_PER_BATCH == 0, "half a batch was written"
        assert [job.job_id for job in loaded.jobs] == list(range(1, loaded.last_seq + 1))
        assert loaded.next_job_id == loaded.last_seq + 1
        history = History()
        history.state.last_seq, history.state.next_job_id = loaded.last_seq, loaded.next_job_id
        store.commit(history.batch(history.submitted()))
        assert store.load().jobs[-1].job_id == JobId(loaded.last_seq + 1)


def test_a_second_head_is_refused_while_the_first_lives_and_let_in_once_it_is_killed(store_url):
    with writer(store_url) as process:
        acknowledged(process, 1)
        with pytest.raises(StoreUnavailable, match=f"in use by another head .*{process.pid}.*stop that one"):
            open_store(store_url)
        acknowledged(process, 1)
        process.kill()
        process.wait()
        with taken_over(store_url) as store:
            assert store.load().last_seq >= 2 * JOBS_PER_BATCH


def test_a_second_head_in_the_same_process_is_refused_too(store_url):
    with open_store(store_url), pytest.raises(StoreUnavailable, match="in use by another head"):
        open_store(store_url)
    open_store(store_url).close()
