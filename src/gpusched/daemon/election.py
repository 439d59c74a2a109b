"""When a head looks whether it may lead, and when it shows that it still does."""

from __future__ import annotations

import asyncio
import logging

from gpusched.domain.errors import StoreUnavailable
from gpusched.store.leadership import Leadership

log = logging.getLogger(__name__)

LOOKS_PER_LEASE = 6
RENEWALS_PER_LEASE = 3
RETRY_S = 0.5


async def win(leadership: Leadership, address: str) -> None:
    """Stand by until this head leads, at ``address``. An outage of the database is waited out."""
    pause_s, was_behind = leadership.lease_s / LOOKS_PER_LEASE, False
    while True:
        try:
            if await asyncio.to_thread(leadership.stand, address):
                return
            if leadership.is_behind and not was_behind:
                log.error(
                    "the database went back in time: this head, which stands by, has seen more than it "
                    "holds. If the loss was accepted, start this head too with --accept-restored-database "
                    "once; otherwise nothing is started when it leads"
                )
            was_behind = leadership.is_behind
        except StoreUnavailable as error:
            log.warning("standing by, and the store is unavailable: %s", error)
        await asyncio.sleep(pause_s)


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
