"""What accounts may use: the most GPUs that the running jobs of one may hold together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import WHOLE_MILLI


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
        self._milli_left = {account: gpus * WHOLE_MILLI for account, gpus in quotas.gpus_max.items()}
        self._waiting: set[str] = set()
        for spec in held if self.is_bounded else ():
            self.charge(spec)

    @property
    def is_bounded(self) -> bool:
        """Whether any account has a quota."""
        return bool(self._milli_left)

    def lets(self, spec: JobSpec) -> bool:
        """Tell whether a job may start as far as quotas go; its turn is now, and it keeps its place."""
        if spec.account not in self._milli_left or spec.gpu_count == 0:
            return True
        if spec.account in self._waiting:
            return False
        if spec.gpu_milli_total <= self._milli_left[spec.account]:
            return True
        self._waiting.add(spec.account)
        return False

    def charge(self, spec: JobSpec) -> None:
        """Count a job as holding its GPUs, or as having them kept for it."""
        if spec.account in self._milli_left:
            self._milli_left[spec.account] -= spec.gpu_milli_total
