"""Nodes of made-up clusters, for benchmarks that place without agents."""

from __future__ import annotations

from gpusched.domain.ids import NodeName
from gpusched.domain.node import Device, Node, NodeFacts


def up_node(name: NodeName, devices: tuple[Device, ...], *, cpus: int, memory_bytes: int) -> Node:
    """A node that is up and open: placement sees what it has, and the rest of its facts says nothing."""
    facts = NodeFacts(
        name=name,
        boot_id="boot",
        agent_version="0",
        address="10.0.0.1",
        interface=None,
        cpu_ids=tuple(range(cpus)),
        cpus_pinnable=True,
        memory_bytes=memory_bytes,
        devices=devices,
    )
    return Node(facts=facts, joined_at_us=0)
