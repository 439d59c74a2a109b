"""What the nodes are, whether or not it is free: columns that copies of a snapshot share.

N nodes in the order of their names, G devices on the largest node, C device classes (one per model,
memory size, MIG profile and whether it is shareable), K counters (disk, and whatever agents count). A
node with fewer devices has the class number C in the columns it lacks; no request matches that class.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gpusched.domain.errors import ConfigInvalid
from gpusched.domain.health import FAULTS_KEPT_US
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.inside import Groups, InsideLevel, Wire, groups_of
from gpusched.domain.node import WHOLE_MILLI, Device, Node, NodeFacts, PciAncestor, Schedulability
from gpusched.domain.partition import Partitions
from gpusched.domain.topology import Topology
from gpusched.placement.placement import Counts
from gpusched.placement.request import NodeRequest, counters_of, is_model_match
from gpusched.placement.tree import BoolColumn, IntColumn, Tree, build_tree

__all__ = ["BoolColumn", "DeviceClass", "DeviceShape", "IntColumn", "Inventory", "build_inventory", "cpu_set"]

_DISTANCES = {ancestor: distance for distance, ancestor in enumerate(PciAncestor)}
_FARTHEST = _DISTANCES[PciAncestor.SYSTEM]
_MASKS_KEPT = 1024


@dataclass(frozen=True, slots=True)
class DeviceClass:
    """Devices that no request tells apart. Memory None: it could not be read; profile None: a whole GPU."""

    model: str
    memory_bytes: int | None
    mig_profile: str | None = None
    shareable: bool = False

    def suits(self, request: NodeRequest) -> bool:
        """Tell whether a device of this class is of the kind asked for."""
        return (
            self.mig_profile == request.mig_profile
            and (self.shareable or request.gpu_milli == WHOLE_MILLI)
            and (request.gpu_model is None or is_model_match(request.gpu_model, self.model))
            and (request.gpu_memory_bytes is None or self.has_memory(request.gpu_memory_bytes))
        )

    def has_memory(self, wanted_bytes: int) -> bool:
        """Tell whether it is known to have so much memory."""
        return self.memory_bytes is not None and self.memory_bytes >= wanted_bytes


@dataclass(frozen=True, slots=True, eq=False)
class DeviceShape:
    """How the G devices of one kind of node are wired; all nodes wired alike share one object.

    Sets of CPUs are integers: bit i stands for CPU i.
    """

    bandwidth_mb_s: NDArray[np.float64]  # (G, G), symmetric: the slower direction; 0 if unknown
    distance: NDArray[np.float64]  # (G, G), place in PciAncestor; by NUMA node if unknown
    numa: tuple[int | None, ...]  # (G,)
    near_cpus: tuple[int, ...]  # (G,) CPUs near each device, 0 if unknown
    numa_cpus: tuple[int, ...]  # CPUs of each NUMA node
    groups: Mapping[InsideLevel, Groups]  # of device columns


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inventory:
    """The fixed columns of a cluster. Rebuilt when a node joins, leaves or changes."""

    names: tuple[NodeName, ...]
    index: Mapping[NodeName, int]
    partitions: Mapping[str, BoolColumn]  # name -> (N,) members
    default_partition: str
    classes: tuple[DeviceClass, ...]
    shareable_classes: BoolColumn  # (C+1,); the last, "no device", is not
    uuids: tuple[tuple[DeviceUuid, ...], ...]  # per node, by device column
    shapes: tuple[DeviceShape, ...]  # per node
    device_class: NDArray[np.int64]  # (N, G); C where there is no device
    gpus_by_class: IntColumn  # (C, N)
    gpus_total: IntColumn  # (N,)
    gpus_in_service: IntColumn  # (C, N) those that are not out
    milli_total: IntColumn  # (N, G) 1000 for each device, 0 where there is none or it is out
    cpu_bits: tuple[int, ...]  # per node, schedulable CPUs
    cpus_total: IntColumn  # (N,)
    cpus_most: int  # of one node
    memory_total: IntColumn  # (N,) bytes
    counters: tuple[str, ...]  # (K,) names, see ``request.counters_of``
    counters_total: IntColumn  # (K, N)
    licenses: Mapping[str, int]  # of the whole cluster
    reachable: BoolColumn  # (N,)
    open: BoolColumn  # (N,) neither cordoned nor draining nor drained
    faults: IntColumn  # (N,) failures of the node's own on record within 28 days of the newest one anywhere
    tree: Tree  # how the nodes hang together; without levels if nothing is known
    masks: dict[NodeRequest, BoolColumn] = field(default_factory=dict)  # memo of ``fit.fit_empty``
    matching: dict[object, BoolColumn] = field(default_factory=dict)  # memo of ``matching_classes``

    def members(self, partition: str | None) -> BoolColumn:
        """(N,) nodes of a partition, of the default one for None; none if there is no such partition."""
        name = self.default_partition if partition is None else partition
        return self.partitions.get(name, np.zeros(len(self.names), dtype=bool))

    def matching_classes(self, request: NodeRequest) -> BoolColumn:
        """(C+1,) device classes of the kind asked for; the last, "no device", never is. Read-only."""
        kind = (request.gpu_model, request.gpu_memory_bytes, request.mig_profile, request.gpu_milli)
        if (matching := self.matching.get(kind)) is None:
            matching = np.array([known.suits(request) for known in self.classes] + [False])
            matching.setflags(write=False)
            if len(self.matching) >= _MASKS_KEPT:
                self.matching.clear()
            self.matching[kind] = matching
        return matching

    def amounts_of(self, counter: str, amounts: IntColumn) -> IntColumn:
        """(M,) the row of a counter in (K, M) ``amounts``; zeros where no node has such a thing."""
        if counter not in self.counters:
            return np.zeros(amounts.shape[1], dtype=np.int64)
        row: IntColumn = amounts[self.counters.index(counter)]
        return row

    def remember_mask(self, request: NodeRequest, mask: BoolColumn) -> None:
        """Keep a mask that only the fixed columns decide, within a bound."""
        if len(self.masks) >= _MASKS_KEPT:
            self.masks.clear()
        mask.setflags(write=False)
        self.masks[request] = mask


def build_inventory(
    nodes: Iterable[Node], partitions: Partitions, topology: Topology, licenses: Counts
) -> Inventory:
    """Lay the nodes out as columns, in the order of their names.

    Raises:
        ConfigInvalid: Two nodes have one name, or two devices of a node one UUID.
    """
    known = sorted(nodes, key=lambda node: node.name)
    _check_unique(known)
    facts = [node.facts for node in known]
    names = tuple(node.name for node in known)
    classes, device_class = _classify([f.devices for f in facts])
    in_service = _in_service(known, device_class < len(classes))
    gpus_by_class = _count_by_class(device_class, len(classes))
    counters, counters_total = _count(facts)
    return Inventory(
        names=names,
        index={name: position for position, name in enumerate(names)},
        partitions={
            partition.name: np.array([partition.holds(name) for name in names], dtype=bool)
            for partition in partitions.all
        },
        default_partition=partitions.all[0].name,
        classes=classes,
        shareable_classes=np.array([*(known.shareable for known in classes), False]),
        uuids=tuple(tuple(device.uuid for device in f.devices) for f in facts),
        shapes=tuple(_shape_of(f) for f in facts),
        device_class=device_class,
        gpus_by_class=gpus_by_class,
        milli_total=np.where(in_service, WHOLE_MILLI, 0),
        gpus_total=np.array([len(f.devices) for f in facts], dtype=np.int64),
        gpus_in_service=_count_by_class(np.where(in_service, device_class, len(classes)), len(classes)),
        cpu_bits=tuple(cpu_set(f.cpu_ids) for f in facts),
        cpus_total=np.array([len(f.cpu_ids) for f in facts], dtype=np.int64),
        cpus_most=max((len(f.cpu_ids) for f in facts), default=0),
        memory_total=np.array([f.memory_bytes for f in facts], dtype=np.int64),
        counters=counters,
        counters_total=counters_total,
        licenses=dict(licenses),
        reachable=np.array([node.reachable for node in known], dtype=bool),
        open=np.array([node.schedulability is Schedulability.OPEN for node in known], dtype=bool),
        faults=_count_faults(known),
        tree=_tree(topology.place({f.name: dict(f.labels) for f in facts}), names),
    )


def _count_by_class(device_class: NDArray[np.int64], classes: int) -> IntColumn:
    counts = [(device_class == number).sum(axis=1) for number in range(classes)]
    return np.array(counts, dtype=np.int64).reshape(classes, len(device_class))


def _in_service(nodes: Sequence[Node], fitted: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(N, G) the fitted devices but for those that are out."""
    in_service = fitted.copy()
    for row, node in enumerate(nodes):
        if out := node.health.devices_out:
            for column, device in enumerate(node.facts.devices):
                in_service[row, column] &= device.uuid not in out
    return in_service


def _count_faults(nodes: Sequence[Node]) -> IntColumn:
    """(N,) failures within 28 days of the newest: there is no clock here, and for ties that will do."""
    newest_us = max((fault_us for node in nodes for fault_us in node.health.faults_at_us), default=0)
    recent = (
        sum(fault_us > newest_us - FAULTS_KEPT_US for fault_us in node.health.faults_at_us) for node in nodes
    )
    return np.fromiter(recent, dtype=np.int64, count=len(nodes))


@lru_cache(maxsize=4)
def _tree(topology: Topology, names: tuple[NodeName, ...]) -> Tree:
    # Nodes come, go and change far more often than their places: the cache spares a rebuild.
    paths = {place.node: place.path for place in topology.nodes}
    bandwidths = tuple(level.bandwidth_mb_s for level in topology.levels)
    where = [paths.get(name) if topology.levels else None for name in names]
    return build_tree(topology.level_names, where, bandwidths)


@lru_cache(maxsize=65536)
def cpu_set(cpu_ids: tuple[int, ...]) -> int:
    """The set of these CPUs as an integer: bit i stands for CPU i."""
    bits = 0
    for cpu in cpu_ids:
        bits |= 1 << cpu
    return bits


def _check_unique(nodes: Sequence[Node]) -> None:
    for left, right in pairwise(nodes):
        if left.name == right.name:
            raise ConfigInvalid(f"two nodes are named {left.name}: give one of them another name")
    for node in nodes:
        if len({device.uuid for device in node.facts.devices}) < len(node.facts.devices):
            raise ConfigInvalid(f"node {node.name} reports two devices of one UUID: restart its agent")


def _classify(devices: Sequence[tuple[Device, ...]]) -> tuple[tuple[DeviceClass, ...], NDArray[np.int64]]:
    # Tuples, as making a DeviceClass for each of 80,000 devices would be dear.
    numbers: dict[tuple[str, int | None, str | None, bool], int] = {}
    rows = [
        [
            numbers.setdefault(
                (device.model, device.memory_bytes, device.mig_profile, device.shareable), len(numbers)
            )
            for device in row
        ]
        for row in devices
    ]
    widest = max(map(len, rows), default=0)
    absent = len(numbers)
    padded = [row + [absent] * (widest - len(row)) for row in rows]
    classes = tuple(DeviceClass(*key) for key in numbers)
    return classes, np.array(padded, dtype=np.int64).reshape(len(rows), widest)


def _count(facts: Sequence[NodeFacts]) -> tuple[tuple[str, ...], IntColumn]:
    counted = [dict(counters_of(f.disk_bytes or 0, f.gres)) for f in facts]
    names = tuple(sorted({name for counts in counted for name in counts}))
    totals = [[counts.get(name, 0) for counts in counted] for name in names]
    return names, np.array(totals, dtype=np.int64).reshape(len(names), len(facts))


def _shape_of(facts: NodeFacts) -> DeviceShape:
    columns = {device.uuid: column for column, device in enumerate(facts.devices)}
    numa = tuple(device.numa_node for device in facts.devices)
    near = tuple(_near_cpus(device, facts) for device in facts.devices)
    links = tuple(
        (column, columns[link.peer], link.nvlinks, link.ancestor, link.bandwidth_mb_s)
        for column, device in enumerate(facts.devices)
        for link in device.peers
        if link.peer in columns
    )
    return _shape(numa, near, tuple(map(cpu_set, facts.numa_cpu_ids)), links)


def _near_cpus(device: Device, facts: NodeFacts) -> int:
    if device.cpu_ids:
        return cpu_set(device.cpu_ids)
    if device.numa_node is not None and 0 <= device.numa_node < len(facts.numa_cpu_ids):
        return cpu_set(facts.numa_cpu_ids[device.numa_node])
    return 0


@lru_cache(maxsize=1024)
def _shape(
    numa: tuple[int | None, ...],
    near_cpus: tuple[int, ...],
    numa_cpus: tuple[int, ...],
    links: tuple[tuple[int, int, int, PciAncestor | None, int], ...],
) -> DeviceShape:
    # The cache is what makes nodes wired alike share one object, and with it every memo on it. Links are
    # plain tuples (source, target, NVLinks, ancestor, MB/s): half a million are hashed for 10,000 nodes.
    size = len(numa)
    bandwidth = np.zeros((size, size))
    distance = np.array(
        [[0 if here == there else _FARTHEST for there in numa] for here in numa], dtype=np.float64
    ).reshape(size, size)
    for source, target, _, ancestor, bandwidth_mb_s in links:
        bandwidth[source, target] = bandwidth_mb_s
        if ancestor is not None:
            distance[source, target] = _DISTANCES[ancestor]
    np.fill_diagonal(bandwidth, 0)
    np.fill_diagonal(distance, 0)
    bandwidth, distance = np.minimum(bandwidth, bandwidth.T), np.maximum(distance, distance.T)
    bandwidth.setflags(write=False)
    distance.setflags(write=False)
    wires = [Wire(source, target, nvlinks, ancestor) for source, target, nvlinks, ancestor, _ in links]
    groups = {level: groups_of(level, numa, wires) for level in InsideLevel}
    return DeviceShape(bandwidth, distance, numa, near_cpus, numa_cpus, groups)
