"""What is free, at one generation of the cluster: the value every decision is made on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count

import numpy as np

from gpusched.domain.errors import StalePlan
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.node import WHOLE_MILLI, Node
from gpusched.domain.partition import Partitions
from gpusched.domain.topology import Topology
from gpusched.placement.columns import KeptScores
from gpusched.placement.inventory import IntColumn, Inventory, build_inventory, cpu_set
from gpusched.placement.mix import NOTHING_KNOWN, RequestMix
from gpusched.placement.placement import NodePlacement

_STAMPS = count(1)


class ClusterSnapshot:
    """Free columns over N nodes and their G devices, beside the fixed ones of ``inventory``.

    ``copy`` is the undo: try on a copy, keep or drop it. Only ``take`` and ``give_back`` change a
    snapshot, each wholly or not at all.

    Attributes:
        generation: The change counter of the cluster that this shows.
        inventory: The fixed columns, shared by all copies.
        gpus_free: (N,) free devices.
        gpus_free_by_class: (C, N) free devices of each class.
        cpus_free: (N,) free CPUs.
        cpu_bits_free: Per node, the free CPUs as an integer: bit i stands for CPU i.
        memory_free: (N,) bytes of host memory nobody holds.
        milli_free: (N, G) thousandths of each device that nobody holds: 1000 for a whole one, 0 where
            there is no device.
        stamps: (N,) a number that a row gets anew with every change: equal stamps, equal rows, also
            between copies.
        scores: How nodes are scored, shared by all copies.
    """

    __slots__ = (
        "cpu_bits_free",
        "cpus_free",
        "generation",
        "gpus_free",
        "gpus_free_by_class",
        "inventory",
        "memory_free",
        "milli_free",
        "scores",
        "stamps",
    )

    def __init__(
        self,
        inventory: Inventory,
        generation: int,
        *,
        milli_free: IntColumn,
        gpus_free_by_class: IntColumn,
        gpus_free: IntColumn,
        cpus_free: IntColumn,
        memory_free: IntColumn,
        cpu_bits_free: list[int],
        stamps: IntColumn,
        scores: KeptScores,
    ) -> None:
        self.inventory = inventory
        self.generation = generation
        self.milli_free = milli_free
        self.gpus_free_by_class = gpus_free_by_class
        self.gpus_free = gpus_free
        self.cpus_free = cpus_free
        self.memory_free = memory_free
        self.cpu_bits_free = cpu_bits_free
        self.stamps = stamps
        self.scores = scores

    @classmethod
    def of(
        cls,
        nodes: Iterable[Node],
        partitions: Partitions,
        generation: int,
        topology: Topology | None = None,
    ) -> ClusterSnapshot:
        """Show these nodes with nothing running on them, in the order of their names.

        Raises:
            ConfigInvalid: Two nodes have one name, or two devices of a node one UUID.
        """
        inventory = build_inventory(nodes, partitions, topology or Topology())
        return cls(
            inventory,
            generation,
            milli_free=np.where(inventory.device_class < len(inventory.classes), WHOLE_MILLI, 0),
            gpus_free_by_class=inventory.gpus_by_class.copy(),
            gpus_free=inventory.gpus_total.copy(),
            cpus_free=inventory.cpus_total.copy(),
            memory_free=inventory.memory_total.copy(),
            cpu_bits_free=list(inventory.cpu_bits),
            stamps=np.zeros(len(inventory.names), dtype=np.int64),
            scores=KeptScores(inventory, NOTHING_KNOWN),
        )

    def copy(self) -> ClusterSnapshot:
        """Return a snapshot that changes on its own. O(N·G) bytes; the fixed columns are shared."""
        return ClusterSnapshot(
            self.inventory,
            self.generation,
            milli_free=self.milli_free.copy(),
            gpus_free_by_class=self.gpus_free_by_class.copy(),
            gpus_free=self.gpus_free.copy(),
            cpus_free=self.cpus_free.copy(),
            memory_free=self.memory_free.copy(),
            cpu_bits_free=self.cpu_bits_free.copy(),
            stamps=self.stamps.copy(),
            scores=self.scores,
        )

    @property
    def names(self) -> tuple[NodeName, ...]:
        """Node names; position i is row i of every column."""
        return self.inventory.names

    @property
    def index(self) -> Mapping[NodeName, int]:
        """Row of each node."""
        return self.inventory.index

    def take(self, part: NodePlacement) -> None:
        """Hold one node's part of a placement.

        Raises:
            StalePlan: The node, a device, a CPU or the memory is gone or not free. Nothing is taken.
        """
        node, columns = self._locate(part)
        for uuid, column in zip(part.devices, columns, strict=True):
            if self.milli_free[node, column] < WHOLE_MILLI:
                raise StalePlan(f"device {uuid} of node {part.node} is not free: plan again")
        wanted = self._own_cpus(part, node)
        if busy := wanted & ~self.cpu_bits_free[node]:
            raise StalePlan(f"CPU {_lowest_cpu(busy)} of node {part.node} is not free: plan again")
        if part.memory_bytes > self.memory_free[node]:
            raise StalePlan(
                f"node {part.node} has {self.memory_free[node]} bytes of memory free, "
                f"not {part.memory_bytes}: plan again"
            )
        self._move(node, columns, wanted, part.memory_bytes, sign=-1)

    def give_back(self, part: NodePlacement) -> None:
        """Free what ``take`` held: after both, the snapshot is as it was before.

        Raises:
            StalePlan: The node, a device or a CPU is gone, or is free already. Nothing is given back.
        """
        node, columns = self._locate(part)
        for uuid, column in zip(part.devices, columns, strict=True):
            if self.milli_free[node, column] == WHOLE_MILLI:
                raise StalePlan(f"device {uuid} of node {part.node} is free already: nobody holds it")
        held = self._own_cpus(part, node)
        if free := held & self.cpu_bits_free[node]:
            raise StalePlan(f"CPU {_lowest_cpu(free)} of node {part.node} is free already: nobody holds it")
        if self.memory_free[node] + part.memory_bytes > self.inventory.memory_total[node]:
            raise StalePlan(f"node {part.node} never lent {part.memory_bytes} bytes of memory")
        self._move(node, columns, held, part.memory_bytes, sign=1)

    def stamp(self, rows: int | IntColumn) -> None:
        """Mark rows as changed; whoever writes a column calls it."""
        self.stamps[rows] = next(_STAMPS)

    def expect(self, mix: RequestMix) -> None:
        """Score from now on by what nodes leave to this mix; copies made before keep theirs."""
        if mix is not self.scores.mix and mix != self.scores.mix:
            self.scores = KeptScores(self.inventory, mix)

    def _locate(self, part: NodePlacement) -> tuple[int, list[int]]:
        node = self.index.get(part.node)
        if node is None:
            raise StalePlan(f"node {part.node} is gone: plan again")
        here = self.inventory.uuids[node]
        return node, [_column_of(uuid, here, part) for uuid in part.devices]

    def _own_cpus(self, part: NodePlacement, node: int) -> int:
        bits = cpu_set(part.cpu_ids)
        if foreign := bits & ~self.inventory.cpu_bits[node]:
            raise StalePlan(f"node {part.node} has no CPU {_lowest_cpu(foreign)} (any more): plan again")
        if bits.bit_count() < len(part.cpu_ids):
            raise StalePlan(f"a CPU of node {part.node} is named twice in one placement")
        return bits

    def _move(self, node: int, columns: list[int], cpus: int, memory_bytes: int, *, sign: int) -> None:
        for column in columns:
            self.milli_free[node, column] += sign * WHOLE_MILLI
            self.gpus_free_by_class[self.inventory.device_class[node, column], node] += sign
        self.gpus_free[node] += sign * len(columns)
        self.cpus_free[node] += sign * cpus.bit_count()
        self.cpu_bits_free[node] ^= cpus
        self.memory_free[node] += sign * memory_bytes
        self.stamp(node)


def _column_of(uuid: DeviceUuid, here: tuple[DeviceUuid, ...], part: NodePlacement) -> int:
    if uuid not in here:
        raise StalePlan(f"device {uuid} of node {part.node} is gone: plan again")
    if part.devices.count(uuid) > 1:
        raise StalePlan(f"device {uuid} of node {part.node} is named twice in one placement")
    return here.index(uuid)


def _lowest_cpu(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
