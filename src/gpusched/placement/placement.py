"""A proposal: where a gang would run. The engine turns it into an Allocation, or not."""

from __future__ import annotations

from dataclasses import dataclass

from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.node import WHOLE_MILLI

Counts = tuple[tuple[str, int], ...]
"""How many of what, by name."""


@dataclass(frozen=True, slots=True)
class NodePlacement:
    """One node's part of a proposal (and what a running job holds there)."""

    node: NodeName
    devices: tuple[DeviceUuid, ...]
    cpu_ids: tuple[int, ...]
    memory_bytes: int
    gpu_milli: int = WHOLE_MILLI  # of each device
    counters: Counts = ()  # disk and generic counters, as ``NodeRequest`` names them


@dataclass(frozen=True, slots=True)
class Placement:
    """The whole gang, in rank order."""

    nodes: tuple[NodePlacement, ...]
    ring_cost: int | None = None  # links that a ring over the nodes uses; None where the fabric is unknown
    licenses: Counts = ()  # of the whole cluster
