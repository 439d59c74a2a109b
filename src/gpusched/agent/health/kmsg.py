"""Xids from the kernel's log.

Records of /dev/kmsg are ``priority,sequence,microseconds,flags;text`` (kernel documentation:
ABI/testing/dev-kmsg). The NVIDIA driver writes ``NVRM: Xid (PCI:0000:3b:00): 79, pid=1234, words``.
The bare word ``Xid`` is not looked for: container ids hold it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gpusched.domain.errors import Unavailable

log = logging.getLogger(__name__)

RECORD_BYTES_MAX = 8192  # the kernel gives one record a read and refuses smaller buffers
READS_MAX = 256  # before others get their turn
_RECORD = re.compile(r"(?:\d+,(?P<seq>\d+),\d+,[^;]*;)?(?P<text>.*)", re.DOTALL)
_XID = re.compile(r"NVRM: Xid \((?:PCI:)?(?P<bus>[\da-fA-F:.]+)\): (?P<code>\d{1,9})(?:, *(?P<words>.*))?")
_BUS = re.compile(r"([\da-f]{1,8}):([\da-f]{1,2}):([\da-f]{1,2})(?![\da-f])", re.IGNORECASE)

PciAddress = tuple[int, int, int]
"""Domain, bus and device: NVML and the kernel write them with different numbers of digits."""


@dataclass(frozen=True, slots=True)
class XidLine:
    """One Xid in the log."""

    code: int
    address: PciAddress | None
    words: str


def parse_pci(text: str) -> PciAddress | None:
    """Read ``0000:3b:00``, with or without a function, however many digits its domain has."""
    found = _BUS.match(text)
    return None if found is None else (int(found[1], 16), int(found[2], 16), int(found[3], 16))


def parse_xid(text: str) -> XidLine | None:
    """Read one line of the log; None if it tells of no Xid."""
    found = _XID.search(text)
    if found is None:
        return None
    return XidLine(int(found["code"]), parse_pci(found["bus"]), (found["words"] or "").strip())


class KmsgUnreadable(Unavailable):
    """The kernel's log cannot be read."""


class KmsgWatch:
    """Calls back, in the event loop, for each Xid that the log gets from now on."""

    def __init__(self, path: Path, on_xid: Callable[[XidLine], None]) -> None:
        self._path, self._on_xid = path, on_xid
        self._fd: int | None = None
        self._rest = b""

    def open(self) -> None:
        """Begin at the log's end.

        Raises:
            KmsgUnreadable: There is no such file, or we may not read it.
        """
        try:
            is_fifo = stat.S_ISFIFO(self._path.stat().st_mode)
            # A fifo is opened for writing too, so that it does not end with its writer.
            mode = os.O_RDWR if is_fifo else os.O_RDONLY
            fd = os.open(self._path, mode | os.O_NONBLOCK | os.O_CLOEXEC)
            if not is_fifo:
                os.lseek(fd, 0, os.SEEK_END)
        except OSError as error:
            raise KmsgUnreadable(f"{self._path}: {error.strerror}") from error
        self._fd = fd
        asyncio.get_running_loop().add_reader(fd, self._read)

    def close(self) -> None:
        """Listen no more."""
        if self._fd is not None:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = None

    def _read(self) -> None:
        for _ in range(READS_MAX):
            assert self._fd is not None
            try:
                data = os.read(self._fd, RECORD_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.EPIPE:  # records were overwritten before we came: go on after them
                    continue
                log.error("%s cannot be read any more: %s", self._path, error)
                self.close()
                return
            if not data:
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._rest = self._rest[-RECORD_BYTES_MAX:]
            for line in lines:
                self._take(line.decode(errors="replace"))

    def _take(self, record: str) -> None:
        found = _RECORD.fullmatch(record)
        assert found is not None, "every text matches"
        xid = parse_xid(found["text"])
        if xid is not None:
            with contextlib.suppress(ValueError):
                self._on_xid(xid)
