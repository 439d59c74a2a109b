"""What is kept of attempts that are over: their folders for a while, their epochs for longer."""

from __future__ import annotations

import shutil
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gpusched.agent.attempt_dir import attempt_dir, discard
from gpusched.agent.fence import Fence
from gpusched.domain.ids import AttemptId, Epoch, JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Which folders of ended and acknowledged attempts stay, their output included."""

    keep: int = 1000  # the newest
    age_max_s: float = 7 * 86400.0


class Archive:
    """Ended and acknowledged attempts, oldest first."""

    def __init__(self, home: Path, retention: Retention) -> None:
        self._home = home
        self._retention = retention
        self._fence = Fence(home / "retired")
        self._kept: deque[tuple[AttemptId, float]] = deque()  # since when, wall clock
        shutil.rmtree(self._trash, ignore_errors=True)  # a removal that was cut short

    def highest_removed(self, job_id: JobId) -> Epoch:
        """The highest epoch of the job whose folder was removed, 0 if there is none."""
        return self._fence.highest(job_id)

    def add(self, attempt_id: AttemptId, acknowledged_at_s: float) -> None:
        """Take in an attempt whose end is acknowledged. Call in the order of the times."""
        self._kept.append((attempt_id, acknowledged_at_s))

    def expired(self) -> tuple[AttemptId, ...]:
        """Take out what need not be kept any longer; empty until it is worth a write."""
        old_s = time.time() - self._retention.age_max_s
        surplus = len(self._kept) - self._retention.keep
        aged = sum(1 for _, since_s in self._kept if since_s < old_s) if surplus <= 0 else 0
        count = max(surplus, aged)
        if count < max(self._retention.keep // 16, 1):
            return ()
        return tuple(self._kept.popleft()[0] for _ in range(count))

    def remove(self, attempts: Sequence[AttemptId]) -> None:
        """Delete the folders of ``attempts``, having noted that these epochs have passed.

        Raises:
            OSError: Nothing was deleted, or not all.
        """
        self._fence.remember(attempts)
        for attempt_id in attempts:
            discard(attempt_dir(self._home, attempt_id), self._trash)

    @property
    def _trash(self) -> Path:
        return self._home / "trash"
