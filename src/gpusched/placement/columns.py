"""Scores kept between decisions and cycles: only rows that changed are scored again.

A row of a snapshot carries a stamp that is new after every change, so what was scored holds for as long as
the stamp does, on any copy, forwards and back. A decision compares stamps, O(N), and scores the rows whose
stamps differ: on average as many as there are shapes of requests, whatever N.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gpusched.placement.inventory import IntColumn, Inventory
from gpusched.placement.mix import RequestMix, shape_of
from gpusched.placement.packing import FreeColumns, FutureValue
from gpusched.placement.request import NodeRequest

KEPT_MAX_BYTES = 64 << 20
_ROW_BYTES = 16


@dataclass(slots=True)
class _Column:
    score: IntColumn  # (N,)
    stamps: IntColumn  # (N,) of the row when it was scored; -1: never


class KeptScores:
    """What ``FutureValue`` says of nodes, remembered by shape. It saves work and never changes a score."""

    __slots__ = ("_columns", "_inventory", "_kept_max", "_value", "mix")

    def __init__(self, inventory: Inventory, mix: RequestMix) -> None:
        self.mix = mix
        self._inventory = inventory
        self._kept_max = max(8, KEPT_MAX_BYTES // (_ROW_BYTES * max(1, len(inventory.names))))
        self._value: FutureValue | None = None  # tabulated when it is first asked
        self._columns: dict[NodeRequest, _Column] = {}  # the one not used for longest first

    @property
    def value(self) -> FutureValue:
        """The value of nodes to the mix."""
        if self._value is None:
            self._value = FutureValue(self._inventory, self.mix)
        return self._value

    def growth(self, free: FreeColumns, request: NodeRequest, rows: IntColumn) -> IntColumn:
        """(M,) growth of the value of nodes on all of which ``request`` fits, as ``FutureValue.growth``."""
        if not self.mix.wants_gpus:
            return np.zeros(len(rows), dtype=np.int64)
        column = self._column(shape_of(request))
        stale = rows[column.stamps[rows] != free.stamps[rows]]
        if len(stale):
            column.score[stale] = self.value.growth(free, request, stale)
            column.stamps[stale] = free.stamps[stale]
        return column.score[rows]

    def _column(self, shape: NodeRequest) -> _Column:
        column = self._columns.pop(shape, None)
        if column is None:
            if len(self._columns) >= self._kept_max:
                del self._columns[next(iter(self._columns))]
            size = len(self._inventory.names)
            column = _Column(np.zeros(size, dtype=np.int64), np.full(size, -1))
        self._columns[shape] = column
        return column
