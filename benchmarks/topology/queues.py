"""What queues may use: a tree of deserved shares and hard limits, in GPU milli.

Two rules, from NVIDIA's KAI-Scheduler: what cannot be preempted stays within the deserved share of
its queue and of every queue above it, so that each tenant can always get its own back; nothing
passes a limit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from gpusched.domain.errors import ConfigInvalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """One queue. ``deserved_milli`` and ``limit_milli`` are GPU milli; None is no bound."""

    name: str
    deserved_milli: int | None
    limit_milli: int | None = None
    parent: str | None = None


@dataclass(frozen=True, slots=True)
class Use:
    """What the jobs of a queue hold, in GPU milli."""

    total: int = 0
    fixed: int = 0  # of which cannot be preempted


class QueueTree:
    """Queues and what they use; ``charge`` changes the use of a queue and of all above it."""

    __slots__ = ("_queues", "_used")

    def __init__(self, queues: Mapping[str, Queue]) -> None:
        """Start with nothing used.

        Raises:
            ConfigInvalid: A parent is not there, or queues are above themselves.
        """
        self._queues = dict(queues)
        self._used = dict.fromkeys(queues, Use())
        for name in queues:
            seen: set[str] = set()
            at: str | None = name
            while at is not None:
                if at not in queues:
                    raise ConfigInvalid(f"queue {name}: there is no queue {at} above it: define it")
                if at in seen:
                    raise ConfigInvalid(f"queue {name} is above itself: give {at} another parent")
                seen.add(at)
                at = queues[at].parent

    def admits(self, queue: str, milli: int, *, preemptible: bool) -> bool:
        """Tell whether a queue may use that much more."""
        return all(
            _within(self._used[above.name].total + milli, above.limit_milli)
            and (preemptible or _within(self._used[above.name].fixed + milli, above.deserved_milli))
            for above in self._upwards(queue)
        )

    def charge(self, queue: str, milli: int, *, preemptible: bool) -> None:
        """Count that much as used by a queue and all above it; negative gives back."""
        for above in self._upwards(queue):
            used = self._used[above.name]
            self._used[above.name] = Use(used.total + milli, used.fixed + (0 if preemptible else milli))

    def saturation(self, queue: str) -> tuple[float, ...]:
        """Use by deserved share from the topmost queue down: the lower goes first."""
        line = reversed(list(self._upwards(queue)))
        return tuple(self._used[above.name].total / max(above.deserved_milli or 1, 1) for above in line)

    def _upwards(self, queue: str) -> Iterator[Queue]:
        at: str | None = queue
        while at is not None:
            yield self._queues[at]
            at = self._queues[at].parent


def _within(milli: int, bound: int | None) -> bool:
    return bound is None or milli <= bound
