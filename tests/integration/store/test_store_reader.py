"""What readers are told, on SQLite and on PostgreSQL."""

import pytest
from store_histories import NODES, TICK_US, History, node_facts

from gpusched.domain.errors import StoreUnavailable
from gpusched.domain.events import NodeJoined, NodeLost, NodeReturned
from gpusched.domain.ids import Epoch, JobId, NodeName
from gpusched.domain.job import JobFilter
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import EndReason, JobState
from gpusched.store.database import open_store
from gpusched.store.reader import Reader

N0, N1, N2 = NODES


@pytest.fixture
def told(store_url):
    """A history, a way to commit its ticks, and a reader beside the writer."""
    history = History()
    with open_store(store_url) as store, Reader(store_url) as reader:

        def commit(*facts):
            store.commit(history.batch(*facts))

        yield history, commit, reader


def ids(jobs):
    return [job.job_id for job in jobs]


def submit_all(told, *specs):
    history, commit, _ = told
    for spec in specs:
        commit(history.submitted(spec=spec))


def test_what_is_not_there_is_none_or_empty(told):
    _, _, reader = told
    assert reader.job(JobId(1)) is None
    assert reader.attempt(JobId(1), Epoch(1)) is None
    assert reader.node(NodeName("n0")) is None
    assert reader.last_seq() == 0
    empty = (
        reader.jobs(JobFilter(), 10),
        reader.attempts(JobId(1)),
        reader.uses(JobId(1), Epoch(1)),
        reader.events(0, limit=10),
        reader.nodes(),
        reader.node_spans(0, 10**18),
    )
    assert not any(empty)


def test_jobs_come_newest_first_and_pages_neither_repeat_nor_skip(told):
    _, _, reader = told
    submit_all(told, *(JobSpec(name=f"j{n}") for n in range(7)))
    assert ids(reader.jobs(JobFilter(), 3)) == [7, 6, 5]
    assert ids(reader.jobs(JobFilter(), 3, before=JobId(5))) == [4, 3, 2]
    assert ids(reader.jobs(JobFilter(), 3, before=JobId(2))) == [1]


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (JobFilter(), [3, 2, 1]),
        (JobFilter(name="b"), [3, 2]),
        (JobFilter(account="physics"), [2, 1]),
        (JobFilter(partition="big"), [3]),
        (JobFilter(user="ada"), [3, 2, 1]),
        (JobFilter(user="bob"), []),
        (JobFilter(states=(JobState.CANCELLED,)), [1]),
        (JobFilter(states=(JobState.CANCELLED, JobState.PENDING), name="b"), [3, 2]),
        (JobFilter(name="b", account="physics", partition="big"), []),
    ],
)
def test_all_conditions_of_a_filter_must_hold(told, where, found):
    history, commit, reader = told
    submit_all(
        told,
        JobSpec(name="a", account="physics"),
        JobSpec(name="b", account="physics"),
        JobSpec(name="b", partition="big"),
    )
    commit(history.cancelled(1))
    assert ids(reader.jobs(where, 10)) == found


def test_a_node_filter_finds_jobs_by_their_last_attempt(told):
    history, commit, reader = told
    submit_all(told, JobSpec(name="gang", nodes=2, requeue=True), JobSpec(name="waits"))
    commit(history.allocated(1, (N0, N1)))
    assert ids(reader.jobs(JobFilter(node=N0), 10)) == [1]
    for node in (N0, N1):
        commit(history.ended(1, node, cause=EndReason.NODE_FAIL))
    commit(history.allocated(1, (N1, N2)))
    assert ids(reader.jobs(JobFilter(node=N0), 10)) == []
    assert ids(reader.jobs(JobFilter(node=N2), 10)) == [1]


def test_an_attempt_tells_its_times_its_end_and_what_each_node_used(told):
    history, commit, reader = told
    submit_all(told, JobSpec(name="gang", nodes=2))
    commit(history.allocated(1))
    commit(history.started(1, N0))
    assert reader.attempt(JobId(1), Epoch(1)).running_at_us is None
    commit(history.started(1, N1))
    commit(history.ended(1, N1, exit_code=3))
    commit(history.ended(1, N0))
    span = reader.attempt(JobId(1), Epoch(1))
    assert (span.user, span.account) == ("ada", "default")
    assert span.allocation == reader.job(JobId(1)).attempt.allocation
    assert span.allocation.granted_at_us == 2 * TICK_US
    assert (span.running_at_us, span.ended_at_us) == (4 * TICK_US, 6 * TICK_US)
    assert span.end_reason is EndReason.RANK_FAILED
    assert [node for node, _ in span.uses] == [N1, N0]
    assert span.uses == reader.uses(JobId(1), Epoch(1))
    assert span.uses[0][1].devices[0].busy_s == 0.0
    assert span.uses[0][1].devices[0].energy_j is None


@pytest.mark.parametrize("ticks", ["one tick", "two ticks"])
def test_an_attempt_whose_last_ranks_start_after_it_is_being_stopped_never_ran(told, ticks):
    history, commit, reader = told
    submit_all(told, JobSpec(name="gang", nodes=2))
    commit(history.allocated(1))
    commit(history.started(1, N0))
    late = (history.cancelled(1), history.started(1, N1))
    if ticks == "one tick":
        commit(*late)
    else:
        commit(late[0])
        commit(late[1])
    assert reader.attempt(JobId(1), Epoch(1)).running_at_us is None
    assert reader.job(JobId(1)).attempt.running_at_us is None


def test_every_attempt_of_a_requeued_job_is_kept_in_order(told):
    history, commit, reader = told
    submit_all(told, JobSpec(name="again", requeue=True))
    for _ in range(3):
        commit(history.allocated(1))
        commit(history.ended(1, N0, cause=EndReason.SHIM_LOST))
    assert [span.epoch for span in reader.attempts(JobId(1))] == [1, 2, 3]
    assert {span.end_reason for span in reader.attempts(JobId(1))} == {EndReason.SHIM_LOST}


def test_spans_are_those_that_reach_into_the_window(told):
    history, commit, reader = told
    submit_all(told, JobSpec(name="a"))
    commit(history.allocated(1))  # at 2
    commit(history.ended(1, N0))  # at 3

    def found(start, end):
        return ids(reader.attempt_spans(start * TICK_US, end * TICK_US))

    assert found(0, 2) == []
    assert found(0, 3) == [1]
    assert found(2, 3) == [1]
    assert found(3, 9) == []


def test_node_spans_follow_loss_return_and_devices(told):
    _, commit, reader = told
    commit(NodeJoined(node=N0, facts=node_facts(N0)), NodeJoined(node=N1, facts=node_facts(N1)))
    commit(NodeLost(node=N0, detail="silent"))
    commit(NodeReturned(node=N0))
    commit(NodeJoined(node=N0, facts=node_facts(N0, gpus=3)))
    spans = [
        (span.node, span.start_us // TICK_US, span.end_us and span.end_us // TICK_US, span.is_up)
        for span in reader.node_spans(0, 10**18)
    ]
    assert spans == [
        ("n0", 1, 2, True),
        ("n0", 2, 3, False),
        ("n0", 3, 4, True),
        ("n0", 4, None, True),
        ("n1", 1, None, True),
    ]
    assert [len(span.devices) for span in reader.node_spans(0, 10**18)] == [4, 4, 4, 3, 4]
    assert [span.start_us for span in reader.node_spans(3 * TICK_US, 4 * TICK_US)] == [3 * TICK_US, TICK_US]


def test_spans_of_no_length_are_not_told(told):
    _, commit, reader = told
    commit(NodeJoined(node=N0, facts=node_facts(N0)), NodeLost(node=N0, detail="silent"))
    assert [span.is_up for span in reader.node_spans(0, 10**18)] == [False]


def test_events_are_told_in_order_after_a_seq_for_some_jobs_or_all(told):
    history, commit, reader = told
    commit(NodeJoined(node=N0, facts=node_facts(N0)))
    submit_all(told, JobSpec(name="a"), JobSpec(name="b"))
    commit(history.cancelled(1))
    assert reader.events(0, limit=100) == tuple(history.log)
    assert [recorded.seq for recorded in reader.events(1, limit=2)] == [2, 3]
    assert [recorded.seq for recorded in reader.events(0, [JobId(1)], limit=9)] == [2, 4]
    assert [recorded.seq for recorded in reader.events(2, [JobId(1), JobId(2)], limit=9)] == [3, 4]
    assert reader.events(0, [], limit=9) == ()
    assert reader.last_seq() == 4


def test_a_node_has_its_own_events(told):
    history, commit, reader = told
    commit(NodeJoined(node=N0, facts=node_facts(N0)), NodeJoined(node=N1, facts=node_facts(N1)))
    submit_all(told, JobSpec(name="a"))
    commit(history.allocated(1), NodeLost(node=N0, detail="silent"))
    assert [type(told_.event).__name__ for told_ in reader.node_events(N0, limit=9)] == [
        "NodeJoined",
        "NodeLost",
    ]
    assert [node.name for node in reader.nodes()] == [N0, N1]
    assert reader.node(N0) == history.state.nodes[N0]


def test_a_long_read_does_not_stop_the_writer(told):
    _, _, reader = told
    submit_all(told, JobSpec(name="a"))
    with reader._connected() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one() == 1
        submit_all(told, JobSpec(name="b"))
        assert connection.exec_driver_sql("SELECT count(*) FROM jobs").scalar_one() == 1  # its own instant
    assert ids(reader.jobs(JobFilter(), 10)) == [2, 1]


def test_a_reader_cannot_write(told):
    _, _, reader = told
    with pytest.raises(StoreUnavailable, match=r"read-?only"), reader._connected() as connection:
        connection.exec_driver_sql("DELETE FROM jobs")
