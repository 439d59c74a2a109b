"""The leader's row as a model, and what a head may do by it. ``store/leader_row.py`` is the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gpusched.domain.errors import NotLeading, StoreUnavailable
from gpusched.domain.ids import RequestId
from gpusched.engine.ports import Batch, Loaded, RequestRecord, Store

LEASE_S = 6.0
RENEWAL_S = 2.0
DRIFT = 0.01


def now_s() -> float:
    return asyncio.get_running_loop().time()


class Row:
    """Who leads, and how often that was renewed."""

    def __init__(self) -> None:
        self.epoch = 0
        self.beats = 0
        self.is_down = False

    def take(self) -> Held:
        self.epoch, self.beats = self.epoch + 1, 0
        return Held(self)


class Held:
    """One head's lead."""

    def __init__(self, row: Row) -> None:
        self._row, self.epoch = row, row.epoch
        self.is_cut = False  # this head does not reach the database; others do
        self._deadline_s = now_s() + LEASE_S * (1 - DRIFT)

    def may_grant(self) -> bool:
        return now_s() < self._deadline_s

    def require(self) -> None:
        if self.is_cut:
            raise StoreUnavailable("simulated: cut off from the database")
        if self._row.epoch != self.epoch:
            raise NotLeading(f"simulated: epoch {self._row.epoch} leads since")

    async def keep(self) -> None:
        """Renew until another leads."""
        while True:
            asked_s = now_s()
            if not (self._row.is_down or self.is_cut):
                self.require()
                self._row.beats += 1
                self._deadline_s = asked_s + LEASE_S * (1 - DRIFT)
            await asyncio.sleep(RENEWAL_S)


class LedStore:
    """A store that one head may use for as long as it leads."""

    def __init__(self, inner: Store, held: Held) -> None:
        self._inner, self._held = inner, held

    def load(self) -> Loaded:
        self._held.require()
        return self._inner.load()

    def commit(self, batch: Batch) -> None:
        self._held.require()
        self._inner.commit(batch)

    def find_requests(self, keys: Sequence[tuple[str, RequestId]]) -> tuple[RequestRecord, ...]:
        self._held.require()
        return self._inner.find_requests(keys)
