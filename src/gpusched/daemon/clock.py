"""The machine's clocks, behind the domain's protocol."""

from __future__ import annotations

import time


class SystemClock:
    """Wall time, and CLOCK_BOOTTIME for durations: it goes on while the machine is suspended."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch."""
        return time.time_ns() // 1_000

    def monotonic_us(self) -> int:
        """Microseconds since boot."""
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000
