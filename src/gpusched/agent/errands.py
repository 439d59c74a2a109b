"""Work that an agent does beside what it was asked: each piece ends by itself, or is cancelled at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

log = logging.getLogger(__name__)


class Errands:
    """Runs coroutines until they end; what one raises is logged, and hinders no other.

    Args:
        of: Whose they are, for the log.
    """

    def __init__(self, of: str) -> None:
        self._of = of
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        """Run ``work`` from now on; wait for the task or leave it alone."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Cancel what has not ended."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s: %s", self._of, error, exc_info=error)
