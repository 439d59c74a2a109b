"""How much one node may make the head write: a node that lies, or is very ill, must not fill the log.

Every change of a node is written with all that is known of it, so thousands of them are gigabytes.
"""

from __future__ import annotations

import logging
from collections.abc import Set
from dataclasses import replace
from math import ceil

from gpusched.domain.clock import Clock
from gpusched.domain.errors import TooManyRequests
from gpusched.domain.health import HealthObserved

log = logging.getLogger(__name__)

PER_S = 1.0
BURST = 256
"""Changes that are taken as they come: more than the devices of one node can show at once."""

FACTS = 10
"""What new facts count."""


class ChangePace:
    """One node's, over all its streams.

    Args:
        clock: Its monotonic time gives back what was used.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left, self._then_us = float(BURST), clock.monotonic_us()
        self._known: Set[object] = frozenset()
        self._is_told = False

    def count_facts(self) -> None:
        """Count facts that are new.

        Raises:
            TooManyRequests: There were too many; says how long to wait.
        """
        left = self._refilled()
        if left < FACTS:
            wait_s = (FACTS - left) / PER_S
            raise TooManyRequests(
                f"what this node says of its machine changes too often: try again in {ceil(wait_s)} s",
                retry_after_s=wait_s,
            )
        self._left = left - FACTS

    def fitted(self, observed: HealthObserved) -> HealthObserved:
        """The picture without what is new and too much; what was known, and what is over, is kept."""
        room = int(self._refilled())
        new = [each for each in observed.conditions if each.key not in self._known][:room]
        sightings = observed.sightings[: room - len(new)]
        taken = {each.key for each in new}
        conditions = tuple(
            each for each in observed.conditions if each.key in self._known or each.key in taken
        )
        self._left -= len(new) + len(sightings)
        self._known = frozenset(each.key for each in conditions)
        fitted = replace(observed, conditions=conditions, sightings=sightings)
        if fitted != observed and not self._is_told:  # said once, not as often as it is true
            self._is_told = True
            log.warning("node %s reports more changes of its health than are taken", observed.node)
        return fitted

    def _refilled(self) -> float:
        now_us = self._clock.monotonic_us()
        self._left = min(self._left + (now_us - self._then_us) * PER_S / 1e6, float(BURST))
        self._then_us = now_us
        self._is_told &= self._left < BURST
        return self._left
