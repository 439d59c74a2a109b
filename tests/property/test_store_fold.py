"""Whatever happens, in whatever batches: the projections are the fold of the log."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from postgres import BACKENDS, fresh_store_url, postgres_server  # noqa: F401
from store_histories import History

from gpusched.domain.events import JobSubmitted
from gpusched.domain.history import History as Terms
from gpusched.domain.job import JobFilter
from gpusched.domain.partition import Partitions
from gpusched.engine.accounting import fold_spans
from gpusched.engine.fold import fold
from gpusched.engine.past import PastRun, Work
from gpusched.engine.ports import Loaded
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
            attempt_spans, node_spans = reader.attempt_spans(0, FOREVER), reader.node_spans(0, FOREVER)

    folded = fold(log, Partitions())
    folded_attempts, folded_nodes = fold_spans(log)
    assert log == tuple(history.log)
    assert replace(loaded, history=Terms()) == Loaded(
        jobs=tuple(job for _, job in sorted(folded.jobs.items()) if not job.state.is_terminal),
        nodes=tuple(node for _, node in sorted(folded.nodes.items())),
        outbox=tuple(outbox),
        last_seq=len(history.log),
        last_command_seq=history.last_command_seq,
        next_job_id=folded.next_job_id,
        submitted=tuple(
            (event.job_id, event.spec)
            for event in (recorded.event for recorded in log)
            if isinstance(event, JobSubmitted)
        ),
        runs=runs_of(folded_attempts, {job.job_id: job.spec.name for job in jobs}),
    )
    assert folded.jobs.items() <= {job.job_id: job for job in jobs}.items()
    assert sorted(attempt_spans, key=by_attempt) == sorted(folded_attempts, key=by_attempt)
    assert merged(node_spans) == merged(folded_nodes)


def runs_of(spans, names):
    """The attempts that ended, as the order of jobs remembers them, in the order of their ends."""
    ended = sorted(
        (span for span in spans if span.ended_at_us is not None),
        key=lambda span: (span.ended_at_us, span.job_id, span.epoch),
    )
    return tuple(
        PastRun(
            Work(
                span.user,
                span.account,
                names[span.job_id],
                sum(len(p.devices) for p in span.allocation.nodes),
            ),
            span.allocation.granted_at_us,
            max(span.allocation.granted_at_us, span.ended_at_us),
        )
        for span in ended
    )


def by_attempt(span):
    return span.job_id, span.epoch


def merged(spans):
    """Spans in order, those joined that follow one another and differ in nothing."""
    found = []
    for span in sorted(spans, key=lambda span: (span.node, span.start_us)):
        before = found[-1] if found else None
        if before is not None and replace(before, start_us=0, end_us=0) == replace(
            span, start_us=0, end_us=0
        ):
            assert before.end_us == span.start_us
            found[-1] = replace(before, end_us=span.end_us)
        else:
            found.append(span)
    return found
