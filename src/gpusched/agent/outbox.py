"""Facts that the head has not acknowledged. They stay here over any number of streams."""

from __future__ import annotations

import asyncio
from itertools import count

from gpusched.domain.events import AgentReport, HealthReport
from gpusched.domain.link import Report


class Outbox:
    """Reports in the order in which they arose, until taken.

    It is memory only: the attempt directories remember for an agent that dies, and the
    runner reports from them again.
    """

    def __init__(self) -> None:
        self._ids = count(1)
        self._waiting: dict[int, AgentReport | HealthReport] = {}
        self._grown = asyncio.Event()

    def put(self, fact: AgentReport | HealthReport) -> None:
        """Add a fact."""
        self._waiting[next(self._ids)] = fact
        self._grown.set()

    def take(self, report_id: int) -> AgentReport | HealthReport | None:
        """Remove a fact that is committed; None if it was removed before."""
        return self._waiting.pop(report_id, None)

    async def after(self, report_id: int) -> tuple[Report, ...]:
        """Everything newer than ``report_id`` that waits; sleeps until there is something."""
        while True:
            self._grown.clear()
            newer = tuple(Report(i, fact) for i, fact in self._waiting.items() if i > report_id)
            if newer:
                return newer
            await self._grown.wait()
