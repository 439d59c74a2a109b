"""What the ring over a gang's nodes costs on the fabric."""

from __future__ import annotations

from collections.abc import Sequence

from gpusched.domain.ids import NodeName
from gpusched.domain.topology import RingCost
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.placement.tree import ring_cost, ring_seconds


def ring_of(snapshot: ClusterSnapshot, nodes: Sequence[NodeName]) -> RingCost | None:
    """Cost a ring over these nodes, in rank order.

    Returns:
        None for one node, and where a node is gone or hangs nowhere.
    """
    if len(nodes) < 2 or not all(node in snapshot.index for node in nodes):
        return None
    tree, rows = snapshot.inventory.tree, [snapshot.index[node] for node in nodes]
    links = ring_cost(tree, rows)
    return None if links is None else RingCost(links, ring_seconds(tree, rows))
