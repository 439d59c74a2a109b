"""What one cycle leaves to the next, so that a small change of the cluster costs little.

A memo saves work and never changes a plan: with any memo, a new one or one that saw another
cluster, ``make_plan`` returns the same. Everything in it is checked against what is planned for and
brought up to date by what differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from gpusched.domain.ids import JobId
from gpusched.placement.counts import RequestColumns, Room
from gpusched.placement.inventory import BoolColumn, IntColumn, Inventory
from gpusched.placement.request import NodeRequest, node_request
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.forecast import ForecastMemo
from gpusched.policy.plan import QueueEntry

_UNUSED_MAX = 4_096  # requests and jobs kept beyond twice those of the queue

_Known = tuple[QueueEntry, int, int, bool]  # a job, the row of its request, its nodes, whether it wants more


@dataclass(frozen=True, slots=True)
class Asked:
    """What the Q entries of a queue ask for, as columns."""

    rows: IntColumn  # (Q,) whose count is whose
    nodes: IntColumn  # (Q,)
    wants_more: BoolColumn  # (Q,) than enough nodes: that they be near each other, or licences


class CycleMemo:
    """On how many nodes the requests of a queue fit, empty and now. Its owner hands it to each cycle.

    A request that was met before costs a look-up by entry. N nodes, Q entries, R requests: O(Q) for
    a cycle, O(N + R·D) to correct the counts by D nodes that changed, and O(N + R log R) to count
    afresh after a node joined, left or changed.
    """

    def __init__(self) -> None:
        self.forecast = ForecastMemo()
        self._forget(None)

    def _forget(self, inventory: Inventory | None) -> None:
        self._inventory = inventory
        self._columns = RequestColumns()
        self._row: dict[NodeRequest, int] = {}
        self._known: dict[JobId, _Known] = {}
        self._empty = self._now = np.zeros(0, dtype=np.int64)
        self._room: Room | None = None  # ``_now`` was counted on it

    def asked_of(self, inventory: Inventory, queue: Sequence[QueueEntry]) -> Asked:
        """Tell what each entry asks for; its rows are valid until this is called again."""
        unused = max(len(self._row), len(self._known)) - 2 * len(queue)
        if inventory is not self._inventory or unused > _UNUSED_MAX:
            self._forget(inventory)
        nobody = None, 0, 0, False
        asked = [
            known if (known := self._known.get(entry.job_id, nobody))[0] is entry else self._meet(entry)
            for entry in queue
        ]
        self._count_fresh(inventory)
        _, rows, nodes, wants_more = zip(*asked, strict=True) if asked else ((), (), (), ())
        return Asked(
            np.array(rows, dtype=np.int64), np.array(nodes, dtype=np.int64), np.array(wants_more, dtype=bool)
        )

    def _meet(self, entry: QueueEntry) -> _Known:
        spec = entry.spec
        row = self._row.setdefault(node_request(spec), len(self._row))
        wants_more = spec.has_topology_wishes or bool(spec.licenses)
        self._known[entry.job_id] = known = (entry, row, spec.nodes, wants_more)
        return known

    def _count_fresh(self, inventory: Inventory) -> None:
        """Count the requests that were met since the last time."""
        counted = len(self._empty)
        if counted == len(self._row):
            return
        rows = slice(counted, None)
        self._columns.add(list(islice(self._row, counted, None)))
        self._empty = np.append(self._empty, self._columns.count(Room.empty(inventory), rows=rows))
        if self._room is not None:
            self._now = np.append(self._now, self._columns.count(self._room, rows=rows))

    def request(self, row: int) -> NodeRequest:
        """The request of a row, one object for all equal ones."""
        return self._columns.requests[row]

    def count_empty(self) -> IntColumn:
        """(R,) nodes that accept work and could hold the request if nothing ran."""
        return self._empty

    def count_now(self, snapshot: ClusterSnapshot) -> IntColumn:
        """(R,) nodes that can hold the request now; ``snapshot`` has the inventory of ``asked_of``."""
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
