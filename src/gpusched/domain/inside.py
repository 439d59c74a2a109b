"""What is inside a node, as groups of its GPUs: NVLink islands, NUMA nodes, PCIe switches.

Islands and sockets cut each other (an NVSwitch joins GPUs of both sockets), so these are no levels of a
tree by themselves; drawn inside each other they are (``cli.inside``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from gpusched.domain.node import Device, PciAncestor

Groups = tuple[tuple[int, ...], ...]
"""Positions of devices, each in one group; groups in the order of their first devices."""


class InsideLevel(StrEnum):
    """What GPUs of one node can share, widest first."""

    NVLINK = "nvlink"  # reach each other over NVLinks, directly, by a switch or by a third GPU
    NUMA = "numa"  # memory and CPUs of one socket, or a part of one
    PCIE = "pcie"  # PCIe switches, without the host's bridge


INSIDE_LEVELS: frozenset[str] = frozenset(InsideLevel)
"""Their names, as a job may name them."""


@dataclass(frozen=True, slots=True)
class Wire:
    """A link from one device of a node to another, by their positions."""

    source: int
    target: int
    nvlinks: int
    ancestor: PciAncestor | None


_SWITCHED = frozenset({PciAncestor.INTERNAL, PciAncestor.SINGLE_SWITCH, PciAncestor.MULTI_SWITCH})


def groups_of(level: InsideLevel, numa: Sequence[int | None], wires: Iterable[Wire]) -> Groups:
    """Group the devices of a node by what they share. What is not known is not shared.

    Args:
        level: What to share.
        numa: The NUMA node of each device, None if unknown.
        wires: How they reach each other.
    """
    match level:
        case InsideLevel.NVLINK:
            joined = ((wire.source, wire.target) for wire in wires if wire.nvlinks > 0)
        case InsideLevel.PCIE:
            joined = ((wire.source, wire.target) for wire in wires if wire.ancestor in _SWITCHED)
        case InsideLevel.NUMA:
            first = {node: numa.index(node) for node in numa if node is not None}
            joined = ((first[node], position) for position, node in enumerate(numa) if node is not None)
    return _joined(len(numa), joined)


def wires_of(devices: Sequence[Device]) -> tuple[Wire, ...]:
    """Lay the links of a node's devices out by position; links to devices that are gone are left out."""
    position = {device.uuid: number for number, device in enumerate(devices)}
    return tuple(
        Wire(number, position[link.peer], link.nvlinks, link.ancestor)
        for number, device in enumerate(devices)
        for link in device.peers
        if link.peer in position
    )


def _joined(size: int, pairs: Iterable[tuple[int, int]]) -> Groups:
    group_of = [{number} for number in range(size)]
    for left, right in pairs:
        if group_of[left] is not group_of[right]:
            both = group_of[left] | group_of[right]
            for member in both:
                group_of[member] = both
    unique = {min(group): tuple(sorted(group)) for group in group_of}
    return tuple(unique[first] for first in sorted(unique))
