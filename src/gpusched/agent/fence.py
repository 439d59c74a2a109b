"""Epochs that have passed: what lets an agent refuse an order that comes too late.

While an attempt's folder exists, the folder itself is the memory. This file remembers the attempts
whose folders were deleted, the newest ``KEPT_MAX`` of them, one ``<job>.<epoch>`` per line.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gpusched.agent.attempt_dir import parse_attempt_id
from gpusched.agent.shim.files import PRIVATE, write_all, write_durably
from gpusched.domain.ids import AttemptId, Epoch, JobId

KEPT_MAX = 100_000  # no order is late by that many jobs


class Fence:
    """The highest deleted epoch of each job."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._highest: dict[JobId, Epoch] = {}
        lines = path.read_text().split() if path.exists() else []
        for attempt_id in filter(None, map(parse_attempt_id, lines)):
            self._raise(attempt_id)

    def highest(self, job_id: JobId) -> Epoch:
        """The highest deleted epoch of the job, 0 if there is none."""
        return self._highest.get(job_id, Epoch(0))

    def remember(self, attempts: Sequence[AttemptId]) -> None:
        """Remember them for good; only then may their folders go.

        Raises:
            OSError: It could not be written.
        """
        # Each line brings its own beginning: the last one may have been cut short by a crash.
        data = "".join(f"\n{attempt_id}" for attempt_id in attempts).encode()
        fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE)
        try:
            write_all(fd, data)
            os.fsync(fd)
        finally:
            os.close(fd)
        for attempt_id in attempts:
            self._raise(attempt_id)
        if len(self._highest) > 2 * KEPT_MAX:
            self._compact()

    def _raise(self, attempt_id: AttemptId) -> None:
        highest = max(attempt_id.epoch, self._highest.pop(attempt_id.job_id, Epoch(0)))
        self._highest[attempt_id.job_id] = highest  # at the end: the newest goes last

    def _compact(self) -> None:
        self._highest = dict(list(self._highest.items())[-KEPT_MAX:])
        lines = (f"{AttemptId(job_id, epoch)}\n" for job_id, epoch in self._highest.items())
        write_durably(self._path, "".join(lines).encode())
