"""The replay protocol on cases small enough to work out by hand, and its promises on random ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.jct.__main__ import POLICIES
from benchmarks.jct.__main__ import main as jct
from benchmarks.jct.attained import PredictedOrder, next_review_s
from benchmarks.jct.orders import Fifo, ShortestRemaining
from benchmarks.jct.replay import Policy, Pool, Replayed, Work, replay
from gpusched.policy.prediction import LEVEL_EDGES_S


def work_of(*jobs: tuple[float, float, int], overhead_s: float = 0.0) -> Work:
    """(submission, service, GPUs) each."""
    return Work(
        ids=tuple(str(number) for number in range(len(jobs))),
        submit_s=np.array([job[0] for job in jobs], dtype=float),
        service_s=np.array([job[1] for job in jobs], dtype=float),
        gpus=np.array([job[2] for job in jobs]),
        overhead_s=np.full(len(jobs), overhead_s),
    )


def played(work: Work, policy: Policy, nodes: int = 1) -> Replayed:
    return replay(work, Pool(nodes, 8), policy, lambda ended: None)


def test_fifo_lets_nobody_pass() -> None:
    work = work_of((0, 10, 8), (1, 10, 8), (2, 1, 1))
    assert list(played(work, Fifo()).finish_s) == [10, 20, 21]


def test_the_shortest_takes_over_and_the_other_goes_on_where_it_was() -> None:
    work = work_of((0, 10, 8), (4, 2, 8))
    replayed = played(work, ShortestRemaining(work.gpus))
    assert list(replayed.finish_s) == [12, 6]
    assert sorted(replayed.intervals) == [(0, 0, 4), (0, 6, 12), (1, 4, 6)]


def test_every_event_costs_those_that_run_their_overhead() -> None:
    work = work_of((0, 10, 4), (4, 2, 4), overhead_s=1.0)
    # The first loses a second at 4 and one at 6; the second ends at its first event, so it loses none.
    assert list(played(work, ShortestRemaining(work.gpus)).finish_s) == [12, 6]


def test_a_wide_gang_takes_whole_nodes() -> None:
    pool = Pool(3, 8)
    pool.clear()
    assert pool.take(1) and pool.take(16) and not pool.take(8) and pool.take(7)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5_000), st.integers(1, 20_000), st.sampled_from([1, 2, 4, 8, 16])),
        min_size=1,
        max_size=25,
    ),
    st.sampled_from(sorted(POLICIES)),
)
def test_intervals_hold_each_job_for_its_service_and_never_more_gpus_than_there_are(
    jobs: list[tuple[int, int, int]], name: str
) -> None:
    jobs.sort(key=lambda job: job[0])
    work = work_of(*jobs)
    replayed = played(work, POLICIES[name](work), nodes=2)
    ran = np.zeros(len(jobs))
    changes = []
    for job, start_s, end_s in replayed.intervals:
        assert start_s >= work.submit_s[job]
        ran[job] += end_s - start_s
        changes += [(start_s, 1, work.gpus[job]), (end_s, 0, -work.gpus[job])]
    assert ran == pytest.approx(work.service_s, rel=1e-6)
    used = np.cumsum([gpus for _, _, gpus in sorted(changes)])
    assert used.max() <= 16
    again = played(work, POLICIES[name](work), nodes=2)
    assert again.intervals == replayed.intervals


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 20_000)), min_size=1, max_size=20))
def test_on_one_server_srtf_is_no_worse_than_any_other(jobs: list[tuple[int, int]]) -> None:
    work = work_of(*((at, service, 8) for at, service in sorted(jobs)))
    means = {name: played(work, make(work)).jct_s(work).mean() for name, make in POLICIES.items()}
    assert means["srtf"] <= min(means.values()) * (1 + 1e-9)


PHILLY = "job_id,timestamp,duration,num_gpus\na,2017-09-21T00:00:00,100,4\nb,2017-09-21T00:00:10,50,8\n"


def run_jct(monkeypatch: pytest.MonkeyPatch, trace: Path, *more: str) -> int:
    words = ["--format", "philly", "--trace", str(trace), "--nodes", "1", "--gpus-per-node", "8"]
    monkeypatch.setattr("sys.argv", ["jct", *words, "--json", *more])
    return jct()


@pytest.mark.parametrize("policy", POLICIES)
def test_with_json_one_object_is_all_that_is_printed(
    policy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, out = tmp_path / "t.csv", tmp_path / "out.csv"
    trace.write_text(PHILLY)
    assert run_jct(monkeypatch, trace, "--policy", policy, "--out", str(out)) == 0
    told = json.loads(capsys.readouterr().out)
    named = {"trace", "policy", "jobs", "avg_jct_s", "makespan_s", "p99_jct_s", "wall_s"}
    assert named <= told.keys()
    assert (told["policy"], told["jobs"]) == (policy, 2)
    assert out.read_text().splitlines()[0] == "job_id,start,end"


@pytest.mark.parametrize(
    ("text", "more", "said"),
    [
        (PHILLY.replace("100", "soon"), (), "t.csv:2: duration"),
        (PHILLY.replace("100", "nan"), (), "t.csv:2: duration"),
        (PHILLY.replace(",8\n", ",16\n"), (), "job b needs 16 GPUs"),
        (PHILLY.splitlines()[0] + "\n", (), "holds no job"),
        ("", (), "lacks the column"),
        (PHILLY, ("--out", "/proc/nowhere/out.csv"), "No such file"),
    ],
)
def test_what_cannot_be_replayed_is_one_message_and_code_2(
    text: str,
    more: tuple[str, ...],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text(text)
    assert run_jct(monkeypatch, trace, "--policy", "ours", *more) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err and len(told.err.splitlines()) == 1


def test_of_two_alike_the_one_on_fewer_gpus_goes_first() -> None:
    order = PredictedOrder()
    wide, narrow = order.came(8, "a"), order.came(1, "a")
    jobs = np.array([wide, narrow])
    assert list(order.order(jobs, np.zeros(2), jobs[:0])) == [narrow, wide]


def test_the_next_review_is_when_a_level_is_entered() -> None:
    assert next_review_s(np.array([0.0, 100.0])) == LEVEL_EDGES_S[1] - 100.0
    assert next_review_s(LEVEL_EDGES_S[1:2]) == LEVEL_EDGES_S[2] - LEVEL_EDGES_S[1]
