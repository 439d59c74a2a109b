"""Keeps a member's certificate fresh: asks for the next one on the stream that the last one opened."""

from __future__ import annotations

import asyncio
import logging

from gpusched.agent.membership import IdentityFolder, Membership, Wish, now
from gpusched.domain.errors import Unavailable
from gpusched.domain.ids import NodeName
from gpusched.domain.link import CertificateWanted
from gpusched.domain.membership import CertificateGiven

log = logging.getLogger(__name__)
LOOK_EVERY_S = 60.0  # a clock that is set forward is noticed by then
RENEW_AT_MOST_EVERY_S = 1.0  # where clocks disagree each certificate may be old as soon as it is given


class CertificateRenewed(Unavailable):
    """The stream was ended to open the next one with a new certificate. Jobs notice nothing."""


class Renewal:
    """The next certificate of one stream's node.

    Args:
        node: Whose.
        held: What opened this stream.
        folder: Where the next one goes.
    """

    def __init__(self, node: NodeName, held: Membership, folder: IdentityFolder) -> None:
        self._held, self._folder = held, folder
        self._wish = Wish(node)

    @property
    def trusted(self) -> bytes:
        """The CA certificates by which heads are known, PEM."""
        return self._held.trusted

    async def due(self) -> CertificateWanted:
        """Wait until it is time, then say what to ask."""
        await asyncio.sleep(RENEW_AT_MOST_EVERY_S)
        # No event tells of a clock that is set.
        while (left_s := (self._held.renew_at - now()).total_seconds()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(min(left_s, LOOK_EVERY_S))
        return CertificateWanted(self._wish.signing_request)

    def take(self, given: CertificateGiven) -> None:
        """Keep what was given.

        Raises:
            CertificateRenewed: It is kept: open the next stream with it.
            ConfigInvalid: It is not for the key that asked.
            OSError: It cannot be written.
        """
        renewed = self._wish.granted(given)
        self._folder.write(renewed)
        log.info("certificate renewed, good until %s", renewed.expires_at.isoformat())
        raise CertificateRenewed("the certificate was renewed")
