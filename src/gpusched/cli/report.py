"""``gpusched report``: what was used and what it cost."""

from __future__ import annotations

import csv
import sys

import click

from gpusched.cli.as_json import cost_json, line_json, plain
from gpusched.cli.quantities import parse_instant, rfc3339, show_duration
from gpusched.cli.screen import Table, note, print_json, print_line, print_table
from gpusched.cli.session import Session, json_option, pass_session
from gpusched.domain.sharing import gpus_text
from gpusched.domain.usage import CostReport, GroupBy

_FROM = click.option("--from", "start", metavar="WHEN", help="RFC 3339, a date, or 7d for that long ago.")
_TO = click.option("--to", "end", metavar="WHEN", help="As --from; default: now.")


@click.group()
def report() -> None:
    """Usage and cost."""


@report.command("cost")
@click.option(
    "--by",
    "group_by",
    type=click.Choice([group.value for group in GroupBy]),
    default="account",
    show_default=True,
)
@_FROM
@_TO
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV.")
@json_option
@pass_session
def cost(
    session: Session, *, group_by: str, start: str | None, end: str | None, as_csv: bool, as_json: bool
) -> None:
    """Sum up the cost of every GPU-second, what nobody used included."""
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other")
    start_us, end_us = _window(session, start, end)
    found = session.client.reports.cost(GroupBy(group_by), start_us, end_us)
    if as_json:
        print_json(cost_json(found))
    elif as_csv:
        _print_csv(found)
    else:
        _print_cost(found)
    if found.unpriced_models:
        note(f"gpusched: warning: no rate for {', '.join(found.unpriced_models)}: counted at 0")


def _window(session: Session, start: str | None, end: str | None) -> tuple[int | None, int | None]:
    start_us, end_us = (_instant(session, text, name) for text, name in ((start, "--from"), (end, "--to")))
    if start_us is not None and end_us is not None and start_us >= end_us:
        raise click.UsageError("--from must be before --to")
    for option, at_us in (("--from", start_us), ("--to", end_us)):
        if at_us is not None and at_us > session.now_us():
            raise click.UsageError(f"{option} is in the future: a report is of what was")
    return start_us, end_us


def _instant(session: Session, text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        return parse_instant(text, now_us=session.now_us())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint=name) from None


def _print_cost(found: CostReport) -> None:
    print_line(f"{rfc3339(found.start_us)} to {rfc3339(found.end_us)}, {found.currency}")
    columns = (found.group_by.value.upper(), "CLASS", "GPU TIME", "COST")
    table = Table(columns, right=frozenset({"GPU TIME", "COST"}))
    for line in found.lines:
        gpu_time = show_duration(line.gpu_us / 1_000_000)
        table.add(line.key, line.usage_class.value, gpu_time, f"{line.billed_cost:.2f}")
    gpu_us = sum(line.gpu_us for line in found.lines)
    table.add(("TOTAL", "bold"), "", show_duration(gpu_us / 1_000_000), (f"{found.total:.2f}", "bold"))
    print_table(table)


def _print_csv(found: CostReport) -> None:
    names = ["key", "usage_class", "gpu_s", "cost", "billed_cost"]
    writer = csv.DictWriter(sys.stdout, fieldnames=["group_by", *names, "currency"], lineterminator="\n")
    writer.writeheader()
    for line in found.lines:
        writer.writerow({"group_by": found.group_by.value, **line_json(line), "currency": found.currency})


@report.command("usage")
@_FROM
@_TO
@json_option
@pass_session
def usage(session: Session, *, start: str | None, end: str | None, as_json: bool) -> None:
    """List what each device did: one row per device and class, without gaps."""
    intervals = list(session.client.reports.usage(*_window(session, start, end)))
    if as_json:
        print_json(plain(intervals))
        return
    columns = ("NODE", "DEVICE", "MODEL", "CLASS", "FROM", "TO", "SHARE", "JOB", "USER", "ACCOUNT")
    table = Table(columns)
    for item in intervals:
        attempt = "-" if item.job_id is None else f"{item.job_id}.{item.epoch}"
        times = (rfc3339(item.start_us), rfc3339(item.end_us))
        device = (item.node, item.device, item.model, item.usage_class.value)
        table.add(*device, *times, gpus_text(item.milli), attempt, item.user or "-", item.account or "-")
    print_table(table)
