"""What is observed now, put together from its sources, and told when it changes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from gpusched.domain.health import Condition, HealthObserved, Sighting
from gpusched.domain.ids import NodeName

WINDOW_US = 60_000_000
TOLD_MAX = 5
"""Of one thing, so many sightings a minute are told: a broken program can raise hundreds of Xids a second."""
SIGHTINGS_MAX = 64


class Picture:
    """The conditions of each source, and the sightings that the head has not acknowledged.

    A picture is complete once every source has spoken; until then the head clears nothing.
    """

    def __init__(
        self,
        node: NodeName,
        boot_id: str,
        *,
        sources: Iterable[str],
        now_us: Callable[[], int],
        tell: Callable[[HealthObserved], None],
    ) -> None:
        self._node, self._boot_id, self._now_us, self._tell = node, boot_id, now_us, tell
        self._silent = set(sources)
        self._held: dict[str, tuple[Condition, ...]] = {}
        self._sightings: list[Sighting] = []
        self._told_us: dict[object, list[int]] = {}
        self._last_us = 0

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """What holds now, each once, in a fixed order."""
        known: dict[object, Condition] = {}
        for condition in (condition for held in self._held.values() for condition in held):
            same = known.get(condition.key)
            both = condition.detail if same is None else f"{same.detail}; {condition.detail}"
            known[condition.key] = replace(condition, detail=both)
        return tuple(known[key] for key in sorted(known, key=str))

    def put(self, source: str, conditions: Iterable[Condition]) -> None:
        """Take everything that one source observes now."""
        before, was_complete = {c.key for c in self.conditions}, not self._silent
        self._held[source] = tuple(conditions)
        self._silent.discard(source)
        if before != {c.key for c in self.conditions} or was_complete != (not self._silent):
            self._report()

    def see(self, condition: Condition) -> None:
        """Take what was seen at this instant."""
        now_us = self._now_us()
        told = [at_us for at_us in self._told_us.get(condition.key, ()) if now_us - at_us < WINDOW_US]
        if len(told) >= TOLD_MAX:
            return
        self._told_us[condition.key] = [*told, now_us]
        self._last_us = max(now_us, self._last_us + 1)
        self._sightings = [
            *self._sightings[1 - SIGHTINGS_MAX :],
            Sighting(observed_us=self._last_us, condition=condition),
        ]
        self._report()

    def acknowledge(self, observed: HealthObserved) -> None:
        """The head has what this holds."""
        told_us = max((sighting.observed_us for sighting in observed.sightings), default=0)
        self._sightings = [sighting for sighting in self._sightings if sighting.observed_us > told_us]

    def _report(self) -> None:
        self._tell(
            HealthObserved(
                node=self._node,
                boot_id=self._boot_id,
                conditions=self.conditions,
                sightings=tuple(self._sightings),
                is_complete=not self._silent,
            )
        )
