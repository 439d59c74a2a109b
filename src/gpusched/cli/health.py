"""``gpusched health``: what is wrong with nodes and devices, and what was done about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click

from gpusched.cli.as_json import plain
from gpusched.cli.quantities import rfc3339, show_ago
from gpusched.cli.screen import Table, print_json, print_line, print_table
from gpusched.cli.session import Session, json_option, pass_session
from gpusched.domain.events import (
    BreakerReset,
    BreakerTripped,
    HealthCleared,
    HealthJudged,
    HealthReported,
    NodeCordoned,
    NodeDrainStarted,
    NodeFaulted,
    NodeLost,
    NodeResumed,
    OutageBegan,
    OutagesEnded,
    Recorded,
    RepairEnded,
    RepairStarted,
)
from gpusched.domain.health import FAULTS_KEPT_US, Condition, Cure, Finding, HealthAction, Outage
from gpusched.domain.ids import NodeName
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
    nodes = session.client.nodes
    views = list(nodes.list()) if name is None else [nodes.get(NodeName(name))]
    views.sort(key=lambda view: view.node.name)
    if as_json:
        print_json([health_json(view) for view in views])
        return
    tell_if_suspended(views)
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


@health.command("history")
@click.argument("name")
@click.option("-n", "--last", "limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@json_option
@pass_session
def history(session: Session, *, name: str, limit: int, as_json: bool) -> None:
    """Show what happened to a node: what was noticed, decided and done."""
    events = session.client.nodes.events(NodeName(name), limit)
    if as_json:
        print_json([event_json(recorded) for recorded in events])
        return
    table = Table(("AT", "EVENT", "DETAIL"))
    for recorded in events:
        table.add(rfc3339(recorded.at_us), type(recorded.event).__name__, event_text(recorded))
    print_table(table)


@health.command("lemons")
@json_option
@pass_session
def lemons(session: Session, *, as_json: bool) -> None:
    """List nodes that failed within 28 days, most failures first."""
    now_us = session.now_us()
    failed = {
        view.node.name: [at_us for at_us in view.node.health.faults_at_us if at_us > now_us - FAULTS_KEPT_US]
        for view in session.client.nodes.list()
    }
    found = sorted((item for item in failed.items() if item[1]), key=lambda item: (-len(item[1]), item[0]))
    if as_json:
        print_json([{"node": name, "failed_at": list(map(rfc3339, faults))} for name, faults in found])
        return
    table = Table(("NODE", "FAILURES", "LAST"), right=frozenset({"FAILURES"}))
    for name, faults in found:
        table.add(name, str(len(faults)), show_ago(faults[-1], now_us))
    if table.rows:
        print_table(table)
    else:
        print_line("No node failed within 28 days")


@health.command("reset-breaker")
@pass_session
def reset_breaker(session: Session) -> None:
    """Let policy take nodes out of service again, after you looked why so many were."""
    session.client.nodes.reset_breaker()
    print_line("The breaker is reset: what was held back is decided now")


def tell_if_suspended(views: Iterable[NodeView]) -> None:
    """Say so above a listing when nothing is started anywhere."""
    if any(view.is_suspended for view in views):
        text = "Nothing is started: the database went back in time (docs/operations/failover.md)"
        print_line((text, "red"))


def event_json(recorded: Recorded) -> dict[str, Any]:
    """One event of a node."""
    body: dict[str, Any] = plain(recorded.event)
    return {
        "seq": recorded.seq,
        "at": rfc3339(recorded.at_us),
        "event": type(recorded.event).__name__,
        **body,
    }


def event_text(recorded: Recorded) -> str:
    """What an event says beside its name and its node."""
    match recorded.event:
        case HealthReported(condition=condition) | HealthCleared(condition=condition):
            return condition_text(condition)
        case HealthJudged(condition=condition, action=action):
            return f"{action}: {condition_text(condition)}"
        case OutageBegan(outage=outage):
            return f"{outage.action}: {', '.join(outage.devices) or 'the node'}"
        case OutagesEnded(outages=outages, by=by):
            return f"{'; '.join(signal_text(outage.condition) for outage in outages)} (by {by})"
        case RepairStarted(repair=repair):
            return f"number {repair.number}, resets {', '.join(repair.devices) or 'nothing'}"
        case RepairEnded(number=number, failures=failures):
            return f"number {number}: " + ("; ".join(failures) or "passed")
        case NodeFaulted(job_id=job_id, epoch=epoch, reason=reason):
            return f"attempt {job_id}.{epoch}: {reason}"
        case BreakerTripped(detail=detail) | NodeLost(detail=detail):
            return detail
        case NodeCordoned(reason=reason, by=by) | NodeDrainStarted(reason=reason, by=by):
            return f"{reason} (by {by})"
        case NodeResumed(by=by) | BreakerReset(by=by):
            return f"by {by}"
        case _:
            return ""


def condition_text(condition: Condition) -> str:
    """Signal, devices and words."""
    where = f" on {', '.join(condition.devices)}" if condition.devices else ""
    return f"{signal_text(condition)}{where}: {condition.detail}"


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
    is_over = outage.condition.key not in {finding.condition.key for finding in health.findings}
    if outage.cure is Cure.CLEAR and is_over:  # nothing but what still runs keeps it out
        return "its jobs to end, then its check"
    return _WAITS_FOR[outage.cure]


def signal_text(condition: Condition) -> str:
    """``Xid 79`` or ``DiskFull``."""
    code = "" if condition.code is None else f" {condition.code}"
    return f"{condition.signal}{code}"
