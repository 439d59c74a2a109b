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
from gpusched.placement.columns import KeptScores, Scoring
from gpusched.placement.inventory import IntColumn, Inventory, build_inventory, cpu_set
from gpusched.placement.mix import NOTHING_KNOWN, RequestMix
from gpusched.placement.packing import Packing
from gpusched.placement.placement import Counts, NodePlacement

_STAMPS = count(1)


class ClusterSnapshot:
    """Free columns over N nodes and their G devices, beside the fixed ones of ``inventory``.

    ``copy`` is the undo: try on a copy, keep or drop it. Only ``take`` and ``give_back``, and their
    like for licences, change a snapshot, each wholly or not at all.

    Attributes:
        generation: The change counter of the cluster that this shows.
        inventory: The fixed columns, shared by all copies.
        gpus_free: (N,) devices that are wholly free.
        gpus_free_by_class: (C, N) wholly free devices of each class.
        cpus_free: (N,) free CPUs.
        cpu_bits_free: Per node, the free CPUs as an integer: bit i stands for CPU i.
        memory_free: (N,) bytes of host memory nobody holds.
        milli_free: (N, G) thousandths of each device that nobody holds: 1000 for a whole one, 0 where
            there is no device, or it is out of service.
        counters_free: (K, N) of what ``inventory.counters`` names.
        licenses_free: Of the whole cluster, by name; below zero where an operator took away what is held.
        stamps: (N,) a number that a row gets anew with every change: equal stamps, equal rows, also
            between copies.
        mix: What is usually asked for; nodes are scored by what they leave to it.
        scores: How nodes are scored, shared by all copies.
    """

    __slots__ = (
        "counters_free",
        "cpu_bits_free",
        "cpus_free",
        "generation",
        "gpus_free",
        "gpus_free_by_class",
        "inventory",
        "licenses_free",
        "memory_free",
        "milli_free",
        "mix",
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
        counters_free: IntColumn,
        cpu_bits_free: list[int],
        licenses_free: dict[str, int],
        stamps: IntColumn,
        mix: RequestMix,
        scores: KeptScores,
    ) -> None:
        self.inventory = inventory
        self.generation = generation
        self.milli_free = milli_free
        self.gpus_free_by_class = gpus_free_by_class
        self.gpus_free = gpus_free
        self.cpus_free = cpus_free
        self.memory_free = memory_free
        self.counters_free = counters_free
        self.cpu_bits_free = cpu_bits_free
        self.licenses_free = licenses_free
        self.stamps = stamps
        self.mix = mix
        self.scores = scores

    @classmethod
    def of(
        cls,
        nodes: Iterable[Node],
        partitions: Partitions,
        generation: int,
        topology: Topology | None = None,
        licenses: Counts = (),
    ) -> ClusterSnapshot:
        """Show these nodes with nothing running on them, in the order of their names.

        Raises:
            ConfigInvalid: Two nodes have one name, or two devices of a node one UUID.
        """
        inventory = build_inventory(nodes, partitions, topology or Topology(), licenses)
        return cls(
            inventory,
            generation,
            milli_free=inventory.milli_total.copy(),
            gpus_free_by_class=inventory.gpus_in_service.copy(),
            gpus_free=inventory.gpus_in_service.sum(axis=0),
            cpus_free=inventory.cpus_total.copy(),
            memory_free=inventory.memory_total.copy(),
            counters_free=inventory.counters_total.copy(),
            cpu_bits_free=list(inventory.cpu_bits),
            licenses_free=dict(inventory.licenses),
            stamps=np.zeros(len(inventory.names), dtype=np.int64),
            mix=NOTHING_KNOWN,
            scores=KeptScores(len(inventory.names), Packing(inventory, NOTHING_KNOWN)),
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
            counters_free=self.counters_free.copy(),
            cpu_bits_free=self.cpu_bits_free.copy(),
            licenses_free=self.licenses_free.copy(),
            stamps=self.stamps.copy(),
            mix=self.mix,
            scores=self.scores,
        )

    def detached(self) -> ClusterSnapshot:
        """Return a copy for another thread: not even the kept scores, which are written, are shared."""
        alone = self.copy()
        alone.score_by(Packing(self.inventory, self.mix))
        return alone

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
            if (free := self.milli_free[node, column]) < part.gpu_milli:
                shares = (
                    "" if part.gpu_milli == WHOLE_MILLI else f" ({free} of {WHOLE_MILLI} thousandths are)"
                )
                raise StalePlan(f"device {uuid} of node {part.node} is not free{shares}: plan again")
        wanted = self._own_cpus(part, node)
        if busy := wanted & ~self.cpu_bits_free[node]:
            raise StalePlan(f"CPU {_lowest_cpu(busy)} of node {part.node} is not free: plan again")
        if part.memory_bytes > self.memory_free[node]:
            raise StalePlan(
                f"node {part.node} has {self.memory_free[node]} bytes of memory free, "
                f"not {part.memory_bytes}: plan again"
            )
        for name, amount in part.counters:
            if (free := self.counter_free(name, node)) < amount:
                raise StalePlan(f"node {part.node} has {free} of {name} free, not {amount}: plan again")
        self._move(part, node, columns, sign=-1)

    def give_back(self, part: NodePlacement) -> None:
        """Free what ``take`` held: after both, the snapshot is as it was before.

        Raises:
            StalePlan: The node, a device or a CPU is gone, or is free already. Nothing is given back.
        """
        node, columns = self._locate(part)
        for uuid, column in zip(part.devices, columns, strict=True):
            if self.milli_free[node, column] + part.gpu_milli > WHOLE_MILLI:
                raise StalePlan(f"device {uuid} of node {part.node} is free already: nobody holds it")
        held = self._own_cpus(part, node)
        if free := held & self.cpu_bits_free[node]:
            raise StalePlan(f"CPU {_lowest_cpu(free)} of node {part.node} is free already: nobody holds it")
        if self.memory_free[node] + part.memory_bytes > self.inventory.memory_total[node]:
            raise StalePlan(f"node {part.node} never lent {part.memory_bytes} bytes of memory")
        for name, amount in part.counters:
            total = self.inventory.amounts_of(name, self.inventory.counters_total)[node]
            if self.counter_free(name, node) + amount > total:
                raise StalePlan(f"node {part.node} never lent {amount} of {name}")
        self._move(part, node, columns, sign=1)

    def counter_free(self, name: str, node: int) -> int:
        """How much of a counter is free on one node."""
        return int(self.inventory.amounts_of(name, self.counters_free)[node])

    def take_licenses(self, licenses: Counts) -> None:
        """Hold licences of the cluster.

        Raises:
            StalePlan: Too few of one are free. None is taken.
        """
        for name, amount in licenses:
            if (free := self.licenses_free.get(name, 0)) < amount:
                raise StalePlan(f"of licence {name} {free} are free, not {amount}: plan again")
        self.owe_licenses(licenses)

    def owe_licenses(self, licenses: Counts) -> None:
        """Hold licences that were granted when there were enough, though there may be too few by now."""
        for name, amount in licenses:
            self.licenses_free[name] = self.licenses_free.get(name, 0) - amount

    def give_back_licenses(self, licenses: Counts) -> None:
        """Free what ``take_licenses`` or ``owe_licenses`` held."""
        for name, amount in licenses:
            self.licenses_free[name] += amount

    def has_licenses(self, licenses: Counts) -> bool:
        """Tell whether so many are free."""
        return all(self.licenses_free.get(name, 0) >= amount for name, amount in licenses)

    def stamp(self, rows: int | IntColumn) -> None:
        """Mark rows as changed; whoever writes a column calls it."""
        self.stamps[rows] = next(_STAMPS)

    def expect(self, mix: RequestMix) -> None:
        """Score from now on by what nodes leave to this mix; copies made before keep theirs."""
        if mix is not self.mix and mix != self.mix:
            self.mix = mix
            self.score_by(Packing(self.inventory, mix))

    def score_by(self, scoring: Scoring) -> None:
        """Choose nodes from now on by these scores; copies made before keep theirs."""
        self.scores = KeptScores(len(self.names), scoring)

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

    def _move(self, part: NodePlacement, node: int, columns: list[int], *, sign: int) -> None:
        milli = self.milli_free[node]
        for column in columns:
            was_whole = milli[column] == WHOLE_MILLI
            milli[column] += sign * part.gpu_milli
            if was_whole or milli[column] == WHOLE_MILLI:
                self.gpus_free_by_class[self.inventory.device_class[node, column], node] += sign
                self.gpus_free[node] += sign
        cpus = cpu_set(part.cpu_ids)
        self.cpus_free[node] += sign * cpus.bit_count()
        self.cpu_bits_free[node] ^= cpus
        self.memory_free[node] += sign * part.memory_bytes
        for name, amount in part.counters:
            self.counters_free[self.inventory.counters.index(name), node] += sign * amount
        self.stamp(node)


def _column_of(uuid: DeviceUuid, here: tuple[DeviceUuid, ...], part: NodePlacement) -> int:
    if uuid not in here:
        raise StalePlan(f"device {uuid} of node {part.node} is gone: plan again")
    if part.devices.count(uuid) > 1:
        raise StalePlan(f"device {uuid} of node {part.node} is named twice in one placement")
    return here.index(uuid)


def _lowest_cpu(bits: int) -> int:
    return (bits & -bits).bit_length() - 1
