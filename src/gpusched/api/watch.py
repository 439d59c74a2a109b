"""Who waits for which events. Watchers are only woken here; they read from the store.

So a slow watcher costs no memory: it reads on from where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from gpusched.domain.events import JobEvent, Recorded
from gpusched.domain.ids import JobId


@dataclass(eq=False, slots=True)
class Subscription:
    """Woken when something of interest was committed. Clear ``wake`` before reading the store."""

    job_ids: frozenset[JobId]  # empty: every event
    wake: asyncio.Event = field(default_factory=asyncio.Event)


class EventHub:
    """The engine's ``EventFeed``: wakes the subscriptions that an event concerns."""

    def __init__(self) -> None:
        self._by_job: dict[JobId, set[Subscription]] = {}
        self._of_all: set[Subscription] = set()

    def publish(self, events: Sequence[Recorded]) -> None:
        """Wake everybody concerned."""
        for subscription in self._of_all:
            subscription.wake.set()
        if not self._by_job:
            return
        for recorded in events:
            if isinstance(recorded.event, JobEvent):
                for subscription in self._by_job.get(recorded.event.job_id, ()):
                    subscription.wake.set()

    @contextmanager
    def subscribe(self, job_ids: Sequence[JobId]) -> Iterator[Subscription]:
        """Be woken for events of these jobs (of everything, if none is named)."""
        subscription = Subscription(frozenset(job_ids))
        homes = [self._by_job.setdefault(job_id, set()) for job_id in subscription.job_ids] or [self._of_all]
        for home in homes:
            home.add(subscription)
        try:
            yield subscription
        finally:
            for home in homes:
                home.discard(subscription)
            for job_id in subscription.job_ids:
                if not self._by_job.get(job_id, True):
                    del self._by_job[job_id]
