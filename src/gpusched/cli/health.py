"""``gpusched health``: what is wrong with nodes and devices, and what was done about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click

from gpusched.cli.as_json import plain
from gpusched.cli.quantities import show_ago
from gpusched.cli.screen import Table, print_json, print_line, print_table
from gpusched.cli.session import Session, json_option, pass_session
from gpusched.domain.health import Condition, Cure, Finding, HealthAction, Outage
from gpusched.domain.node import Node
from gpusched.wire.handlers import NodeView

QUIET = frozenset({HealthAction.IGNORE, HealthAction.RESTART_APP})
"""Findings that ask nobody to do anything: left out of the listing, kept in its JSON."""

_WAITS_FOR = {
    Cure.CLEAR: "it to clear",
    Cure.RESET: "its jobs to end, then a reset",
    Cure.REBOOT: "a reboot",
    Cure.OPERATOR: "an operator",
}


@click.group()
def health() -> None:
    """See what is wrong with nodes and devices, and what was done about it."""


@health.command("list")
@click.argument("name", required=False)
@json_option
@pass_session
def list_health(session: Session, *, name: str | None, as_json: bool) -> None:
    """List what is out of service or was noticed, of one node or of all."""
    views = [view for view in session.client.nodes.list() if name in (None, view.node.name)]
    views.sort(key=lambda view: view.node.name)
    if as_json:
        print_json([health_json(view) for view in views])
        return
    for view in views:
        if view.node.health.breaker_at_us is not None:
            text = "The breaker has tripped: nothing is taken out until `gpusched health reset-breaker`"
            print_line((text, "red"))
            break
    table = health_table((view.node for view in views), session.now_us())
    if table.rows:
        print_table(table)
    else:
        print_line("Nothing is out of service and nothing was noticed")


def health_json(view: NodeView) -> dict[str, Any]:
    """One node's health."""
    body: dict[str, Any] = plain(view.node.health)
    return {"node": view.node.name, "schedulability": view.node.schedulability.value, **body}


def health_table(nodes: Iterable[Node], now_us: int) -> Table:
    """One row per outage and per finding that somebody may want to act on."""
    table = Table(("NODE", "WHAT", "SIGNAL", "SINCE", "ACTION", "WAITS FOR", "DETAIL"))
    for node in nodes:
        for row in _rows(node, now_us):
            table.add(node.name, *row)
    return table


def _rows(node: Node, now_us: int) -> Iterator[tuple[str, ...]]:
    known = {finding.condition.key: finding for finding in node.health.findings}
    out = {outage.condition.key for outage in node.health.outages}
    for outage in node.health.outages:
        finding = known.get(outage.condition.key)
        since = "-" if finding is None else show_ago(finding.since_us, now_us)
        yield (
            "node" if not outage.devices else ", ".join(outage.devices),
            signal_text(outage.condition),
            since,
            outage.action.value,
            _waits_for(node, outage),
            outage.condition.detail,
        )
    for finding in node.health.findings:
        if finding.condition.key not in out and finding.action not in QUIET:
            yield _finding_row(finding, now_us)


def _finding_row(finding: Finding, now_us: int) -> tuple[str, ...]:
    action = "undecided" if finding.action is None else finding.action.value
    where = ", ".join(finding.condition.devices) or "node"
    since = show_ago(finding.since_us, now_us)
    return where, signal_text(finding.condition), since, action, "-", finding.condition.detail


def _waits_for(node: Node, outage: Outage) -> str:
    health = node.health
    if health.repair is not None and outage in health.repair.outages:
        return "its reset and check" if health.repair.devices else "its check"
    if health.failures:
        return f"an operator: {'; '.join(health.failures)}"
    return _WAITS_FOR[outage.cure]


def signal_text(condition: Condition) -> str:
    """``Xid 79`` or ``DiskFull``."""
    code = "" if condition.code is None else f" {condition.code}"
    return f"{condition.signal}{code}"
