"""What an event makes of a node. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

from gpusched.domain.events import (
    HealthEvent,
    NodeAhead,
    NodeCordoned,
    NodeDrained,
    NodeDrainStarted,
    NodeEvent,
    NodeJoined,
    NodeLost,
    NodeReconciled,
    NodeResumed,
    NodeReturned,
)
from gpusched.domain.node import Node, Schedulability
from gpusched.engine.health_fold import health_after, rebooted, with_fault


def node_after(node: Node | None, event: NodeEvent, at_us: int) -> Node:
    """The node after ``event``; ``node`` is None where it joins for the first time."""
    if isinstance(event, NodeJoined):
        if node is None:
            return Node(facts=event.facts, joined_at_us=at_us)
        is_same_boot = event.facts.boot_id == node.facts.boot_id
        return replace(node, facts=event.facts, health=node.health if is_same_boot else rebooted(node.health))
    assert node is not None, f"{type(event).__name__} of {event.node}, which never joined"
    if isinstance(event, HealthEvent):
        return replace(node, health=health_after(node.health, event, at_us))
    match event:
        case NodeLost():
            return replace(node, reachable=False, lost_at_us=at_us, health=with_fault(node.health, at_us))
        case NodeAhead():
            return replace(node, ahead=event.ahead)
        case NodeReconciled():
            return replace(node, ahead=None)
        case NodeReturned():
            return replace(node, reachable=True, lost_at_us=None)
        case NodeCordoned():
            return replace(
                node,
                schedulability=Schedulability.CORDONED,
                reason=event.reason,
                cordoned_by=event.by,
                drain_deadline_us=None,
            )
        case NodeDrainStarted():
            return replace(
                node,
                schedulability=Schedulability.DRAINING,
                reason=event.reason,
                cordoned_by=event.by,
                drain_deadline_us=event.deadline_us,
            )
        case NodeDrained():
            return replace(node, schedulability=Schedulability.DRAINED, drain_deadline_us=None)
        case NodeResumed():
            return replace(
                node,
                schedulability=Schedulability.OPEN,
                reason=None,
                cordoned_by=None,
                drain_deadline_us=None,
            )
        case _:
            assert_never(event)
