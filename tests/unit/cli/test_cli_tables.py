"""What every read prints, as files: a change of output is a diff to look at."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from fakes.cli_head import NOW_US, sick_views

from gpusched.cli.screen import Table, clean

READS = {
    "ps": ("ps", "--all"),
    "job_show_running": ("job", "show", "17"),
    "job_show_failed": ("job", "show", "16"),
    "job_show_pending": ("job", "show", "18"),
    "job_show_env": ("job", "show", "17", "--env"),
    "job_show_env_rank": ("job", "show", "17", "--env", "--rank", "3"),
    "explain": ("explain", "18"),
    "defrag": ("defrag", "plan", "18"),
    "nodes": ("nodes",),
    "node_show": ("node", "show", "n1"),
    "node_show_draining": ("node", "show", "n2"),
    "topology": ("node", "topology"),
    "topology_node": ("topology", "show", "n1"),
    "cost": ("cost",),
    "usage": ("report", "usage"),
    "top": ("top", "--once"),
    "dry_run": ("submit", "--dry-run", "--", "python", "train.py"),
}


HEALTH_READS = {
    "health_list": ("health", "list"),
    "health_history": ("health", "history", "n1"),
    "health_lemons": ("health", "lemons"),
    "node_show_sick": ("node", "show", "n1"),
}


@pytest.mark.parametrize("name", HEALTH_READS)
def test_what_is_sick_is_shown(name, cli, head, matches_golden):
    head.nodes.views = sick_views()
    said = cli(*HEALTH_READS[name])
    assert said.code == 0, said.err
    matches_golden(f"{name}.txt", said.out)
    told = cli(*HEALTH_READS[name], "--json")
    json.loads(told.out)
    matches_golden(f"{name}.json", told.out)


def test_a_node_whose_cause_has_cleared_waits_for_its_jobs_alone(cli, head):
    views = sick_views()
    health = replace(views[1].node.health, findings=())
    head.nodes.views = (replace(views[1], node=replace(views[1].node, health=health)),)
    assert "its jobs to end, then its check" in cli("health", "list").out


def test_resetting_the_breaker_asks_the_head(cli, head):
    assert cli("health", "reset-breaker").code == 0
    assert head.nodes.asked == [("reset_breaker",)]


@pytest.mark.parametrize("name", READS)
def test_a_read_prints_what_it_printed_before(name, cli, matches_golden):
    said = cli(*READS[name])
    assert said.code == 0, said.err
    assert "\x1b" not in said.out
    assert all(line == line.rstrip() for line in said.out.splitlines())
    matches_golden(f"{name}.txt", said.out)


@pytest.mark.parametrize("name", READS)
def test_every_read_has_json(name, cli, matches_golden):
    said = cli(*READS[name][:1], *READS[name][1:][:0], *_with_json(READS[name]))
    assert said.code == 0, said.err
    json.loads(said.out)
    matches_golden(f"{name}.json", said.out)


def _with_json(argv):
    rest = list(argv[1:])
    at = rest.index("--") if "--" in rest else len(rest)
    return [*rest[:at], "--json", *rest[at:]]


def test_cost_as_csv(cli, matches_golden):
    said = cli("cost", "--csv")
    assert said.code == 0
    assert "no rate for A10" in said.err
    matches_golden("cost.csv", said.out)


def test_zero_is_shown_as_a_measurement_and_absence_as_a_dash(cli):
    row = next(line for line in cli("top", "--once").out.splitlines() if "640 W" in line)
    other = next(line for line in cli("top", "--once").out.splitlines() if "31 °C" in line)
    assert "97%" in row and row.endswith("-")
    assert "0%" in other and "0 B" in other


def test_gpu_busy_of_zero_is_not_called_unmeasured(cli):
    out = json.loads(cli("job", "show", "16", "--json").out)["efficiency"]
    assert out["gpu_busy"] == pytest.approx(0.4)
    assert out["gpus_measured"] == 4


def test_declared_devices_are_labelled_in_every_table_that_shows_them(cli):
    for argv in (("job", "show", "17"), ("nodes",), ("top", "--once"), ("node", "show", "n2"), ("ps",)):
        assert "declared" in cli(*argv).out, argv


def test_times_are_rfc3339_and_sizes_bytes(cli):
    job = json.loads(cli("job", "show", "17", "--json").out)
    assert job["submitted_at"] == "2025-12-31T23:49:00.000000Z"
    assert job["spec"]["memory_bytes"] == 8 << 30
    assert not [key for key in job if key.endswith("_us")]
    assert NOW_US % 1_000_000 == 0


def test_a_name_cannot_drive_the_terminal():
    assert clean("a\x1b[31mb\x07\x9b\u202e\n") == "a\\x1b[31mb\\x07\\x9b\\u202e\\x0a"
    assert clean("größe 火 🔥") == "größe 火 🔥"


def test_columns_align_by_what_a_terminal_shows():
    table = Table(("A", "B"))
    table.add("火", "x")
    table.add("abc", "y")
    assert table.plain() == "A    B\n火   x\nabc  y"


def test_markup_in_a_name_is_text():
    table = Table(("A",))
    table.add("[red]x[/red]")
    from rich.console import Console

    console = Console(width=40, color_system=None)
    with console.capture() as capture:
        console.print(table.rich())
    assert "[red]x[/red]" in capture.get()
