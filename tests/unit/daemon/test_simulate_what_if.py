"""``gpusched simulate``: two runs side by side, and the cluster's own past."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from cluster import ALICE, BOB, SECOND_US, Cluster, facts, spec
from gpusched_cli import assert_refused, gpusched

from gpusched.daemon.history import read_history
from gpusched.daemon.scenario import Changes
from gpusched.daemon.simulate import simulate
from gpusched.daemon.simulated import run_scenario
from gpusched.domain.errors import NotFound
from gpusched.domain.ids import NodeName
from gpusched.engine.core import EngineSettings
from gpusched.engine.inputs import NodeHeard, NodeSilent
from gpusched.policy.order import Order
from gpusched.store.database import open_store
from gpusched.store.reader import Reader

TRACE = """job_id,submit_s,duration_s,gpus,account
a,0,100,8,red
b,1,100,8,red
c,2,100,8,blue
"""
FOREVER_US = 10**18


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.csv"
    path.write_text(TRACE, encoding="utf-8")
    return path


def test_more_nodes_end_the_wait_and_the_table_says_by_how_much(trace: Path) -> None:
    ran = gpusched("simulate", str(trace), "--nodes", "1", "--add-nodes", "2")
    assert ran.code == 0, ran.err
    rows = {line.split("  ")[0]: line.split() for line in ran.out.splitlines()}
    assert ran.out.splitlines()[0].split() == ["FIGURE", "BASE", "WHAT", "IF", "CHANGE"]
    assert rows["avg_wait_s"][1:] == ["99.0", "0.0", "-100.0", "%"]
    assert rows["makespan_s"][1:] == ["300.0", "102.0", "-66.0", "%"]


def test_the_comparison_as_json_holds_both_runs_and_the_change(trace: Path) -> None:
    ran = gpusched("simulate", str(trace), "--nodes", "3", "--without-node", "n00003", "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert (told["base"]["avg_wait_s"], told["what_if"]["makespan_s"]) == (0, 200)
    assert told["change"]["makespan_s"] == {"amount": 98, "percent": 96.078}
    assert told["what_if"]["over_time"]["gpus_up"][0] == 16


def test_a_quota_keeps_its_account_back_and_nobody_else(trace: Path) -> None:
    ran = gpusched("simulate", str(trace), "--nodes", "2", "--quota", "red=8", "--json")
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert (told["base"]["avg_wait_s"], told["what_if"]["avg_wait_s"]) == (32.667, 33)  # b waits now, not c


def test_in_fair_order_the_account_that_used_nothing_goes_first(trace: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    ran = gpusched("simulate", str(trace), "--nodes", "1", "--order", "fair_share", "--out", str(out))
    assert ran.code == 0, ran.err
    assert [line.split(",")[2] for line in out.read_text().splitlines()[1:]] == ["0.0", "200.0", "100.0"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--nodes"),
        (["--nodes", "1", "--from-store"], "one of them"),
        (["--nodes", "1", "--since", "7d"], "--from-store"),
        (["--nodes", "1", "--quota", "red"], "ACCOUNT=GPUS"),
        (["--nodes", "1", "--quota", "red=-1"], "ACCOUNT=GPUS"),
        (["--nodes", "1", "--add-devices", "8xH100"], "--add-nodes"),
    ],
)
def test_options_that_do_not_go_together_are_refused(trace: Path, words: list[str], said: str) -> None:
    done = CliRunner().invoke(simulate, [str(trace), *words])
    assert (done.exit_code, done.stdout) == (2, "")
    assert said in done.stderr


def test_a_node_that_never_was_cannot_be_left_out(trace: Path) -> None:
    assert_refused(gpusched("simulate", str(trace), "--nodes", "1", "--without-node", "x9"), 3, "x9")


@pytest.fixture
def past(tmp_path: Path) -> str:
    """Two nodes; n2 joins late and is away for a while. Four jobs, of which one waits and one never runs."""
    cluster = Cluster()
    cluster.join(facts("n1"))
    (first,) = cluster.submit(spec(gpus_per_node=4, account="red"))
    cluster.cycle()
    cluster.start_all(first)
    (second,) = cluster.submit(spec(gpus_per_node=4, account="blue", hold=False), who=BOB)
    cluster.submit(spec(gpus_per_node=4, account="blue"), who=ALICE)  # goes on waiting
    cluster.now_us += 100 * SECOND_US
    cluster.end_all(first)
    cluster.cycle()
    cluster.start_all(second)
    cluster.join(facts("n2"))
    cluster.step(facts_=[NodeSilent(NodeName("n2"), 20.0)])
    cluster.step(facts_=[NodeHeard(NodeName("n2"))])
    cluster.now_us += 40 * SECOND_US
    cluster.end_all(second)
    url = f"sqlite:///{tmp_path}/gpusched.db"
    with open_store(url) as store:
        for batch in cluster.batches:
            if not batch.is_empty:
                store.commit(batch)
    return url


def test_the_past_is_replayed_with_its_jobs_times_and_nodes(past: str) -> None:
    with Reader(past) as reader:
        scenario = read_history(reader, EngineSettings(), 0, FOREVER_US)
        spans = {job_id: reader.attempts(job_id)[0] for job_id in (1, 2)}
    assert [job.name for job in scenario.jobs] == ["1", "2"]
    assert [facts.name for facts in scenario.nodes] == ["n1"]
    assert [type(each.fact).__name__ for each in scenario.happenings] == [
        "NodeConnected",
        "NodeSilent",
        "NodeHeard",
    ]
    outcome = run_scenario(scenario)
    for job, span in zip(outcome.simulated.jobs, spans.values(), strict=True):
        assert job.ended_at_us is not None and job.started_at_us is not None
        assert job.ended_at_us - job.started_at_us == (span.ended_at_us or 0) - span.allocation.granted_at_us
        assert (
            abs(job.started_at_us - span.allocation.granted_at_us) <= 2 * SECOND_US
        )  # the cluster's own pace


def test_what_if_there_had_been_more_nodes_nobody_would_have_waited(past: str) -> None:
    with Reader(past) as reader:
        scenario = read_history(reader, EngineSettings(), 0, FOREVER_US)
    more = run_scenario(Changes(add_nodes=1).applied(scenario))
    assert run_scenario(scenario).summary.avg_wait_s != 0
    assert more.summary.avg_wait_s == 0
    assert more.scenario.gpus == 12
    uuids = [device.uuid for facts in more.scenario.all_nodes.values() for device in facts.devices]
    assert len(set(uuids)) == len(uuids)


def test_a_time_in_which_no_job_ran_is_said(past: str) -> None:
    with Reader(past) as reader, pytest.raises(NotFound, match="--since and --until"):
        read_history(reader, EngineSettings(), 0, 5)


def test_the_home_s_database_is_replayed_by_the_command(past: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[policy]\norder = "fair_share"\n')
    ran = gpusched("simulate", "--from-store", "--order", "fifo", "--json", home=tmp_path)
    assert ran.code == 0, ran.err
    told = json.loads(ran.out)
    assert told["base"]["jobs"] == told["what_if"]["jobs"] == 2
    same = gpusched("simulate", "--from-store", past, "--json")
    assert json.loads(same.out) == told["base"]


def test_changes_leave_what_is_not_given_as_it_was(past: str) -> None:
    with Reader(past) as reader:
        scenario = read_history(reader, EngineSettings(), 0, FOREVER_US)
    assert not Changes().is_any
    assert Changes().applied(scenario) == scenario
    changed = Changes(order=Order.SHORTEST_PREDICTED, without=frozenset({NodeName("n2")})).applied(scenario)
    assert changed.settings.ordering.order is Order.SHORTEST_PREDICTED
    assert (changed.happenings, changed.jobs) == ((), scenario.jobs)


def test_page_and_picture_are_drawn_the_same_every_time_and_load_nothing(trace: Path, tmp_path: Path) -> None:
    for number in "12":
        page, picture = (str(tmp_path / f"{number}.{kind}") for kind in ("html", "png"))
        words = [str(trace), "--nodes", "1", "--add-nodes", "1", "--html", page, "--png", picture]
        done = CliRunner().invoke(simulate, words)
        assert done.exit_code == 0, done.output
    first, second = ((tmp_path / f"{number}.html").read_text(encoding="utf-8") for number in "12")
    assert first == second
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    assert (tmp_path / "1.png").read_bytes().startswith(b"\x89PNG")
    assert "<td>avg_wait_s</td><td>99.0</td>" in first
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#)|@import|url\((?!#)|<script""", first)


def test_without_the_extra_the_plots_say_how_to_get_them(trace: Path, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError")
    ran = gpusched(
        *("simulate", str(trace), "--nodes", "1", "--png", str(tmp_path / "x.png")),
        settings={"PYTHONPATH": f"{tmp_path}:src"},
        cwd=Path(__file__).parents[3],
    )
    assert (ran.code, "pip install 'gpusched[plots]'" in ran.err) == (2, True)
