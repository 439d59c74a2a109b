"""Usage and money, for callers: read from the store, folded by the engine's pure functions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from gpusched.domain.checkpoints import FailureHistory
from gpusched.domain.clock import Clock
from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.identity import Principal
from gpusched.domain.usage import AttemptSpan, CostReport, DeviceInterval, GroupBy, RateBook
from gpusched.engine.accounting import cost_report, device_intervals
from gpusched.engine.failures import failure_history
from gpusched.store.reader import Reader

HISTORY_US = 28 * 86_400 * 1_000_000
"""The window of failure rates: that of Meta's lemon nodes (arXiv 2410.21680)."""


@dataclass(frozen=True, slots=True)
class ReportApi:
    """``ReportHandlers``: nothing here touches the engine's state."""

    reader: Reader
    rates: RateBook
    clock: Clock

    async def usage(
        self, who: Principal, start_us: int | None, end_us: int | None
    ) -> tuple[DeviceInterval, ...]:
        """Every device's time in the window, each microsecond in one class."""
        start, end = await self._window(start_us, end_us)
        return await asyncio.to_thread(self._intervals, start, end)

    async def cost(
        self, who: Principal, group_by: GroupBy, start_us: int | None, end_us: int | None
    ) -> CostReport:
        """The money of the window; its rows add up to the cluster's cost, to the cent."""
        start, end = await self._window(start_us, end_us)
        intervals = await asyncio.to_thread(self._intervals, start, end)
        return await asyncio.to_thread(cost_report, intervals, self.rates, group_by, start, end)

    async def failures(self, who: Principal) -> FailureHistory:
        """How often nodes failed in the last ``HISTORY_US`` of use."""
        end_us = self.clock.now_us()
        start_us = max(0, end_us - HISTORY_US)
        attempts = await asyncio.to_thread(self.reader.attempt_spans, start_us, end_us)
        return failure_history(attempts, start_us, end_us)

    def _intervals(self, start_us: int, end_us: int) -> tuple[DeviceInterval, ...]:
        return device_intervals(
            self.reader.attempt_spans(start_us, end_us),
            self.reader.node_spans(start_us, end_us),
            start_us,
            end_us,
        )

    async def _window(self, start_us: int | None, end_us: int | None) -> tuple[int, int]:
        now_us = self.clock.now_us()
        end = now_us if end_us is None else end_us
        if start_us is None:
            spans = await asyncio.to_thread(self.reader.node_spans, 0, now_us)
            start = min((span.start_us for span in spans), default=end)
            start = min(start, end)
        else:
            start = start_us
        if not 0 <= start <= end <= now_us:
            raise InvalidSpec(
                (Violation("start_us", "the window must not be reversed or reach into the future"),)
            )
        return start, end


def job_cost(reader: Reader, rates: RateBook, attempts: Sequence[AttemptSpan], now_us: int) -> Decimal:
    """What all attempts of one job have cost so far, exactly: the same as its lines in a report."""
    start_us = min(attempt.allocation.granted_at_us for attempt in attempts)
    wanted = {part.node for attempt in attempts for part in attempt.allocation.nodes}
    nodes = tuple(span for span in reader.node_spans(start_us, now_us) if span.node in wanted)
    held = [
        interval
        for interval in device_intervals(attempts, nodes, start_us, now_us)
        if interval.job_id is not None
    ]
    report = cost_report(held, rates, GroupBy.JOB, start_us, now_us)
    return sum((line.cost for line in report.lines), Decimal(0))
