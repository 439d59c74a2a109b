"""Time as an argument: the core is handed a clock and never asks the machine for one."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Where time comes from. Instants and durations are integers in microseconds."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, UTC: for stamps that people and reports read."""
        ...

    def monotonic_us(self) -> int:
        """Only the difference of two readings on one machine means anything."""
        ...
