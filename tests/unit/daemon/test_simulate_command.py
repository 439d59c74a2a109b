"""``gpusched simulate`` from the outside."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from gpusched_cli import assert_refused, gpusched
from pyarrow import Table, parquet

from gpusched.daemon.scenario import shape_of
from gpusched.daemon.simulate import simulate
from gpusched.daemon.traces import TraceFormat, TraceJob, read_trace
from gpusched.domain.errors import InvalidSpec

TRACE = """job_id,submit_s,duration_s,gpus,account,time_limit_s
a,0,100,8,red,
b,10,50,8,blue,
c,10,10,16,blue,
d,20,30,24,blue,
"""


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.csv"
    path.write_text(TRACE, encoding="utf-8")
    return path


def test_figures_of_a_small_trace_are_those_worked_out_by_hand(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    done = CliRunner().invoke(simulate, [str(trace), "--nodes", "2", "--json", "--out", str(out)])
    assert done.exit_code == 0, done.output
    figures = json.loads(done.stdout)
    # a 0..100, b 10..60, c needs both nodes: 100..110; d needs three and is refused.
    assert (figures["ended"], figures["refused"], figures["makespan_s"]) == (3, 1, 110)
    assert figures["avg_jct_s"] == pytest.approx((100 + 50 + 100) / 3, abs=1e-3)
    assert figures["avg_wait_s"] == 30
    assert figures["gpu_utilisation_percent"] == pytest.approx(100 * (800 + 400 + 160) / (16 * 110), abs=1e-3)
    assert figures["account_shares_percent"] == pytest.approx({"blue": 41.176, "red": 58.824}, abs=1e-3)
    rows = list(csv.DictReader(out.open(encoding="utf-8")))
    assert [(row["job_id"], row["start"], row["end"]) for row in rows] == [
        ("a", "0.0", "100.0"),
        ("b", "10.0", "60.0"),
        ("c", "100.0", "110.0"),
        ("d", "", ""),
    ]


def test_a_bad_row_ends_it_before_anything_is_simulated(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("job_id,submit_s,duration_s,gpus\na,0,soon,1\n", encoding="utf-8")
    done = CliRunner().invoke(simulate, [str(path), "--nodes", "1"])
    assert isinstance(done.exception, InvalidSpec)
    assert "bad.csv:2: duration_s" in str(done.exception)


@pytest.mark.parametrize(
    ("gpus", "nodes", "shape"),
    [
        (0, None, (1, 0)),
        (5, None, (1, 5)),
        (8, None, (1, 8)),
        (12, None, (2, 6)),
        (64, None, (8, 8)),
        (8, 4, (4, 2)),
        (0, 3, (3, 0)),
    ],
)
def test_gangs_take_the_fewest_nodes_that_give_equal_shares(
    gpus: int, nodes: int | None, shape: tuple[int, int]
) -> None:
    job = TraceJob(name="j", submit_s=0, duration_s=1, gpus=gpus, nodes=nodes)
    assert shape_of(job, 8) == shape


def test_parquet_is_read_as_the_same_columns_in_csv_are(trace: Path, tmp_path: Path) -> None:
    with trace.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    columns: dict[str, list[object]] = {
        "job_id": [row["job_id"] for row in rows],
        "submit_s": [float(row["submit_s"]) for row in rows],
        "duration_s": [float(row["duration_s"]) for row in rows],
        "gpus": [int(row["gpus"]) for row in rows],
        "account": [row["account"] for row in rows],
        "time_limit_s": [None for _ in rows],
    }
    path = tmp_path / "jobs.parquet"
    parquet.write_table(Table.from_pydict(columns), path)
    assert read_trace(path, TraceFormat.PARQUET) == read_trace(trace, TraceFormat.CSV)


def test_a_bad_row_of_parquet_is_named(tmp_path: Path) -> None:
    path = tmp_path / "jobs.parquet"
    rows = [
        {"job_id": "a", "submit_s": 0.0, "duration_s": 1.0, "gpus": 1},
        {"job_id": "b", "submit_s": float("nan"), "duration_s": 1.0, "gpus": 1},
    ]
    parquet.write_table(Table.from_pylist(rows), path)
    with pytest.raises(InvalidSpec, match="row 2: submit_s: nan is out of range"):
        read_trace(path, TraceFormat.PARQUET)
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InvalidSpec, match="is no parquet trace"):
        read_trace(path, TraceFormat.PARQUET)


@pytest.mark.parametrize(
    "row", ["a,-1,5,1", "a,nan,5,1", "a,0,-5,1", "a,0,inf,1", "a,0,5,-1", "a,0,5,1.5", "a,0,5"]
)
def test_times_and_counts_that_cannot_be_are_refused_with_their_line(row: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(f"job_id,submit_s,duration_s,gpus\nok,0,1,1\n{row}\n", encoding="utf-8")
    with pytest.raises(InvalidSpec, match=r"bad\.csv:3"):
        read_trace(path, TraceFormat.CSV)


def test_a_bad_trace_is_one_message_and_the_documented_exit_code(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("job_id,submit_s,duration_s,gpus\na,-1,5,1\n", encoding="utf-8")
    assert_refused(gpusched("simulate", str(path), "--nodes", "1"), 2, "bad.csv:2: submit_s")


def test_a_trace_without_jobs_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.csv"
    path.write_text("job_id,submit_s,duration_s,gpus\n", encoding="utf-8")
    with pytest.raises(InvalidSpec, match="holds no job"):
        read_trace(path, TraceFormat.CSV)


def test_gangs_larger_than_the_cluster_are_counted_and_named(trace: Path) -> None:
    done = CliRunner().invoke(simulate, [str(trace), "--nodes", "2"])
    assert done.exit_code == 0
    assert "1 jobs were refused (d); the first: job wants 3 nodes" in done.stderr


def test_the_cluster_over_time_is_told_in_equal_steps(trace: Path) -> None:
    done = CliRunner().invoke(simulate, [str(trace), "--nodes", "2", "--json"])
    over_time = json.loads(done.stdout)["over_time"]
    assert over_time["time_s"][:3] == [0, 1, 2]
    at = dict(
        zip(
            over_time["time_s"],
            zip(over_time["jobs_waiting"], over_time["gpus_held"], strict=True),
            strict=True,
        )
    )
    assert (at[5], at[50], at[80], at[105]) == ((0, 8), (1, 16), (1, 8), (0, 16))
    assert set(over_time["gpus_up"]) == {16}
