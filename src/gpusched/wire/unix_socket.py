"""Unix sockets: taking over a path that a dead server left behind, and who is at the other end."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from gpusched.domain.errors import ConfigInvalid
from gpusched.wire.address import check_socket_path

_UCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7), SO_PEERCRED)


@dataclass(frozen=True, slots=True)
class Peer:
    """The process at the other end, as the kernel knows it."""

    pid: int
    uid: int
    gid: int


def peer_of(connection: socket.socket) -> Peer:
    """Ask the kernel who connected (SO_PEERCRED: the credentials at the time of connect)."""
    return Peer(*_UCRED.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def claim_path(path: Path) -> None:
    """Make ``path`` free to bind: remove a socket file on which nobody answers.

    Raises:
        ConfigInvalid: Somebody answers there, something else than a socket lies there, the path is
            too long, or its folder cannot be used.
    """
    check_socket_path(path)
    try:
        if not path.parent.is_dir():
            raise ConfigInvalid(f"{path.parent} is no folder: make it, or choose another GPUSCHED_HOME")
        if not path.exists():
            return
        if not path.is_socket():
            raise ConfigInvalid(f"{path} is in the way and is not a socket: remove it")
        if _is_answered(path):
            raise ConfigInvalid(
                f"another gpusched is serving on {path}: stop it, or choose another GPUSCHED_HOME"
            )
        path.unlink()
    except OSError as error:
        raise ConfigInvalid(f"cannot listen on {path}: {error}") from error


def open_to_all(path: Path) -> None:
    """Let every local user connect: what they may do is decided by who they are, not by the file."""
    path.chmod(0o666)


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(5)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        return True
