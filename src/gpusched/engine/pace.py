"""How often cycles run: as often as there is something new, yet never most of the time.

A cycle computes on the event loop; while it does, no call is answered. A rest in proportion to what
it took bounds the share of the time that cycles get, whatever the size of the cluster and the queue.
"""

from __future__ import annotations

REST_FACTOR = 2
"""Rest after a cycle, in cycles: at most a third of the time goes to cycles."""


class CyclePace:
    """Says when the next cycle may run. Times are readings of a monotonic clock, in microseconds."""

    def __init__(self) -> None:
        self._rests_until_us: int | None = None

    def rest_left_us(self, now_us: int) -> int:
        """How long the next cycle must wait; 0 if it may run, as it always may after an idle time."""
        return 0 if self._rests_until_us is None else max(0, self._rests_until_us - now_us)

    def note_cycle(self, began_us: int, ended_us: int) -> None:
        """Take note of a cycle: twice as long as it took is for other work."""
        self._rests_until_us = ended_us + REST_FACTOR * (ended_us - began_us)
