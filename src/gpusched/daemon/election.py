"""When a head looks whether it may lead, and when it shows that it still does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gpusched.daemon.trust import why_unfit
from gpusched.domain.errors import ConfigInvalid, StoreUnavailable
from gpusched.store.leadership import Leadership

log = logging.getLogger(__name__)

LOOKS_PER_LEASE = 6
RENEWALS_PER_LEASE = 3
RETRY_S = 0.5


async def win(leadership: Leadership, address: str, trust: Callable[[], str]) -> None:
    """Stand by until this head leads, at ``address``. An outage of the database is waited out.

    Raises:
        ConfigInvalid: A leader lives whose keys are others than these, which ``trust`` names. Keys that
            become others later (they were changed there) are told of in the log alone.
    """
    pause_s, watch = leadership.lease_s / LOOKS_PER_LEASE, _Watch(leadership, trust)
    while True:
        try:
            if await asyncio.to_thread(leadership.stand, address):
                return
            watch.look()
        except StoreUnavailable as error:
            log.warning("standing by, and the store is unavailable: %s", error)
        await asyncio.sleep(pause_s)


class _Watch:
    """Says once what an operator must know of a head that stands by."""

    def __init__(self, leadership: Leadership, trust: Callable[[], str]) -> None:
        self._leadership, self._trust = leadership, trust
        self._was_behind = self._was_fit = False
        self._unfit: str | None = None

    def look(self) -> None:
        leadership = self._leadership
        if leadership.is_behind and not self._was_behind:
            log.error(
                "the database went back in time: this head, which stands by, has seen more than it "
                "holds. If the loss was accepted, start this head too with --accept-restored-database "
                "once; otherwise nothing is started when it leads"
            )
        self._was_behind = leadership.is_behind
        unfit = why_unfit(self._trust(), leadership.leaders_trust, leadership.leader)
        if unfit is not None and not self._was_fit:
            raise ConfigInvalid(unfit)
        if unfit is not None and unfit != self._unfit:
            log.error("%s", unfit)
        self._unfit = unfit
        if not self._was_fit and leadership.leaders_trust is not None:
            log.info("fit to stand by for the head at %s: the keys are the same", leadership.leader)
            self._was_fit = True


async def keep(leadership: Leadership) -> None:
    """Renew the lead for as long as this is run.

    Raises:
        NotLeading: Another head has taken over.
    """
    pause_s = leadership.lease_s / RENEWALS_PER_LEASE
    while True:
        try:
            await asyncio.to_thread(leadership.renew)
            await asyncio.sleep(pause_s)
        except StoreUnavailable:  # the engine's loop tells of it; who is to lead is decided when it is back
            await asyncio.sleep(min(pause_s, RETRY_S))
