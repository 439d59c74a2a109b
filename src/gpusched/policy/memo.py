"""What one cycle leaves to the next, so that a small change of the cluster costs little.

A memo saves work and never changes a plan: with any memo, a new one or one that saw another
cluster, ``make_plan`` returns the same. Everything in it is checked against what is planned for and
brought up to date by what differs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpusched.domain.ids import JobId
from gpusched.placement.counts import RequestColumns, Room
from gpusched.placement.inventory import IntColumn, Inventory
from gpusched.placement.request import NodeRequest, node_request
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.forecast import HoldingsMemo
from gpusched.policy.plan import QueueEntry

_UNUSED_MAX = 4_096  # requests kept beyond twice those of the queue


class CycleMemo:
    """On how many nodes the requests of a queue fit, empty and now. Its owner hands it to each cycle.

    A request that was met before costs a look-up by entry. N nodes, Q entries, R requests: O(Q) for
    a cycle, O(N + R·D) to correct the counts by D nodes that changed, and O(N + R log R) to count
    afresh after a node joined, left or changed.
    """

    def __init__(self) -> None:
        self.holdings = HoldingsMemo()
        self._forget(None)

    def _forget(self, inventory: Inventory | None) -> None:
        self._inventory = inventory
        self._columns = RequestColumns()
        self._row: dict[NodeRequest, int] = {}
        self._row_of: dict[JobId, tuple[QueueEntry, int]] = {}
        self._empty = self._now = np.zeros(0, dtype=np.int64)
        self._room: Room | None = None  # ``_now`` was counted on it

    def rows_of(self, inventory: Inventory, queue: Sequence[QueueEntry]) -> IntColumn:
        """Tell which row of the counts is whose.

        Returns:
            (Q,) rows, valid until this is called again.
        """
        if inventory is not self._inventory or len(self._row) > 2 * len(queue) + _UNUSED_MAX:
            self._forget(inventory)
        known, fresh = len(self._row), list[NodeRequest]()
        earlier, rows = self._row_of, list[int]()
        for entry in queue:
            known_entry, row = earlier.get(entry.job_id, (None, 0))
            if known_entry is not entry:
                request = node_request(entry.spec)
                row = self._row.setdefault(request, known + len(fresh))
                if row == known + len(fresh):
                    fresh.append(request)
            rows.append(row)
        self._row_of = {entry.job_id: (entry, row) for entry, row in zip(queue, rows, strict=True)}
        if fresh:
            self._columns.add(fresh)
            self._empty = np.append(
                self._empty, self._columns.count(Room.empty(inventory), rows=slice(known, None))
            )
            if self._room is not None:
                self._now = np.append(self._now, self._columns.count(self._room, rows=slice(known, None)))
        return np.array(rows, dtype=np.int64)

    def request(self, row: int) -> NodeRequest:
        """The request of a row, one object for all equal ones."""
        return self._columns.requests[row]

    def count_empty(self) -> IntColumn:
        """(R,) nodes that accept work and could hold the request if nothing ran."""
        return self._empty

    def count_now(self, snapshot: ClusterSnapshot) -> IntColumn:
        """(R,) nodes that can hold the request now; ``snapshot`` has the inventory of ``rows_of``."""
        room = Room.now(snapshot)
        if self._room is None:
            self._now = self._columns.count(room)
        elif len(changed := self._room.differs(snapshot)):
            gained = self._columns.count(room, nodes=changed)
            self._now = self._now + gained - self._columns.count(self._room, nodes=changed)
        self._room = room
        return self._now

    def count_on(self, room: Room, rows: IntColumn) -> IntColumn:
        """(len(rows),) nodes that can hold the request, were ``room`` what they give."""
        return self._columns.count(room, rows=rows)
