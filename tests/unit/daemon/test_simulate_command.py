"""``gpusched simulate`` from the outside."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpusched.daemon.simulate import simulate
from gpusched.daemon.simulated import shape_of
from gpusched.daemon.traces import TraceJob
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
