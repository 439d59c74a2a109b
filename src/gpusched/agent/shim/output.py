"""One rank's output on disk: segments named by the offset of their first byte.

``<offset, 20 digits>.log`` holds bytes, ``<same>.times`` when they came: pairs of offset and wall
time (microseconds), 16 bytes each, little-endian. An offset counts what the rank wrote, so bytes
that were lost, to the cap or to a full disk, are a gap between two segments and need no mark of
their own.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections import deque
from pathlib import Path

from gpusched.agent.shim.files import PRIVATE

SEGMENTS = 8  # of one rank, at its cap
SEGMENT_BYTES_MIN = 64 * 1024
TIME_ROW = struct.Struct("<QQ")
TIME_STEP_US = 100_000  # rows are at least this far apart
RETRY_AFTER_US = 500_000  # how long a disk that was full is left alone
CREATE = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def segment_path(folder: Path, start: int) -> Path:
    """The segment whose first byte is at ``start``."""
    return folder / f"{start:020}.log"


class RankOutput:
    """Takes a rank's bytes and keeps the newest ``cap_bytes`` of them. Never raises, never waits."""

    def __init__(self, folder: Path, cap_bytes: int) -> None:
        self.offset = 0  # of the next byte
        self._folder = folder
        self._segment_bytes = max(cap_bytes // SEGMENTS, SEGMENT_BYTES_MIN)
        self._segments_max = max(cap_bytes // self._segment_bytes, 2)
        self._segments: deque[int] = deque()
        self._log_fd: int | None = None
        self._times_fd: int | None = None
        self._timed_us = 0
        self._full_until_us = 0

    def write(self, data: bytes, now_us: int) -> None:
        """Append ``data``; what does not go on the disk counts in ``offset`` and is forgotten."""
        view = memoryview(data)
        while view and now_us >= self._full_until_us:
            try:
                written = self._append(view, now_us)
            except OSError:
                self._full_until_us = now_us + RETRY_AFTER_US
                self._end_segment()
                break
            self.offset += written
            view = view[written:]
        self.offset += len(view)

    def close(self) -> None:
        """Nothing follows."""
        self._end_segment()

    def _append(self, view: memoryview, now_us: int) -> int:
        if self._log_fd is None or self.offset >= self._segments[-1] + self._segment_bytes:
            self._begin_segment()
        assert self._log_fd is not None and self._times_fd is not None
        if now_us >= self._timed_us + TIME_STEP_US or self.offset == self._segments[-1]:
            self._timed_us = now_us
            os.write(self._times_fd, TIME_ROW.pack(self.offset, now_us))
        room = self._segments[-1] + self._segment_bytes - self.offset
        return os.write(self._log_fd, view[:room])

    def _begin_segment(self) -> None:
        self._end_segment()
        path = segment_path(self._folder, self.offset)
        self._log_fd = os.open(path, CREATE, PRIVATE)
        self._segments.append(self.offset)
        self._times_fd = os.open(path.with_suffix(".times"), CREATE, PRIVATE)
        while len(self._segments) > self._segments_max:
            self._remove(self._segments.popleft())

    def _end_segment(self) -> None:
        for fd in (self._log_fd, self._times_fd):
            if fd is not None:
                os.close(fd)
        self._log_fd = self._times_fd = None
        # A segment that the disk had no room for is no segment: its name would hide the gap.
        if self._segments and self._segments[-1] == self.offset:
            self._remove(self._segments.pop())

    def _remove(self, start: int) -> None:
        path = segment_path(self._folder, start)
        for doomed in (path, path.with_suffix(".times")):
            with contextlib.suppress(OSError):
                doomed.unlink()
