"""The simulator is the engine: same decisions, nothing lost, the same every time."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import replace

from cluster import ALICE, BOB, SECOND_US, Cluster, facts, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusched.domain.errors import InfeasibleRequest
from gpusched.domain.events import JobAllocated, Recorded
from gpusched.domain.job_state import EndReason
from gpusched.engine.core import EngineSettings
from gpusched.engine.fold import fold
from gpusched.engine.simulation import Arrival, Simulated, simulate

START_US = 1_700_000_000 * SECOND_US
NODES = [facts("n1"), facts("n2"), facts("n3")]


def arrival(at_s: int, run_s: int, **changes: object) -> Arrival:
    return Arrival(
        at_us=START_US + at_s * SECOND_US, who=ALICE, spec=spec(**changes), run_us=run_s * SECOND_US
    )


ARRIVALS = st.lists(
    st.builds(
        lambda at_s, run_s, nodes, gpus, limit_s: arrival(
            at_s, run_s, nodes=nodes, gpus_per_node=gpus, time_limit_s=limit_s
        ),
        st.integers(0, 60),
        st.integers(0, 40),
        st.integers(1, 3),
        st.integers(0, 4),
        st.one_of(st.none(), st.integers(1, 60)),
    ),
    min_size=1,
    max_size=25,
)


def run(arrivals: list[Arrival]) -> tuple[Simulated, list[Recorded]]:
    log: list[Recorded] = []
    return simulate(NODES, arrivals, EngineSettings(), heard=log.extend), log


def grants(log: list[Recorded]) -> list[tuple[int, tuple[str, ...]]]:
    return [
        (r.event.job_id, tuple(str(d.uuid) for part in r.event.allocation.nodes for d in part.devices))
        for r in log
        if isinstance(r.event, JobAllocated)
    ]


def stepped_by_hand(arrivals: list[Arrival]) -> list[tuple[int, tuple[str, ...]]]:
    """A plain twin: one engine, stepped in the order of time, written without the simulator."""
    cluster = Cluster()
    cluster.join(*NODES)
    due = [(a.at_us, number, "submit", number) for number, a in enumerate(arrivals)]
    heapq.heapify(due)
    of_job: dict[int, Arrival] = {}
    started: set[int] = set()
    while due:
        at_us, _, what, which = heapq.heappop(due)
        if what == "submit":
            (job_id,) = cluster.submit(arrivals[which].spec)
            of_job[job_id] = arrivals[which]
        else:
            cluster.end_all(which)
        if due and due[0][0] == at_us:
            continue
        cluster.now_us = at_us  # forecasts must see the same time
        cluster.cycle()
        for job_id in sorted(set(cluster.engine.state.running) - started):
            started.add(job_id)
            cluster.start_all(job_id)
            heapq.heappush(due, (at_us + of_job[job_id].run_us, 1000 + job_id, "end", job_id))
    return grants(cluster.log)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=15))
def test_decisions_are_those_of_an_engine_stepped_by_hand(shapes: list[tuple[int, int, int]]) -> None:
    # No two things happen at one instant, so that there is only one order in which to step.
    arrivals = [
        replace(arrival(100 * i, 0, nodes=n, gpus_per_node=g), run_us=(r * 100 * SECOND_US) + 1 + i)
        for i, (n, g, r) in enumerate(shapes)
    ]
    assert grants(run(arrivals)[1]) == stepped_by_hand(arrivals)


@settings(max_examples=40, deadline=None)
@given(ARRIVALS)
def test_every_job_that_fits_runs_exactly_its_time_once_and_then_leaves(arrivals: list[Arrival]) -> None:
    simulated, log = run(arrivals)
    assert len(simulated.jobs) == len(arrivals)
    for job in simulated.jobs:
        assert job.refusal is None
        assert job.started_at_us is not None and job.ended_at_us is not None
        assert job.started_at_us >= job.arrival.at_us
        limit_s = job.arrival.spec.time_limit_s
        ran_us = job.ended_at_us - job.started_at_us
        assert ran_us == min(job.arrival.run_us, ran_us if limit_s is None else limit_s * SECOND_US)
    state = fold(log, EngineSettings().partitions)
    assert not state.jobs and not state.running
    assert len({job_id for job_id, _ in grants(log)}) == len(grants(log)) == len(arrivals)


@settings(max_examples=40, deadline=None)
@given(ARRIVALS)
def test_no_device_is_granted_to_two_jobs_at_a_time(arrivals: list[Arrival]) -> None:
    simulated, log = run(arrivals)
    devices = dict(grants(log))
    spans = sorted(
        (device, job.started_at_us or 0, job.ended_at_us or 0)
        for job in simulated.jobs
        for device in devices[job.job_id or 0]
    )
    for (device, _, end), (following, start, _) in itertools.pairwise(spans):
        assert device != following or start >= end


@given(ARRIVALS)
@settings(max_examples=20, deadline=None)
def test_the_same_arguments_give_the_same_log(arrivals: list[Arrival]) -> None:
    assert run(arrivals) == run(arrivals)


def test_a_job_that_outlasts_its_limit_ends_there_with_that_cause() -> None:
    simulated, _ = run([arrival(0, 500, gpus_per_node=1, time_limit_s=100)])
    (job,) = simulated.jobs
    assert job.end_reason is EndReason.TIME_LIMIT
    assert (job.ended_at_us or 0) - START_US == 100 * SECOND_US


def test_a_job_that_can_never_fit_is_refused_and_the_others_run() -> None:
    simulated, _ = run([arrival(0, 5, gpus_per_node=5), arrival(0, 5, gpus_per_node=4)])
    assert isinstance(simulated.jobs[0].refusal, InfeasibleRequest)
    assert simulated.jobs[1].end_reason is EndReason.COMPLETED


def test_a_short_job_is_backfilled_past_a_wide_one_that_waits() -> None:
    simulated, _ = run(
        [
            arrival(0, 100, nodes=2, gpus_per_node=4, time_limit_s=100),
            arrival(1, 10, nodes=3, gpus_per_node=4, time_limit_s=100),
            arrival(2, 50, nodes=1, gpus_per_node=4, time_limit_s=50),
        ]
    )
    starts = [((job.started_at_us or 0) - START_US) // SECOND_US for job in simulated.jobs]
    assert starts == [0, 100, 2]


def test_owners_of_arrivals_reach_the_engine() -> None:
    mine, other = arrival(0, 1, gpus_per_node=1), arrival(0, 1, gpus_per_node=1)
    _, log = run([mine, replace(other, who=BOB)])
    owners = {r.event.owner.user for r in log if type(r.event).__name__ == "JobSubmitted"}
    assert owners == {"alice", "bob"}


def test_no_arrivals_are_no_jobs() -> None:
    simulated, _ = run([])
    assert simulated.jobs == ()
