"""What queues may use: a tree of deserved shares and hard limits, in GPU milli.

Two rules, from NVIDIA's KAI-Scheduler: what cannot be preempted stays within the deserved share of
its queue and of every queue above it, so that each tenant can always get its own back; nothing
passes a limit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from gpusched.domain.errors import ConfigInvalid
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import WHOLE_MILLI


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


@dataclass(frozen=True, slots=True)
class Quotas:
    """The most GPUs that the running jobs of an account may hold together; others have no bound."""

    gpus_max: Mapping[str, int] = field(default_factory=dict)

    def gate(self, held: Iterable[JobSpec]) -> AccountGate:
        """Start a cycle with what running jobs hold."""
        return AccountGate(self, held)


class AccountGate:
    """Lets the jobs of an account through while its quota lasts, in the order of the queue.

    After the first job of an account that its quota keeps out, no other of that account goes through in
    the same cycle: what comes free is its. So it waits for jobs that run, never for ones behind it.
    """

    def __init__(self, quotas: Quotas, held: Iterable[JobSpec]) -> None:
        self._tree = QueueTree(
            {
                account: Queue(name=account, deserved_milli=None, limit_milli=gpus * WHOLE_MILLI)
                for account, gpus in quotas.gpus_max.items()
            }
        )
        self._bounded = quotas.gpus_max.keys()
        self._waiting: set[str] = set()
        for spec in held if self._bounded else ():
            self.charge(spec)

    @property
    def is_bounded(self) -> bool:
        """Whether any account has a quota."""
        return bool(self._bounded)

    def lets(self, spec: JobSpec) -> bool:
        """Tell whether a job may start as far as quotas go; its turn is now, and it keeps its place."""
        if spec.account not in self._bounded or spec.gpu_count == 0:
            return True
        if spec.account in self._waiting:
            return False
        if self._tree.admits(spec.account, spec.gpu_milli_total, preemptible=False):
            return True
        self._waiting.add(spec.account)
        return False

    def charge(self, spec: JobSpec) -> None:
        """Count a job as holding its GPUs, or as having them kept for it."""
        if spec.account in self._bounded:
            self._tree.charge(spec.account, spec.gpu_milli_total, preemptible=False)
