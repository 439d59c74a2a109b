"""Silence into facts: which nodes to give up, whose lease is over, which drains have run out. Memory only.

A heartbeat that changes nothing writes nothing: it moves one number here.
"""

from __future__ import annotations

from collections.abc import Mapping

from gpusched.domain.ids import NodeName
from gpusched.domain.node import Node
from gpusched.engine.inputs import DrainDeadlinePassed, Fact, HealthDue, LeaseEnded, NodeHeard, NodeSilent
from gpusched.policy.health import CORRELATION_US

CLOCK_DRIFT = 0.01
"""How much faster the head's clock may run than a node's: far more than any working oscillator drifts."""
KILL_GRACE_US = 3_000_000
"""How long after its lease a node may take to kill what is fenced: shims wake at the deadline."""


def lease_over_us(lease_us: int) -> int:
    """How long a node must be silent until everything fenced on it is certainly dead."""
    return round(lease_us * (1 + CLOCK_DRIFT)) + KILL_GRACE_US


class Liveness:
    """When each node was last heard, on the head's own monotonic clock.

    Args:
        silence_max_us: Of a node, before it counts as lost; the lease that this head gives.
        started_us: When this head began to lead.
        given_us: The longest lease that heads before this one gave: a node may still work under it.
    """

    def __init__(self, silence_max_us: int, started_us: int, given_us: int = 0) -> None:
        self._silence_max_us = silence_max_us
        self._lease_over_us = lease_over_us(silence_max_us)
        self._given_over_us = started_us + lease_over_us(given_us)
        self._started_us = started_us  # a head that just started has heard nobody: everyone gets a full wait
        self._heard_us: dict[NodeName, int] = {}

    def heard(self, node: NodeName, now_us: int) -> None:
        """Note a sign of life."""
        self._heard_us[node] = now_us

    def is_lease_over(self, node: NodeName, now_us: int) -> bool:
        """Whether everything fenced that was ever started on the node is certainly dead."""
        silent_us = now_us - self._heard_us.get(node, self._started_us)
        return silent_us > self._lease_over_us and now_us > self._given_over_us

    def check(self, nodes: Mapping[NodeName, Node], *, monotonic_us: int, wall_us: int) -> tuple[Fact, ...]:
        """What silence and deadlines call for now."""
        facts: list[Fact] = []
        for node in nodes.values():
            silent_us = monotonic_us - self._heard_us.get(node.name, self._started_us)
            if node.reachable and silent_us > self._silence_max_us:
                facts.append(NodeSilent(node.name, silent_us / 1e6))
            elif not node.reachable and node.name in self._heard_us and silent_us <= self._silence_max_us:
                facts.append(NodeHeard(node.name))
            if not node.reachable and self.is_lease_over(node.name, monotonic_us):
                facts.append(LeaseEnded(node.name, silent_us / 1e6))
            if node.drain_deadline_us is not None and wall_us >= node.drain_deadline_us:
                facts.append(DrainDeadlinePassed(node.name))
            if any(
                finding.action is None and wall_us - finding.since_us >= CORRELATION_US
                for finding in node.health.findings
            ):
                facts.append(HealthDue(node.name))
        return tuple(facts)
