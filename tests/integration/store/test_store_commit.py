"""What the store promises the engine, on SQLite and on PostgreSQL."""

from dataclasses import replace

import pytest
from store_histories import History, answer, node_facts

from gpusched.domain.commands import LaunchTasks
from gpusched.domain.errors import LogCorrupt
from gpusched.domain.events import NodeJoined, NodeLost, Recorded
from gpusched.domain.history import History as Terms
from gpusched.domain.ids import JobId, NodeName, RequestId
from gpusched.domain.job import JobFilter
from gpusched.engine.ports import Batch, Loaded
from gpusched.store.database import SqlStore, open_store
from gpusched.store.reader import Reader


def loaded(store: SqlStore) -> Loaded:
    """What it holds of jobs and nodes; its terms are of its openings."""
    return replace(store.load(), history=Terms())


EMPTY = Loaded(jobs=(), nodes=(), outbox=(), last_seq=0, last_command_seq=0, next_job_id=JobId(1))


def contents(url):
    with Reader(url) as reader:
        return reader.events(0, limit=1000), reader.jobs(JobFilter(), 1000), reader.last_seq()


def test_a_new_store_is_empty_and_hands_out_job_1_first(store_url):
    with open_store(store_url) as store:
        assert loaded(store) == EMPTY


def test_an_empty_batch_changes_nothing(store_url):
    with open_store(store_url) as store:
        store.commit(Batch(next_job_id=JobId(1)))
        assert loaded(store) == EMPTY


def test_a_committed_job_is_there_after_reopening(store_url):
    history = History()
    with open_store(store_url) as store:
        store.commit(history.batch(history.submitted()))
    with open_store(store_url) as store:
        loaded = store.load()
    assert loaded.jobs == (history.state.jobs[JobId(1)],)
    assert (loaded.last_seq, loaded.next_job_id) == (1, 2)


def test_an_ended_job_is_not_loaded_and_its_id_is_not_reused(store_url):
    history = History()
    with open_store(store_url) as store:
        store.commit(history.batch(history.submitted()))
        store.commit(history.batch(history.cancelled(1)))
    with open_store(store_url) as store:
        loaded = store.load()
    assert (loaded.jobs, loaded.next_job_id) == ((), 2)


@pytest.mark.parametrize("wrong_seq", [1, 2, 4], ids=["repeated", "overlapping", "after a gap"])
def test_a_batch_that_does_not_continue_the_log_writes_nothing(store_url, wrong_seq):
    history = History()
    with open_store(store_url) as store:
        store.commit(history.batch(history.submitted(), history.submitted(ahead=1)))
        before = contents(store_url)
        batch = history.batch(history.submitted())
        wrong = replace(batch, events=(replace(batch.events[0], seq=wrong_seq),))
        with pytest.raises(LogCorrupt, match=f"has seq {wrong_seq}, but the log goes on at 3"):
            store.commit(wrong)
        assert contents(store_url) == before
        store.commit(batch)
        assert store.load().last_seq == 3


def test_a_gap_inside_a_batch_writes_nothing(store_url):
    history = History()
    batch = history.batch(history.submitted(), history.submitted(ahead=1))
    with open_store(store_url) as store:
        with pytest.raises(LogCorrupt, match="log goes on at 2"):
            store.commit(replace(batch, events=(batch.events[0], replace(batch.events[1], seq=3))))
        assert loaded(store) == EMPTY


def test_a_job_id_or_command_seq_cannot_be_handed_out_twice(store_url):
    history = History()
    with open_store(store_url) as store:
        store.commit(history.batch(history.submitted()))
        granted = history.batch(history.allocated(1))
        store.commit(granted)
        with pytest.raises(LogCorrupt, match="job id 1 would be handed out again"):
            store.commit(Batch(next_job_id=JobId(1)))
        with pytest.raises(LogCorrupt, match="command seq 1 was used before"):
            store.commit(Batch(queued=granted.queued, next_job_id=JobId(2)))


def test_a_batch_that_fails_at_its_last_row_writes_nothing(store_url):
    history = History()
    with open_store(store_url) as store:
        store.commit(history.batch(history.submitted(), requests=(answer("r1", 1),)))
        before = contents(store_url)
        with pytest.raises(LogCorrupt, match="contradiction"):
            store.commit(history.batch(history.submitted(), requests=(answer("r1", 2),)))
        assert contents(store_url) == before


def test_a_node_lost_without_having_joined_writes_nothing(store_url):
    lost = Recorded(1, 5, NodeLost(node=NodeName("n0"), detail="silent"))
    with open_store(store_url) as store:
        with pytest.raises(LogCorrupt, match="n0 at seq 1, which never joined"):
            store.commit(Batch(events=(lost,), next_job_id=JobId(1)))
        assert loaded(store) == EMPTY


def test_a_thousand_nodes_join_and_are_lost_at_once(store_url):
    history, names = History(), [NodeName(f"n{n}") for n in range(1000)]
    with open_store(store_url) as store, Reader(store_url) as reader:
        store.commit(history.batch(*(NodeJoined(node=name, facts=node_facts(name)) for name in names)))
        store.commit(history.batch(*(NodeLost(node=name, detail="power") for name in names)))
        assert len(store.load().nodes) == 1000
        spans = reader.node_spans(0, 10**18)
    assert sum(span.end_us is None and not span.is_up for span in spans) == 1000
    assert sum(span.end_us is not None and span.is_up for span in spans) == 1000


def test_an_answered_request_is_found_again_after_reopening(store_url):
    history, record = History(), answer("r1", 1)
    with open_store(store_url) as store:
        assert store.find_requests([("uid:1000", RequestId("r1"))]) == ()
        store.commit(history.batch(history.submitted(), requests=(record,)))
    with open_store(store_url) as store:
        asked = [(user, RequestId("r1")) for user in ("uid:1001", "uid:1000", "uid:1002")]
        assert store.find_requests(asked) == (record,)


def test_commands_stay_in_the_outbox_until_acknowledged_and_their_seq_goes_on(store_url):
    history = History()
    with open_store(store_url) as store:
        store.commit(history.batch(history.submitted()))
        granted = history.batch(history.allocated(1))
        store.commit(granted)
        assert isinstance(granted.queued[0].command, LaunchTasks)
    with open_store(store_url) as store:
        assert store.load().outbox == granted.queued
        store.commit(history.batch(acknowledged=(1,)))
    with open_store(store_url) as store:
        loaded = store.load()
    assert (loaded.outbox, loaded.last_command_seq) == ((), 1)


def test_a_thousand_jobs_go_in_one_batch(store_url):
    history = History()
    batch = history.batch(*(history.submitted(ahead=n) for n in range(1000)))
    with open_store(store_url) as store:
        store.commit(batch)
        assert store.load().jobs == batch.jobs


def test_text_of_any_script_and_a_megabyte_of_environment_survive(store_url):
    history = History()
    first = history.submitted()
    spec = replace(first.spec, name="näme 名 🚀 '\"; --", env=(("A", "x" * (1 << 20)), ("Z", "\x00\n\\")))
    with open_store(store_url) as store:
        store.commit(history.batch(replace(first, spec=spec)))
    with open_store(store_url) as store:
        assert store.load().jobs[0].spec == spec
