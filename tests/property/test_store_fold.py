"""Whatever happens, in whatever batches: the projections are the fold of the log."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres import BACKENDS, fresh_store_url, postgres_server  # noqa: F401
from store_histories import History

from gpusched.domain.job import JobFilter
from gpusched.domain.partition import Partitions
from gpusched.engine.ports import Loaded
from gpusched.engine.state import fold
from gpusched.store.database import open_store
from gpusched.store.reader import Reader

FOREVER = 10**18

ticks = st.lists(st.lists(st.integers(0, 10**6), min_size=1, max_size=6), min_size=1, max_size=12)


def chosen(history, numbers):
    """Facts picked from what is possible at each step."""
    for number in numbers:
        possible = history.possible()
        yield possible[number % len(possible)]


@pytest.mark.parametrize("backend", BACKENDS)
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(ticks=ticks)
def test_what_is_loaded_is_the_fold_of_what_was_committed(backend, request, ticks):
    history, outbox = History(), []
    with fresh_store_url(backend, request) as url:
        with open_store(url) as store:
            for numbers in ticks:
                taken = tuple(queued.seq for queued in outbox[::2])
                batch = history.tick(chosen(history, numbers), acknowledged=taken)
                outbox = [queued for queued in outbox if queued.seq not in taken] + list(batch.queued)
                store.commit(batch)
        with open_store(url) as store:
            loaded = store.load()
        with Reader(url) as reader:
            log = reader.events(0, limit=FOREVER)
            jobs = reader.jobs(JobFilter(), 10**6)
            spans = reader.attempt_spans(0, FOREVER)

    folded = fold(log, Partitions())
    assert log == tuple(history.log)
    assert loaded == Loaded(
        jobs=tuple(job for _, job in sorted(folded.jobs.items()) if not job.state.is_terminal),
        nodes=tuple(node for _, node in sorted(folded.nodes.items())),
        outbox=tuple(outbox),
        last_seq=len(history.log),
        last_command_seq=history.last_command_seq,
        next_job_id=folded.next_job_id,
    )
    in_memory = {job.job_id: job for job in jobs}
    assert folded.jobs.items() <= in_memory.items()
    check_attempts(spans, in_memory)


def check_attempts(spans, jobs):
    """Every attempt has a row; the last of a job agrees with its projection."""
    last = {span.job_id: span for span in spans}
    assert last.keys() == {job.job_id for job in jobs.values() if job.attempt is not None}
    for span in spans:
        if span.epoch < last[span.job_id].epoch:
            assert span.ended_at_us is not None
    for job_id, span in last.items():
        attempt = jobs[job_id].attempt
        assert (span.epoch, span.allocation) == (attempt.epoch, attempt.allocation)
        assert span.running_at_us == attempt.running_at_us
        assert {node for node, _ in span.uses} == attempt.nodes_ended
        if span.ended_at_us is not None:
            assert span.end_reason is attempt.stop_reason
