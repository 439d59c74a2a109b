"""An agent's picture of its machine's health, compared with what is known, into events."""

from __future__ import annotations

from gpusched.domain.events import HealthCleared, HealthReport, HealthReported, RepairEnded
from gpusched.domain.health import Condition, HealthObserved
from gpusched.domain.ids import NodeName
from gpusched.engine.health import judgements
from gpusched.engine.state import ClusterState
from gpusched.engine.transaction import Transaction
from gpusched.policy.health import CORRELATION_US


def take_health(tx: Transaction, name: NodeName, report: HealthReport) -> None:
    """Record what is new; a picture of an earlier boot, or an answer to an earlier order, is not."""
    node = tx.state.nodes.get(name)
    if node is None or report.node != name:
        return
    match report:
        case HealthObserved():
            if report.boot_id == node.facts.boot_id:
                _observed(tx, report)
        case RepairEnded():
            repair = node.health.repair
            if repair is not None and repair.number == report.number:
                tx.record(report)


def judge_waiting(tx: Transaction, name: NodeName) -> None:
    """Decide what had to wait for other findings and has waited long enough."""
    node = tx.state.nodes.get(name)
    if node is None:
        return
    due = [
        finding.condition
        for finding in node.health.findings
        if finding.action is None and tx.now_us - finding.since_us >= CORRELATION_US
    ]
    for event in judgements(tx.state, name, due, tx.now_us):
        tx.record(event)


def _observed(tx: Transaction, observed: HealthObserved) -> None:
    name, state = observed.node, tx.state
    for sighting in observed.sightings:
        if sighting.observed_us > state.nodes[name].health.newest_sighting:
            _report(tx, name, sighting.condition, sighting.observed_us)
    known = [f.condition for f in state.nodes[name].health.findings if not f.condition.is_instant]
    now = {condition.key: condition for condition in observed.conditions if not condition.is_instant}
    for condition in known:
        if observed.is_complete and condition.key not in now:
            tx.record(HealthCleared(node=name, condition=condition))
    for key in now.keys() - {condition.key for condition in known}:
        _report(tx, name, now[key], None)


def _report(tx: Transaction, name: NodeName, condition: Condition, observed_us: int | None) -> None:
    tx.record(
        HealthReported(
            node=name,
            condition=condition,
            observed_us=observed_us,
            users=_users(tx.state, name, condition),
        )
    )


def _users(state: ClusterState, name: NodeName, condition: Condition) -> tuple[str, ...]:
    """Whose jobs hold the devices, or anything on the node."""
    found: set[str] = set()
    for job_id in state.jobs_on.get(name, ()):
        held = {uuid for part in state.running[job_id].nodes if part.node == name for uuid in part.devices}
        if not condition.devices or held.intersection(condition.devices):
            found.add(state.jobs[job_id].owner.user)
    return tuple(sorted(found))
