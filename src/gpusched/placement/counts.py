"""On how many nodes each of many requests fits: all of them at once, and kept as nodes change.

R requests, N nodes. Counting R requests afresh is O(N + R log R + cells), with a cell for each pair
of a distinct number of CPUs and a distinct amount of memory asked for, per number of GPUs and per kind
(where, which GPUs, what share of one, how much disk, which counters); O(N·G) per share of a GPU. After a
change of D nodes the counts are corrected in O(N + R·D).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gpusched.placement.fit import fit_empty, has_counters, roomy_gpus
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
    milli: IntColumn  # (N, G) thousandths of each device
    counters: IntColumn  # (K, N)

    @classmethod
    def empty(cls, inventory: Inventory) -> Room:
        """All that the nodes have in service."""
        return cls(
            inventory,
            inventory.gpus_in_service,
            inventory.cpus_total,
            inventory.memory_total,
            inventory.milli_total,
            inventory.counters_total,
        )

    @classmethod
    def now(cls, snapshot: ClusterSnapshot) -> Room:
        """What is free now; a copy, so it stays as it is."""
        columns = (
            snapshot.gpus_free_by_class,
            snapshot.cpus_free,
            snapshot.memory_free,
            snapshot.milli_free,
            snapshot.counters_free,
        )
        return cls(snapshot.inventory, *(column.copy() for column in columns))

    def differs(self, snapshot: ClusterSnapshot) -> IntColumn:
        """(D,) nodes on which something else is free in a snapshot of the same inventory."""
        return np.flatnonzero(
            (self.milli != snapshot.milli_free).any(axis=1)  # and with it the devices of each class
            | (self.cpus != snapshot.cpus_free)
            | (self.memory != snapshot.memory_free)
            | (self.counters != snapshot.counters_free).any(axis=0)
        )


class RequestColumns:
    """Requests as columns, so that they are compared with nodes all at once."""

    __slots__ = ("_cpus", "_gpus", "_kind", "_kinds", "_memory", "requests")

    def __init__(self) -> None:
        self.requests: list[NodeRequest] = []  # (R,) in the order of the rows
        self._gpus = self._cpus = self._memory = self._kind = np.zeros(0, dtype=np.int64)
        self._kinds: dict[NodeRequest, int] = {}  # all but GPUs, CPUs and memory -> its number in ``_kind``

    def add(self, requests: Sequence[NodeRequest]) -> None:
        """Add rows at the end. O(R) bytes."""
        kinds = self._kinds
        self.requests += requests
        self._gpus = _longer(self._gpus, (request.gpus for request in requests))
        self._cpus = _longer(self._cpus, (request.cpus for request in requests))
        self._memory = _longer(self._memory, (request.memory_bytes for request in requests))
        self._kind = _longer(self._kind, (kinds.setdefault(_kind_of(r), len(kinds)) for r in requests))

    def count(
        self, room: Room, *, rows: IntColumn | slice = _EVERY, nodes: IntColumn | slice = _EVERY
    ) -> IntColumn:
        """Count for each of some requests the nodes, among some, on which it fits.

        Returns:
            (len(rows),) counts, the same that ``np.count_nonzero(fit_now(...))`` gives.
        """
        gpus_wanted, cpus, memory = self._gpus[rows], self._cpus[rows], self._memory[rows]
        kind_of = self._kind[rows]
        counts = np.zeros(len(kind_of), dtype=np.int64)
        kinds = list(self._kinds)
        for number in np.flatnonzero(np.bincount(kind_of)).tolist():
            kind, group = kinds[number], kind_of == number
            allowed = fit_empty(room.inventory, whereabouts(kind))[nodes]
            if kind.counters:
                allowed = allowed & has_counters(room.inventory, kind.counters, room.counters[:, nodes])
            gpus = roomy_gpus(
                room.inventory, kind, room.gpus_by_class[:, nodes], room.milli[nodes], nodes=nodes
            )
            alike = np.flatnonzero(group)
            if len(alike) * len(allowed) <= _DIRECT_MAX:
                fits = allowed & (gpus >= gpus_wanted[alike, None])
                fits &= room.cpus[nodes] >= cpus[alike, None]
                fits &= room.memory[nodes] >= memory[alike, None]
                counts[alike] = fits.sum(axis=1)
                continue
            for wanted in np.unique(gpus_wanted[alike]).tolist():
                those = alike[gpus_wanted[alike] == wanted]
                having = allowed & (gpus >= wanted)
                counts[those] = _count_pairs(
                    cpus[those], memory[those], room.cpus[nodes][having], room.memory[nodes][having]
                )
        return counts


def _kind_of(request: NodeRequest) -> NodeRequest:
    return replace(request, gpus=0, cpus=0, memory_bytes=0)


def _longer(column: IntColumn, values: Iterable[int]) -> IntColumn:
    return np.concatenate([column, np.fromiter(values, dtype=np.int64)])


def _count_pairs(
    cpus: IntColumn, memory: IntColumn, node_cpus: IntColumn, node_memory: IntColumn
) -> IntColumn:
    """Count for each of (R,) pairs the (M,) nodes that have at least both."""
    cpu_steps, cpu_rank = np.unique(cpus, return_inverse=True)
    memory_steps, memory_rank = np.unique(memory, return_inverse=True)
    shape = (len(cpu_steps) + 1, len(memory_steps) + 1)
    if len(node_cpus) * len(cpus) <= shape[0] * shape[1]:
        both: BoolColumn = (node_cpus >= cpus[:, None]) & (node_memory >= memory[:, None])
        direct: IntColumn = both.sum(axis=1)
        return direct
    # How many steps a node reaches, in each of the two; a sum from the far corner counts those that
    # reach at least so many.
    reached = np.searchsorted(cpu_steps, node_cpus, side="right") * shape[1]
    reached += np.searchsorted(memory_steps, node_memory, side="right")
    at_least = np.bincount(reached, minlength=shape[0] * shape[1]).reshape(shape)[::-1, ::-1]
    at_least = at_least.cumsum(axis=0).cumsum(axis=1)[::-1, ::-1]
    counts: IntColumn = at_least[cpu_rank + 1, memory_rank + 1]
    return counts
