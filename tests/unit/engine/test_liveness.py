"""When silence becomes a loss, and a loss becomes leave to replace."""

from __future__ import annotations

from cluster import facts

from gpusched.domain.ids import NodeName
from gpusched.domain.node import Node
from gpusched.engine.inputs import DrainDeadlinePassed, LeaseEnded, NodeHeard, NodeSilent
from gpusched.engine.liveness import Liveness, lease_over_us

LEASE_US = 15_000_000
N1 = NodeName("n1")


def check(liveness: Liveness, at_us: int, **changes: object) -> tuple[type, ...]:
    node = Node(facts=facts("n1"), joined_at_us=0, **changes)  # type: ignore[arg-type]
    return tuple(type(fact) for fact in liveness.check({N1: node}, monotonic_us=at_us, wall_us=at_us))


def test_a_node_is_lost_only_after_the_whole_silence() -> None:
    liveness = Liveness(LEASE_US, started_us=0)
    liveness.heard(N1, 5_000_000)
    assert check(liveness, 5_000_000 + LEASE_US) == ()
    assert check(liveness, 5_000_001 + LEASE_US) == (NodeSilent,)


def test_leave_to_replace_comes_after_lease_drift_and_grace() -> None:
    liveness = Liveness(LEASE_US, started_us=0)
    liveness.heard(N1, 0)
    over_us = lease_over_us(LEASE_US)
    assert over_us >= LEASE_US * 1.01
    assert check(liveness, over_us, reachable=False) == ()
    assert check(liveness, over_us + 1, reachable=False) == (LeaseEnded,)


def test_a_head_that_just_started_gives_every_node_a_full_lease() -> None:
    liveness = Liveness(LEASE_US, started_us=100_000_000)
    assert check(liveness, 100_000_000 + LEASE_US) == ()
    assert check(liveness, 100_000_000 + lease_over_us(LEASE_US), reachable=False) == ()


def test_a_head_that_gives_shorter_leases_waits_for_the_longer_ones_of_the_head_before() -> None:
    liveness = Liveness(LEASE_US, started_us=0, given_us=4 * LEASE_US)
    over_us = lease_over_us(4 * LEASE_US)
    assert check(liveness, over_us, reachable=False) == ()
    assert check(liveness, over_us + 1, reachable=False) == (LeaseEnded,)


def test_a_lost_node_that_is_heard_again_returns() -> None:
    liveness = Liveness(LEASE_US, started_us=0)
    liveness.heard(N1, 50_000_000)
    assert check(liveness, 50_000_001, reachable=False) == (NodeHeard,)


def test_a_drain_deadline_is_noticed() -> None:
    liveness = Liveness(LEASE_US, started_us=0)
    assert check(liveness, 10, drain_deadline_us=10) == (DrainDeadlinePassed,)
