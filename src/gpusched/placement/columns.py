"""Scores kept between decisions and cycles: only rows that changed are scored again.

A row of a snapshot carries a stamp that is new after every change, so what was scored holds for as long as
the stamp does, on any copy, forwards and back. A decision compares stamps, O(N), and scores the rows whose
stamps differ: on average as many as there are shapes of requests, whatever N.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from gpusched.placement.inventory import IntColumn
from gpusched.placement.mix import shape_of
from gpusched.placement.request import NodeRequest
from gpusched.placement.score import FreeColumns

KEPT_MAX_BYTES = 64 << 20
_ROW_BYTES = 16


class Scoring(Protocol):
    """What a policy of packing says; ``packing.Packing`` is ours."""

    def score(self, free: FreeColumns, request: NodeRequest, rows: IntColumn) -> IntColumn:
        """Score (M,) nodes on all of which a request fits, higher is better.

        It depends on the rows and on the request's shape alone."""
        ...

    def device(self, free: FreeColumns, request: NodeRequest, row: int) -> int:
        """Choose the GPU of a node for a part of one that fits there."""
        ...


@dataclass(slots=True)
class _Column:
    score: IntColumn  # (N,)
    stamps: IntColumn  # (N,) of the row when it was scored; -1: never


class KeptScores:
    """The scores of N nodes, remembered by shape of request. It saves work and never changes a score."""

    __slots__ = ("_columns", "_kept_max", "_nodes", "_scoring")

    def __init__(self, nodes: int, scoring: Scoring) -> None:
        self._nodes = nodes
        self._scoring = scoring
        self._kept_max = max(8, KEPT_MAX_BYTES // (_ROW_BYTES * max(1, nodes)))
        self._columns: dict[NodeRequest, _Column] = {}  # the one not used for longest first

    def of(self, free: FreeColumns, request: NodeRequest, rows: IntColumn) -> IntColumn:
        """(M,) scores of nodes on all of which a request fits, as ``Scoring.score``."""
        column = self._column(shape_of(request))
        stale = rows[column.stamps[rows] != free.stamps[rows]]
        if len(stale):
            column.score[stale] = self._scoring.score(free, request, stale)
            column.stamps[stale] = free.stamps[stale]
        return column.score[rows]

    def device(self, free: FreeColumns, request: NodeRequest, row: int) -> int:
        """The GPU of a node for a part of one, as ``Scoring.device``."""
        return self._scoring.device(free, request, row)

    def _column(self, shape: NodeRequest) -> _Column:
        column = self._columns.pop(shape, None)
        if column is None:
            if len(self._columns) >= self._kept_max:
                del self._columns[next(iter(self._columns))]
            column = _Column(np.zeros(self._nodes, dtype=np.int64), np.full(self._nodes, -1))
        self._columns[shape] = column
        return column
