"""How much one node may make the head write: a node that lies, or is very ill, must not fill the log.

Every change of a node is written with all that is known of it, so thousands of them are gigabytes.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence, Set
from dataclasses import replace
from math import ceil

from gpusched.domain.clock import Clock
from gpusched.domain.errors import TooManyRequests
from gpusched.domain.health import HealthObserved, Sighting

log = logging.getLogger(__name__)

PER_S = 1.0
BURST = 256
"""Changes that are taken as they come: more than the devices of one node can show at once."""

TOLD_MAX = 4_096
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
        self._told: OrderedDict[object, int] = OrderedDict()  # sightings by key, and when one was taken
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
        """The picture without what is too much: first goes what was last told most recently.

        Nothing is dropped of what was known, or is over. Repetitions leave half of the burst to what has not
        been told lately: a driver that says one thing a thousand times must not hide the one that matters.
        """
        left = self._refilled()
        new = [each for each in observed.conditions if each.key not in self._known][: int(left)]
        left -= len(new)
        sightings = self._chosen(observed.sightings, left)
        taken = {each.key for each in new}
        conditions = tuple(
            each for each in observed.conditions if each.key in self._known or each.key in taken
        )
        self._left = left - len(sightings)
        self._known = frozenset(each.key for each in conditions)
        fitted = replace(observed, conditions=conditions, sightings=sightings)
        if fitted != observed and not self._is_told:  # said once, not as often as it is true
            self._is_told = True
            log.warning("node %s reports more changes of its health than are taken", observed.node)
        return fitted

    def _chosen(self, sightings: Sequence[Sighting], room: float) -> tuple[Sighting, ...]:
        rare = {each.condition.key: each for each in sightings if each.condition.key not in self._told}
        chosen = list(rare.values())[: int(room)]
        for_repeated = max(int(room) - len(chosen) - BURST // 2, 0)
        repeated = [each for each in sightings if rare.get(each.condition.key) is not each]
        repeated.sort(key=lambda each: self._told.get(each.condition.key, self._then_us))
        chosen += repeated[:for_repeated]
        for each in chosen:
            self._told[each.condition.key] = self._then_us
            self._told.move_to_end(each.condition.key)
        while len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        return tuple(sorted(chosen, key=lambda each: each.observed_us))

    def _refilled(self) -> float:
        now_us = self._clock.monotonic_us()
        self._left = min(self._left + (now_us - self._then_us) * PER_S / 1e6, float(BURST))
        self._then_us = now_us
        self._is_told &= self._left < BURST
        return self._left
