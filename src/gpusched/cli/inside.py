"""What is inside a node as a tree: NVLink islands, sockets, PCIe switches, GPUs and their MIG slices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

from gpusched.cli.quantities import show_size
from gpusched.domain.inside import InsideLevel, groups_of, wires_of
from gpusched.domain.node import Device, NodeFacts

_NAMES = {InsideLevel.NVLINK: "NVLink island", InsideLevel.NUMA: "NUMA node", InsideLevel.PCIE: "PCIe switch"}


@dataclass(frozen=True, slots=True)
class Part:
    """One group of devices, or a device; ``name`` is unique in its node."""

    name: str
    label: str
    inside: tuple[Part, ...] = ()


def inside_of(facts: NodeFacts) -> tuple[Part, ...]:
    """Cut a node's devices into islands, these into sockets, these into switches, these into devices.

    A level that tells nothing apart is left out.
    """
    return tuple(_parts(facts, tuple(range(len(facts.devices))), tuple(InsideLevel), ""))


def _parts(
    facts: NodeFacts, members: tuple[int, ...], levels: tuple[InsideLevel, ...], above: str
) -> Iterator[Part]:
    if not levels:
        yield from _devices(facts, members)
        return
    level, *rest = levels
    numa = [device.numa_node for device in facts.devices]
    groups = [
        kept
        for group in groups_of(level, numa, wires_of(facts.devices))
        if (kept := tuple(member for member in group if member in members))
    ]
    if all(len(group) == 1 for group in groups) or (len(groups) == 1 and level is not InsideLevel.NVLINK):
        yield from _parts(facts, members, tuple(rest), above)
        return
    for number, group in enumerate(groups):
        name = f"{above}/{level}{number}"
        inside = tuple(_parts(facts, group, tuple(rest), name))
        yield Part(name, f"{_NAMES[level]} {number}{_slowest(facts, group)}", inside)


def _slowest(facts: NodeFacts, group: tuple[int, ...]) -> str:
    """The slowest pair of a group decides the pace of a ring over it."""
    devices = [facts.devices[member] for member in group]
    speeds = {(device.uuid, link.peer): link.bandwidth_mb_s for device in devices for link in device.peers}
    pairs = [speeds.get((left.uuid, right.uuid), 0) for left, right in combinations(devices, 2)]
    return f" ({min(pairs) / 1000:g} GB/s)" if pairs and min(pairs) > 0 else ""


def _devices(facts: NodeFacts, members: tuple[int, ...]) -> Iterator[Part]:
    """Devices, and the slices of a GPU under that GPU."""
    slices: dict[str, list[Part]] = {}
    for member in members:
        device = facts.devices[member]
        if device.mig_parent is not None:
            slices.setdefault(device.mig_parent, []).append(Part(device.uuid, _label(device)))
    for member in members:
        device = facts.devices[member]
        if device.mig_parent is None:
            yield Part(device.uuid, _label(device))
        elif device.mig_parent in slices:
            cut = slices.pop(device.mig_parent)
            yield Part(device.mig_parent, f"{device.mig_parent}  cut into MIG slices", tuple(cut))


def _label(device: Device) -> str:
    memory = "" if device.memory_bytes is None else f"  {show_size(device.memory_bytes)}"
    what = device.model if device.mig_profile is None else f"MIG {device.mig_profile}"
    return f"{device.uuid}  {what}{memory}{'  (declared)' if device.declared else ''}"
