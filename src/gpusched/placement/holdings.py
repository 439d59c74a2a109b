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
from gpusched.placement.placement import NodePlacement
from gpusched.placement.snapshot import ClusterSnapshot


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """P parts and their K devices, on one inventory."""

    nodes: IntColumn  # (P,) rows
    memory: IntColumn  # (P,) bytes
    cpu_bits: tuple[int, ...]  # (P,) CPUs as integers: bit i stands for CPU i
    device_nodes: IntColumn  # (K,) rows
    device_columns: IntColumn  # (K,)


def hold(inventory: Inventory, parts: Iterable[NodePlacement]) -> Holding:
    """Look up parts; one with a node, device or CPU that is gone is left out: nothing comes free there."""
    found = [
        (row, part, [here.index(uuid) for uuid in part.devices])
        for part in parts
        if (row := inventory.index.get(part.node)) is not None
        and set(part.devices) <= set(here := inventory.uuids[row])
        and not cpu_set(part.cpu_ids) & ~inventory.cpu_bits[row]
    ]
    return Holding(
        nodes=_column(row for row, _, _ in found),
        memory=_column(part.memory_bytes for _, part, _ in found),
        cpu_bits=tuple(cpu_set(part.cpu_ids) for _, part, _ in found),
        device_nodes=_column(row for row, _, columns in found for _ in columns),
        device_columns=_column(chain.from_iterable(columns for _, _, columns in found)),
    )


def give_back(snapshot: ClusterSnapshot, holdings: Sequence[Holding]) -> None:
    """Free what ``holdings`` hold. O(P + K), and O(1) per holding.

    What is free already stays so, and no node gets more memory than it has.
    """
    if not holdings:
        return
    nodes = np.concatenate([holding.nodes for holding in holdings])
    np.add.at(snapshot.memory_free, nodes, np.concatenate([holding.memory for holding in holdings]))
    np.minimum(snapshot.memory_free, snapshot.inventory.memory_total, out=snapshot.memory_free)
    snapshot.stamp(nodes)
    _give_back_cpus(snapshot, nodes.tolist(), chain.from_iterable(holding.cpu_bits for holding in holdings))
    device_nodes = np.concatenate([holding.device_nodes for holding in holdings])
    columns = np.concatenate([holding.device_columns for holding in holdings])
    held = snapshot.milli_free[device_nodes, columns] < WHOLE_MILLI
    device_nodes, columns = device_nodes[held], columns[held]
    snapshot.milli_free[device_nodes, columns] = WHOLE_MILLI
    classes = snapshot.inventory.device_class[device_nodes, columns]
    np.add.at(snapshot.gpus_free_by_class, (classes, device_nodes), 1)
    np.add.at(snapshot.gpus_free, device_nodes, 1)


def _give_back_cpus(snapshot: ClusterSnapshot, nodes: list[int], cpu_bits: Iterable[int]) -> None:
    free = snapshot.cpu_bits_free
    for node, bits in zip(nodes, cpu_bits, strict=True):
        free[node] |= bits
    snapshot.cpus_free[nodes] = [free[node].bit_count() for node in nodes]


def _column(values: Iterable[int]) -> IntColumn:
    return np.fromiter(values, dtype=np.int64)
