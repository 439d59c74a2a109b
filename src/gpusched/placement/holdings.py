"""What jobs hold, as rows and columns of a snapshot: many parts are given back at once.

``ClusterSnapshot.give_back`` looks up every name; that is right where a grant ends. A forecast gives
back thousands of parts it has given back before, on copies: here the names are looked up once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from gpusched.domain.node import WHOLE_MILLI
from gpusched.placement.inventory import IntColumn, Inventory, cpu_set
from gpusched.placement.placement import Counts, NodePlacement
from gpusched.placement.snapshot import ClusterSnapshot


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """P parts and their K devices, on one inventory."""

    nodes: IntColumn  # (P,) rows
    memory: IntColumn  # (P,) bytes
    cpu_bits: tuple[int, ...]  # (P,) CPUs as integers: bit i stands for CPU i
    device_nodes: IntColumn  # (K,) rows
    device_columns: IntColumn  # (K,)
    device_milli: IntColumn  # (K,) thousandths of each
    counters: tuple[tuple[int, int, int], ...]  # (row of the counter, node, amount)
    licenses: Counts  # of the whole cluster


def hold(inventory: Inventory, parts: Iterable[NodePlacement], licenses: Counts = ()) -> Holding:
    """Look up parts; one with a node, device or CPU that is gone is left out: nothing comes free there.

    Args:
        inventory: Whose rows and columns are wanted.
        parts: What a job holds on nodes.
        licenses: What it holds of the whole cluster; those that are gone are left out.
    """
    found = [
        (row, part, [here.index(uuid) for uuid in part.devices])
        for part in parts
        if (row := inventory.index.get(part.node)) is not None
        and set(part.devices) <= set(here := inventory.uuids[row])
        and not cpu_set(part.cpu_ids) & ~inventory.cpu_bits[row]
    ]
    nodes = _column(row for row, _, _ in found)
    devices = _column(len(columns) for _, _, columns in found)
    return Holding(
        nodes=nodes,
        memory=_column(part.memory_bytes for _, part, _ in found),
        cpu_bits=tuple(cpu_set(part.cpu_ids) for _, part, _ in found),
        device_nodes=np.repeat(nodes, devices),
        device_columns=_column(chain.from_iterable(columns for _, _, columns in found)),
        device_milli=np.repeat(_column(part.gpu_milli for _, part, _ in found), devices),
        counters=tuple(
            (inventory.counters.index(name), row, amount)
            for row, part, _ in found
            for name, amount in part.counters
            if name in inventory.counters
        ),
        licenses=tuple(item for item in licenses if item[0] in inventory.licenses),
    )


def give_back(snapshot: ClusterSnapshot, holdings: Sequence[Holding]) -> None:
    """Free what ``holdings`` hold. O(N·G + P + K), and O(1) per holding.

    What is free already stays so, nothing gets more than it has, and a device that is out stays so.
    """
    if not holdings:
        return
    nodes = np.concatenate([holding.nodes for holding in holdings])
    np.add.at(snapshot.memory_free, nodes, np.concatenate([holding.memory for holding in holdings]))
    np.minimum(snapshot.memory_free, snapshot.inventory.memory_total, out=snapshot.memory_free)
    snapshot.stamp(nodes)
    _give_back_cpus(snapshot, nodes.tolist(), chain.from_iterable(holding.cpu_bits for holding in holdings))
    _give_back_devices(snapshot, holdings)
    for counter, node, amount in chain.from_iterable(holding.counters for holding in holdings):
        free = snapshot.counters_free[counter, node] + amount
        snapshot.counters_free[counter, node] = min(free, snapshot.inventory.counters_total[counter, node])
    for name, count in chain.from_iterable(holding.licenses for holding in holdings):
        total = snapshot.inventory.licenses[name]
        snapshot.licenses_free[name] = min(snapshot.licenses_free[name] + count, total)


def _give_back_devices(snapshot: ClusterSnapshot, holdings: Sequence[Holding]) -> None:
    inventory = snapshot.inventory
    places = (
        np.concatenate([holding.device_nodes for holding in holdings]),
        np.concatenate([holding.device_columns for holding in holdings]),
    )
    was_whole = snapshot.milli_free == WHOLE_MILLI
    np.add.at(snapshot.milli_free, places, np.concatenate([holding.device_milli for holding in holdings]))
    np.minimum(snapshot.milli_free, inventory.milli_total, out=snapshot.milli_free)
    # Several shares of one device may end together: it counts once, when the last of them is back.
    nodes, columns = np.nonzero((snapshot.milli_free == WHOLE_MILLI) & ~was_whole)
    np.add.at(snapshot.gpus_free_by_class, (inventory.device_class[nodes, columns], nodes), 1)
    np.add.at(snapshot.gpus_free, nodes, 1)


def _give_back_cpus(snapshot: ClusterSnapshot, nodes: list[int], cpu_bits: Iterable[int]) -> None:
    free = snapshot.cpu_bits_free
    for node, bits in zip(nodes, cpu_bits, strict=True):
        free[node] |= bits
    snapshot.cpus_free[nodes] = [free[node].bit_count() for node in nodes]


def _column(values: Iterable[int]) -> IntColumn:
    return np.fromiter(values, dtype=np.int64)
