"""Several heads of one cluster: one leads, the others say who. Whom to ask next is decided here."""

from __future__ import annotations

from collections.abc import Sequence

from gpusched.domain.errors import ConfigInvalid, GpuschedError, HeadUnavailable, NotLeading, StoreUnavailable
from gpusched.wire.address import Address, parse_address


class Heads:
    """The addresses to try, in order, and the one that is asked now.

    Args:
        addresses: At least one.

    Attributes:
        current: Whom to ask. Calls of many threads may read it.
    """

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = tuple(addresses)
        self._next = 0
        self.current = self._addresses[0]

    def __len__(self) -> int:
        return len(self._addresses)

    @property
    def text(self) -> str:
        """All addresses, as ``parse_addresses`` reads them."""
        return ",".join(address.text for address in self._addresses)

    def move_on(self, asked: Address, error: GpuschedError) -> None:
        """After ``asked`` gave ``error`` turn to the leader that it names, else to the next in order."""
        if self.current != asked or not isinstance(error, HeadUnavailable | StoreUnavailable | NotLeading):
            return  # another call has moved on already, or a head that answers as it should
        leader = _leader_named_by(error)
        if leader is not None and leader != asked:
            self.current = leader
            return
        for _ in self._addresses:
            self._next = (self._next + 1) % len(self._addresses)
            self.current = self._addresses[self._next]
            if self.current != asked:  # a head that stands by may just have named it
                return


def _leader_named_by(error: GpuschedError) -> Address | None:
    if not isinstance(error, NotLeading) or error.leader is None:
        return None
    try:
        return parse_address(error.leader)
    except ConfigInvalid:  # a head of another version, with another idea of addresses
        return None
