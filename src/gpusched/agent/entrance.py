"""How a node gets its stream: by its certificate, or, on the head's own machine, by a token."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from gpusched.agent.membership import IdentityFolder, Joining, Membership, Wish, believed, now
from gpusched.agent.renewal import Renewal
from gpusched.domain.errors import HeadUnavailable, NotPermitted
from gpusched.domain.ids import NodeName
from gpusched.wire.address import Address
from gpusched.wire.agent_link import AgentLink, connect_agent, connect_member
from gpusched.wire.joining import ask_to_join, ask_trust

log = logging.getLogger(__name__)


class Entrance:
    """One node's way in.

    Args:
        node: Whose.
        home: The agent's.
        joining: Gives the join token and whom to believe; None: it is a member already, or local.
    """

    def __init__(self, node: NodeName, home: Path, joining: Callable[[], Joining] | None) -> None:
        self._node, self._read_joining = node, joining
        self._folder = IdentityFolder(home)
        self._joining: Joining | None = None
        self._wish: Wish | None = None

    @asynccontextmanager
    async def opened(self, address: Address) -> AsyncIterator[tuple[AgentLink, Renewal | None]]:
        """Open a stream to the head at ``address``; what renews the certificate that opened it.

        Raises:
            HeadUnavailable: Nobody answers, or hears agents of other machines.
            NotPermitted: The node is no member, or the head does not take it.
            ConfigInvalid: What the node keeps cannot be used.
        """
        held = await self._membership(address)
        if held is None:
            async with connect_agent(address, self._node) as link:
                yield link, None
            return
        trust = await ask_trust(address, held.trusted)
        if trust.agents_port is None:
            raise HeadUnavailable(
                f"the head at {address.text} hears no agents of other machines: set listen.agents there"
            )
        if trust.trusted != held.trusted:
            held = replace(held, trusted=trust.trusted)
            self._folder.write(held)
        door = address.with_port(trust.agents_port)
        async with connect_member(door, trusted=held.trusted, key=held.key, chain=held.chain) as link:
            yield link, Renewal(self._node, held, self._folder)

    async def _membership(self, address: Address) -> Membership | None:
        held = self._folder.read()
        if held is not None and now() < held.expires_at:
            return held
        if self._read_joining is not None:
            return await self._join(address, self._read_joining)
        if held is not None:
            raise NotPermitted(
                f"the certificate of node {self._node} has expired: join again with a new token "
                "(`gpusched node join-token`)"
            )
        if not address.is_local:
            raise NotPermitted(
                f"the head at {address.text} is on another machine and node {self._node} is no member yet: "
                "start it once with --join and --ca-fingerprint (`gpusched node join-token` prints both)"
            )
        return None

    async def _join(self, address: Address, read: Callable[[], Joining]) -> Membership:
        # Both stay over retries: a token whose answer was lost is good again for the same key only.
        self._joining = joining = self._joining or read()
        self._wish = wish = self._wish or Wish(self._node)
        trust = await ask_trust(address, None)
        root = believed(trust.trusted, joining.ca_fingerprint)
        given = await ask_to_join(
            address, root, token=joining.token, node=self._node, signing_request=wish.signing_request
        )
        held = wish.granted(given)
        self._folder.write(held)
        log.info("joined as %s; certificate good until %s", self._node, held.expires_at.isoformat())
        return held
