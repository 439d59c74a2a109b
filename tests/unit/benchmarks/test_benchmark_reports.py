"""What every benchmark says: budgets, results, machine facts; the README's table is made of them."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
if str(ROOT) not in sys.path:  # benchmarks are run from the root of the checkout, as `python -m benchmarks`
    sys.path.insert(0, str(ROOT))

from benchmarks import cycle, decisions, report  # noqa: E402
from benchmarks.__main__ import BENCHMARKS  # noqa: E402
from benchmarks.machine import commit, this_machine  # noqa: E402
from benchmarks.report import Figure, Measured, at_least, at_most, percentile, run_benchmark  # noqa: E402
from benchmarks.run_all import run_all  # noqa: E402


@dataclass(frozen=True)
class Sizes:
    jobs: int


def measure(sizes: Sizes) -> Measured:
    """Counts."""
    return Measured([Figure("jobs", sizes.jobs, "jobs", at_least(10))], {"why": "because"})


def test_a_budget_holds_at_its_bound_and_not_beyond() -> None:
    assert at_most(2).holds(2) and not at_most(2).holds(2.001)
    assert at_least(2).holds(2) and not at_least(2).holds(1.999)


def test_a_figure_says_whether_its_budget_was_met() -> None:
    missed = Figure("accepts", 523.24, "jobs/s", at_least(1_000))
    assert missed.as_json() == {
        "what": "accepts", "value": 523.24, "unit": "jobs/s", "budget": ">= 1,000", "met": False,
    }  # fmt: skip
    assert "MISSED" in str(missed)
    assert "budget" not in Figure("seen", 1.0, "s").as_json()


def test_percentiles_are_interpolated() -> None:
    assert percentile([1, 2, 3, 4], 50) == 2.5
    assert percentile([5], 99) == 5


def test_a_result_names_its_machine_commit_seed_and_sizes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "counts.json"
    monkeypatch.setattr(sys, "argv", ["counts", "--json", "--quick", "--out", str(out)])
    assert run_benchmark("counts", measure, full=Sizes(1_000), quick=Sizes(3)) == 0
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 and json.loads(printed[0]) == json.loads(out.read_text())
    result = json.loads(out.read_text())
    assert (result["name"], result["commit"], result["seed"]) == ("counts", commit(), report.SEED)
    assert result["sizes"] == {"jobs": 3} and result["details"] == {"why": "because"}
    assert result["machine_facts"]["cores"] >= 1 and "cores" in result["machine"]
    assert result["figures"][0]["met"] is False


def test_a_machine_names_the_file_system_below_a_folder(tmp_path: Path) -> None:
    assert this_machine(tmp_path).disk != "unknown"
    assert this_machine(Path("/proc")).disk == "proc"


def test_every_benchmark_of_the_list_exists_and_no_other_is_run(tmp_path: Path) -> None:
    runnable = {
        path.stem
        for path in (ROOT / "benchmarks").glob("*.py")
        if "run_benchmark(" in path.read_text() and path.stem != "report"
    }
    assert set(BENCHMARKS) == runnable
    assert run_all("benchmarks", BENCHMARKS, ["no-such-benchmark"], tmp_path) == 2


def test_kept_results_come_from_full_runs_of_benchmarks_that_exist() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        result = json.loads(path.read_text())
        assert result["commit"] != "unknown", path
        if "figures" in result:
            assert result["name"] == path.stem and result["figures"], path
        if path.stem in BENCHMARKS:
            continue
        # Else it is of a replay of published data, which only runs where the data is.
        scripts = {script.stem for script in (ROOT / "benchmarks").iterdir()}
        assert any(path.stem == name or path.stem.startswith((f"{name}_", f"{name}.")) for name in scripts), (
            path
        )


def test_a_small_cycle_can_be_measured() -> None:
    small = cycle.Sizes(nodes=8, gangs=8, repeats=1)
    assert all(figure.value > 0 for figure in cycle.measure(small).figures)


def test_decisions_on_small_clusters_can_be_measured() -> None:
    small = decisions.Sizes(nodes=(8, 16), decisions=(100, 100))
    assert all(figure.value > 0 for figure in decisions.measure(small).figures)
