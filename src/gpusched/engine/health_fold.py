"""How a node's health follows from its events. Only looks at what the events say: no policy here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

from gpusched.domain.events import (
    BreakerReset,
    BreakerTripped,
    HealthCleared,
    HealthEvent,
    HealthJudged,
    HealthReported,
    NodeFaulted,
    OutageBegan,
    OutagesEnded,
    RepairEnded,
    RepairStarted,
)
from gpusched.domain.health import (
    FAULTS_KEPT_US,
    FAULTS_MAX,
    FINDINGS_MAX,
    Cure,
    Finding,
    NodeHealth,
    Outage,
)
from gpusched.domain.ids import DeviceUuid

_SIGHTINGS_KEPT_US = 86_400_000_000


def health_after(health: NodeHealth, event: HealthEvent, at_us: int) -> NodeHealth:
    """The health after one more event of the node."""
    match event:
        case HealthReported():
            return _reported(health, event, at_us)
        case HealthCleared():
            kept = tuple(found for found in health.findings if found.condition.key != event.condition.key)
            return replace(health, findings=kept, failures=())
        case HealthJudged():
            judged = tuple(
                replace(found, action=event.action) if found.condition.key == event.condition.key else found
                for found in health.findings
            )
            return replace(health, findings=judged)
        case OutageBegan():
            return replace(
                with_fault(health, at_us),
                outages=outages_after(health.outages, event),
                taken_out_at_us=at_us,
            )
        case OutagesEnded():
            return _ended(health, event)
        case RepairStarted():
            return replace(health, repair=event.repair, repairs=event.repair.number)
        case RepairEnded():
            # Without failures it stands until what it cured has ended.
            return replace(health, repair=None if event.failures else health.repair, failures=event.failures)
        case NodeFaulted():
            return with_fault(health, at_us)
        case BreakerTripped():
            return replace(health, breaker_at_us=at_us)
        case BreakerReset():
            return replace(health, breaker_at_us=None, taken_out_at_us=None)
        case _:
            assert_never(event)


def outages_after(outages: tuple[Outage, ...], event: OutageBegan | OutagesEnded) -> tuple[Outage, ...]:
    """What is out after one more event."""
    if isinstance(event, OutageBegan):
        return (*outages, event.outage)
    over = {outage.key for outage in event.outages}
    return tuple(outage for outage in outages if outage.key not in over)


def out_of(outages: Iterable[Outage], devices: Iterable[tuple[DeviceUuid, str]]) -> tuple[DeviceUuid, ...]:
    """Which of a node's devices these outages keep out of service, in order; one of the node, all."""
    found = tuple(outages)
    is_node_out = any(not outage.devices for outage in found)
    out = {uuid for outage in found for uuid in outage.devices}
    return tuple(uuid for uuid, _ in devices if is_node_out or uuid in out)


def rebooted(health: NodeHealth) -> NodeHealth:
    """The health after another boot: what was seen is gone, and what a reset or a reboot cures is cured."""
    cured = (Cure.RESET, Cure.REBOOT)
    return replace(
        health,
        newest_sighting=0,
        findings=(),
        failures=(),
        outages=tuple(
            replace(outage, cure=Cure.CLEAR) if outage.cure in cured else outage for outage in health.outages
        ),
    )


def with_fault(health: NodeHealth, at_us: int) -> NodeHealth:
    """One more failure that was the node's own."""
    recent = (fault for fault in health.faults_at_us if fault > at_us - FAULTS_KEPT_US)
    return replace(health, faults_at_us=(*recent, at_us)[-FAULTS_MAX:])


def _reported(health: NodeHealth, event: HealthReported, at_us: int) -> NodeHealth:
    users = set(event.users)
    kept: list[Finding] = []
    for found in health.findings:
        is_old = found.condition.is_instant and found.since_us <= at_us - _SIGHTINGS_KEPT_US
        if found.condition.key == event.condition.key:
            users |= set() if is_old else set(found.users)
        elif not is_old:
            kept.append(found)
    kept.append(Finding(condition=event.condition, since_us=at_us, users=tuple(sorted(users))))
    newest = health.newest_sighting if event.observed_us is None else event.observed_us
    return replace(health, newest_sighting=newest, findings=tuple(kept[-FINDINGS_MAX:]))


def _ended(health: NodeHealth, event: OutagesEnded) -> NodeHealth:
    keys = {outage.condition.key for outage in event.outages if outage.condition.is_instant}
    return replace(
        health,
        outages=outages_after(health.outages, event),
        findings=tuple(found for found in health.findings if found.condition.key not in keys),
        repair=None,
        failures=(),
    )
