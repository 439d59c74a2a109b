"""Hosts of a network of our own: namespaces on one switch, whose cables can be pulled. Needs root.

Only loopback and these namespaces carry traffic; nothing leaves the machine. Processes are brought in
with ``nsenter``: ``ip netns exec`` would hide the control groups from them.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count

PREFIX = "10.77.0."
NOBODY = "02:00:00:00:00:01"  # a hardware address that no interface has
_numbers = count(1)


def _ip(*words: str, inside: str | None = None) -> None:
    place = () if inside is None else ("-n", inside)
    subprocess.run(["ip", *place, *words], check=True, capture_output=True)


@dataclass(frozen=True, slots=True)
class Host:
    """One host: a network namespace with one interface, plugged into the switch."""

    name: str
    address: str
    namespace: str
    switch: str  # the switch's namespace
    port: str  # the switch's end of the cable

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command begins with to run there."""
        return ("nsenter", f"--net=/run/netns/{self.namespace}", "--")

    def pull(self) -> None:
        """Pull its cable: nothing comes in, nothing goes out, nobody is told."""
        _ip("link", "set", self.port, "down", inside=self.switch)

    def plug(self) -> None:
        """Put it back."""
        _ip("link", "set", self.port, "up", inside=self.switch)

    def lose_all_to(self, other: Host) -> None:
        """One way only: what is sent to the other host is lost; what it sends still arrives here."""
        words = ("neigh", "replace", other.address, "lladdr", NOBODY, "nud", "permanent", "dev", "eth0")
        _ip(*words, inside=self.namespace)

    def lose_nothing_to(self, other: Host) -> None:
        """Undo ``lose_all_to``."""
        _ip("neigh", "del", other.address, "dev", "eth0", inside=self.namespace)


@contextmanager
def network(names: Sequence[str]) -> Iterator[tuple[Host, ...]]:
    """A switch and the hosts of these names; all is gone when the block is left."""
    here = f"gst-{os.getpid()}-{next(_numbers)}"
    switch = f"{here}-switch"
    with ExitStack() as stack:
        stack.enter_context(_namespace(switch))
        _ip("link", "add", "bridge", "type", "bridge", inside=switch)
        _ip("link", "set", "bridge", "up", inside=switch)
        hosts = []
        for number, name in enumerate(names, 1):
            host = Host(name, f"{PREFIX}{number}", f"{here}-{name}", switch, f"port{number}")
            stack.enter_context(_namespace(host.namespace))
            _ip(
                *("link", "add", "eth0", "netns", host.namespace, "type", "veth"),
                *("peer", "name", host.port, "netns", switch),
            )
            _ip("link", "set", host.port, "master", "bridge", "up", inside=switch)
            _ip("addr", "add", f"{host.address}/24", "dev", "eth0", inside=host.namespace)
            _ip("link", "set", "eth0", "up", inside=host.namespace)
            hosts.append(host)
        yield tuple(hosts)


@contextmanager
def _namespace(name: str) -> Iterator[None]:
    _ip("netns", "add", name)
    try:
        _ip("link", "set", "lo", "up", inside=name)
        yield
    finally:
        _ip("netns", "del", name)
