"""Where a head is, and where its local parts lie on disk.

A home holds one cluster's sockets: ``head.sock`` (gRPC) and ``token.sock`` (tokens for local users).
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from gpusched.domain.errors import ConfigInvalid

HEAD_SOCKET = "head.sock"
TOKEN_SOCKET = "token.sock"  # noqa: S105 - a file name
SOCKET_PATH_BYTES_MAX = 107
"""``sun_path`` of Linux is 108 bytes with its closing NUL (unix(7))."""

_HOST_PORT = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[^\s:/\[\]]+)):(?P<port>\d{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """A head's address.

    Attributes:
        text: As a person writes it: ``unix:///run/gpusched/head.sock`` or ``host:7700``.
        socket: The unix socket, None for TCP.
        host: Host name or IP, None for a unix socket.
        port: TCP port, None for a unix socket.
    """

    text: str
    socket: Path | None = None
    host: str | None = None
    port: int | None = None

    @property
    def target(self) -> str:
        """The address in gRPC's words."""
        return f"unix:{self.socket}" if self.socket is not None else self.text

    @property
    def is_local(self) -> bool:
        """A unix socket or loopback: nothing leaves this machine."""
        return self.socket is not None or (self.host is not None and is_loopback(self.host))

    def with_port(self, port: int) -> Address:
        """The same host, another port."""
        assert self.host is not None
        host = f"[{self.host}]" if ":" in self.host else self.host
        return Address(f"{host}:{port}", host=self.host, port=port)

    def token_socket(self, home: Path) -> Path:
        """Where this head gives out tokens: beside its unix socket; for TCP in ``home``."""
        return (home if self.socket is None else self.socket.parent) / TOKEN_SOCKET


def parse_address(text: str) -> Address:
    """Read ``unix:///path`` or ``host:port`` (``[v6]:port``; port 0 asks a server for a free one).

    Raises:
        ConfigInvalid: It is neither, or the socket's path is too long for the kernel.
    """
    if text.startswith("unix:"):
        path = Path("/" + text.removeprefix("unix:").lstrip("/"))
        return Address(f"unix://{path}", socket=check_socket_path(path))
    match = _HOST_PORT.fullmatch(text)
    if match is None or int(match["port"]) > 65_535:
        raise ConfigInvalid(
            f"{text!r} is not the address of a head: write unix:///path/head.sock or host:port"
        )
    return Address(text, host=match["v6"] or match["host"], port=int(match["port"]))


def check_socket_path(path: Path) -> Path:
    """``path``, if the kernel can bind it.

    Raises:
        ConfigInvalid: It is too long.
    """
    size = len(os.fsencode(path))
    if size > SOCKET_PATH_BYTES_MAX:
        raise ConfigInvalid(
            f"the socket path {path} has {size} bytes, {SOCKET_PATH_BYTES_MAX} at most: "
            "choose a shorter GPUSCHED_HOME"
        )
    return path


def default_home(environ: Mapping[str, str] = os.environ) -> Path:
    """``$GPUSCHED_HOME``, else ``~/.gpusched``."""
    home = environ.get("GPUSCHED_HOME")
    return Path(home).absolute() if home else Path.home() / ".gpusched"


def parse_addresses(text: str) -> tuple[Address, ...]:
    """Read the addresses of one cluster's heads, separated by commas.

    Raises:
        ConfigInvalid: One of them is not an address.
    """
    return tuple(parse_address(each.strip()) for each in text.split(","))


def default_addresses(environ: Mapping[str, str] = os.environ) -> tuple[Address, ...]:
    """``$GPUSCHED_ADDRESS``, else the unix socket of the default home.

    Raises:
        ConfigInvalid: ``$GPUSCHED_ADDRESS`` names no addresses.
    """
    return parse_addresses(environ.get("GPUSCHED_ADDRESS") or f"unix://{default_home(environ) / HEAD_SOCKET}")


def is_loopback(host: str) -> bool:
    """Whether packets to ``host`` stay on this machine. A name other than localhost is not looked up."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
