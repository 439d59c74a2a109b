"""On how many nodes each of many requests fits: all of them at once, and kept as nodes change.

R requests, N nodes. Counting R requests afresh is O(N + R log R + cells), with a cell for each pair
of a distinct number of CPUs and a distinct amount of memory asked for, per number of GPUs; after a
change of D nodes the counts are corrected in O(N + R·D).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gpusched.placement.fit import fit_empty, matching_gpus
from gpusched.placement.inventory import BoolColumn, IntColumn, Inventory
from gpusched.placement.request import NodeRequest, whereabouts
from gpusched.placement.snapshot import ClusterSnapshot

_EVERY = slice(None)
_DIRECT_MAX = 1 << 15  # pairs of a request and a node that are compared one by one: sorting costs more


@dataclass(frozen=True, slots=True)
class Room:
    """What the nodes of an inventory can give: all they have, or what was free at some moment."""

    inventory: Inventory
    gpus_by_class: IntColumn  # (C, N)
    cpus: IntColumn  # (N,)
    memory: IntColumn  # (N,) bytes

    @classmethod
    def empty(cls, inventory: Inventory) -> Room:
        """All that the nodes have."""
        return cls(inventory, inventory.gpus_by_class, inventory.cpus_total, inventory.memory_total)

    @classmethod
    def now(cls, snapshot: ClusterSnapshot) -> Room:
        """What is free now; a copy, so it stays as it is."""
        columns = (snapshot.gpus_free_by_class, snapshot.cpus_free, snapshot.memory_free)
        return cls(snapshot.inventory, *(column.copy() for column in columns))

    def differs(self, snapshot: ClusterSnapshot) -> IntColumn:
        """(D,) nodes on which something else is free in a snapshot of the same inventory."""
        return np.flatnonzero(
            (self.gpus_by_class != snapshot.gpus_free_by_class).any(axis=0)
            | (self.cpus != snapshot.cpus_free)
            | (self.memory != snapshot.memory_free)
        )


class RequestColumns:
    """Requests as columns, so that they are compared with nodes all at once."""

    __slots__ = ("_cpus", "_gpus", "_memory", "_where", "_wheres", "requests")

    def __init__(self) -> None:
        self.requests: list[NodeRequest] = []  # (R,) in the order of the rows
        self._gpus = self._cpus = self._memory = self._where = np.zeros(0, dtype=np.int64)
        self._wheres: dict[NodeRequest, int] = {}  # whereabouts -> its number in ``_where``

    def add(self, requests: Sequence[NodeRequest]) -> None:
        """Add rows at the end. O(R) bytes."""
        wheres = self._wheres
        self.requests += requests
        self._gpus = _longer(self._gpus, (request.gpus for request in requests))
        self._cpus = _longer(self._cpus, (request.cpus for request in requests))
        self._memory = _longer(self._memory, (request.memory_bytes for request in requests))
        self._where = _longer(self._where, (wheres.setdefault(whereabouts(r), len(wheres)) for r in requests))

    def count(
        self, room: Room, *, rows: IntColumn | slice = _EVERY, nodes: IntColumn | slice = _EVERY
    ) -> IntColumn:
        """Count for each of some requests the nodes, among some, on which it fits.

        Returns:
            (len(rows),) counts, the same that ``np.count_nonzero(fit_now(...))`` gives.
        """
        gpus_wanted, cpus, memory = self._gpus[rows], self._cpus[rows], self._memory[rows]
        where_of = self._where[rows]
        counts = np.zeros(len(where_of), dtype=np.int64)
        wheres = list(self._wheres)
        for number in np.unique(where_of).tolist():
            where, group = wheres[number], where_of == number
            allowed = fit_empty(room.inventory, where)[nodes]
            gpus = matching_gpus(room.inventory, where, room.gpus_by_class[:, nodes])
            for wanted in np.unique(gpus_wanted[group]).tolist():
                alike = np.flatnonzero(group & (gpus_wanted == wanted))
                having = allowed & (gpus >= wanted)
                counts[alike] = _count_pairs(
                    cpus[alike], memory[alike], room.cpus[nodes][having], room.memory[nodes][having]
                )
        return counts


def _longer(column: IntColumn, values: Iterable[int]) -> IntColumn:
    return np.concatenate([column, np.fromiter(values, dtype=np.int64)])


def _count_pairs(
    cpus: IntColumn, memory: IntColumn, node_cpus: IntColumn, node_memory: IntColumn
) -> IntColumn:
    """Count for each of (R,) pairs the (M,) nodes that have at least both."""
    pairs = len(node_cpus) * len(cpus)
    if pairs <= _DIRECT_MAX:
        return _compare(cpus, memory, node_cpus, node_memory)
    cpu_steps, cpu_rank = np.unique(cpus, return_inverse=True)
    memory_steps, memory_rank = np.unique(memory, return_inverse=True)
    shape = (len(cpu_steps) + 1, len(memory_steps) + 1)
    if pairs <= shape[0] * shape[1]:
        return _compare(cpus, memory, node_cpus, node_memory)
    # How many steps a node reaches, in each of the two; a sum from the far corner counts those that
    # reach at least so many.
    reached = np.searchsorted(cpu_steps, node_cpus, side="right") * shape[1]
    reached += np.searchsorted(memory_steps, node_memory, side="right")
    at_least = np.bincount(reached, minlength=shape[0] * shape[1]).reshape(shape)[::-1, ::-1]
    at_least = at_least.cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    counts: IntColumn = at_least[cpu_rank + 1, memory_rank + 1]
    return counts


def _compare(cpus: IntColumn, memory: IntColumn, node_cpus: IntColumn, node_memory: IntColumn) -> IntColumn:
    both: BoolColumn = (node_cpus >= cpus[:, None]) & (node_memory >= memory[:, None])
    counts: IntColumn = both.sum(axis=1)
    return counts
