"""What follows from events about health: judgements, outages, repairs, and the way back. Pure.

    agent observes -> HealthReported -> HealthJudged -> OutageBegan -> jobs end, or finish
      -> empty -> RepairStarted -> the node resets and checks itself -> RepairEnded -> OutagesEnded

Every arrow is an event. Whole nodes go through the same drain that operators use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from gpusched.domain.commands import RepairNode
from gpusched.domain.events import (
    AttemptStopping,
    BreakerReset,
    BreakerTripped,
    Event,
    HealthCleared,
    HealthJudged,
    HealthReported,
    NodeDrained,
    NodeDrainStarted,
    NodeJoined,
    NodeResumed,
    OutageBegan,
    OutagesEnded,
    RepairEnded,
    RepairStarted,
)
from gpusched.domain.health import BY_HEALTH, Condition, Cure, Finding, NodeHealth, Outage, Repair
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.job import Job
from gpusched.domain.job_state import EndReason
from gpusched.domain.node import Node, Schedulability
from gpusched.engine.state import ClusterState
from gpusched.policy.health import RESPONSES, Reach, breaker_trips, describe, judge, outage_of

REASON_LENGTH_MAX = 200


def health_consequences(state: ClusterState, event: Event) -> tuple[Event, ...]:
    """The decisions about health that an applied event calls for, in order."""
    match event:
        case HealthReported(node=name, condition=condition):
            return judgements(state, name, (condition,), state.at_us)
        case HealthJudged():
            return _after_judgement(state, event)
        case BreakerReset():
            return tuple(_judged_again(state))
        case OutageBegan():
            return tuple(_after_outage(state, state.nodes[event.node], event.outage))
        case HealthCleared(node=name) | NodeDrained(node=name) | NodeJoined(node=name):
            return repairs(state, (name,))
        case RepairEnded():
            return _after_repair(state.nodes[event.node], event)
        case OutagesEnded():
            return _after_outages(state, event)
        case _:
            return ()


def judgements(
    state: ClusterState, name: NodeName, conditions: Iterable[Condition], now_us: int
) -> tuple[Event, ...]:
    """What these conditions of a node call for; those that must wait for others are left out."""
    findings = {finding.condition.key: finding for finding in state.nodes[name].health.findings}
    wanted = [condition.key for condition in conditions]
    judged = (
        (findings[key].condition, judge(findings[key], findings.values(), state.health_rules, now_us))
        for key in wanted
        if key in findings
    )
    return tuple(
        HealthJudged(node=name, condition=condition, action=action)
        for condition, action in judged
        if action is not None
    )


def repairs(state: ClusterState, names: Iterable[NodeName]) -> tuple[Event, ...]:
    """The repairs that can be ordered on these nodes now: of what is out, empty, and needs no more."""
    return tuple(
        RepairStarted(node=name, repair=repair)
        for name in names
        if name in state.nodes and (repair := _repair(state, state.nodes[name])) is not None
    )


def repair_order(name: NodeName, repair: Repair) -> RepairNode:
    """The command that carries a repair out."""
    is_whole = any(not outage.devices for outage in repair.outages)
    devices = {uuid for outage in repair.outages for uuid in outage.devices}
    check = () if is_whole else tuple(sorted(devices))
    return RepairNode(node=name, number=repair.number, reset=repair.devices, check=check)


# ── going out ─────────────────────────────────────────────────────────────────────────


def _after_judgement(state: ClusterState, event: HealthJudged) -> tuple[Event, ...]:
    node = state.nodes[event.node]
    outage = outage_of(event.condition, event.action)
    if outage is None or any(known.condition.key == event.condition.key for known in node.health.outages):
        return ()
    if not node.health.outages:  # a node counts once, however much of it goes out
        why_not = breaker_trips(node, state.nodes.values(), state.health_rules, state.at_us)
        if why_not is not None:
            is_known = node.health.breaker_at_us is not None
            detail = f"{describe(event.condition)} would take it out: {why_not}"
            return () if is_known else (BreakerTripped(node=node.name, detail=detail),)
    return (OutageBegan(node=node.name, outage=outage),)


def _judged_again(state: ClusterState) -> Iterator[Event]:
    """Once no node is marked any more: what was held back is due."""
    nodes = sorted(state.nodes.values(), key=lambda node: node.name)
    if any(node.health.breaker_at_us is not None for node in nodes):
        return
    for node in nodes:
        for finding in node.health.findings:
            if finding.action is not None and outage_of(finding.condition, finding.action) is not None:
                yield HealthJudged(node=node.name, condition=finding.condition, action=finding.action)


def _after_outage(state: ClusterState, node: Node, outage: Outage) -> Iterator[Event]:
    reason = describe(outage.condition)[:REASON_LENGTH_MAX]
    if not outage.devices and node.schedulability is Schedulability.OPEN:
        yield NodeDrainStarted(node=node.name, by=BY_HEALTH, reason=reason, deadline_us=None)
    for job in _jobs_to_end(state, node, outage):
        assert job.attempt is not None
        yield AttemptStopping(
            job_id=job.job_id,
            epoch=job.attempt.epoch,
            reason=EndReason.NODE_UNHEALTHY,
            detail=f"{node.name}: {reason}",
            by=None,
            exit_code=None,
            node=node.name,
        )
    yield from repairs(state, (node.name,))


def _jobs_to_end(state: ClusterState, node: Node, outage: Outage) -> Iterator[Job]:
    ends = RESPONSES[outage.action].ends
    if ends is None:
        return
    for job_id in sorted(state.jobs_on.get(node.name, ())):
        job = state.jobs[job_id]
        if job.attempt is None or job.attempt.stop_reason is not None:
            continue
        held = _held(state, node.name, job)
        if ends is Reach.NODE or not outage.devices or held.intersection(outage.devices):
            yield job


def _held(state: ClusterState, name: NodeName, job: Job) -> set[DeviceUuid]:
    parts = state.running[job.job_id].nodes
    return {uuid for part in parts if part.node == name for uuid in part.devices}


# ── coming back ───────────────────────────────────────────────────────────────────────


def _repair(state: ClusterState, node: Node) -> Repair | None:
    health = node.health
    if not health.outages or health.repair is not None or health.failures:
        return None
    if health.is_node_out:
        is_ready = node.schedulability is Schedulability.DRAINED and node.is_out_by_health
        outages = health.outages if is_ready and all(_is_treatable(health, o) for o in health.outages) else ()
    else:
        outages = _treatable_devices(state, node)
    if not outages:
        return None
    every = tuple(device.uuid for device in node.facts.devices)
    reset = {uuid for outage in outages if outage.cure is Cure.RESET for uuid in (outage.devices or every)}
    return Repair(number=health.repairs + 1, devices=tuple(sorted(reset)), outages=outages)


def _treatable_devices(state: ClusterState, node: Node) -> tuple[Outage, ...]:
    """Outages of devices that nobody holds and that no other outage keeps out anyway."""
    busy = {
        uuid
        for job_id in state.jobs_on.get(node.name, ())
        for uuid in _held(state, node.name, state.jobs[job_id])
    }
    blocked = busy.union(*(o.devices for o in node.health.outages if not _is_treatable(node.health, o)))
    return tuple(outage for outage in node.health.outages if not blocked.intersection(outage.devices))


def _is_treatable(health: NodeHealth, outage: Outage) -> bool:
    if outage.cure is Cure.RESET:
        return True
    return outage.cure is Cure.CLEAR and not _holds(health.findings, outage.condition)


def _holds(findings: Iterable[Finding], condition: Condition) -> bool:
    return not condition.is_instant and any(found.condition.key == condition.key for found in findings)


def _after_repair(node: Node, event: RepairEnded) -> tuple[Event, ...]:
    repair = node.health.repair
    if event.failures or repair is None:
        return ()
    return (OutagesEnded(node=node.name, outages=repair.outages, by=BY_HEALTH),)


def _after_outages(state: ClusterState, event: OutagesEnded) -> tuple[Event, ...]:
    node = state.nodes[event.node]
    if node.is_out_by_health and not node.health.is_node_out:
        return (NodeResumed(node=node.name, by=event.by), *repairs(state, (node.name,)))
    return repairs(state, (node.name,))
