"""What all tasks of one attempt have in common."""

from __future__ import annotations

from dataclasses import dataclass

from gpusched.domain.allocation import Allocation
from gpusched.domain.identity import Identity
from gpusched.domain.ids import AttemptId, Epoch, JobId
from gpusched.domain.job_spec import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptContext:
    """The attempt that a plan is made for."""

    job_id: JobId
    epoch: Epoch
    spec: JobSpec  # what the node at hand gives: of its component, where the gang has several
    whole: JobSpec
    owner: Identity
    allocation: Allocation
    cluster: str
    nodelist: str  # all its nodes in rank order, folded once for all tasks

    @property
    def attempt_id(self) -> AttemptId:
        """The attempt's name."""
        return AttemptId(self.job_id, self.epoch)

    @property
    def restart_count(self) -> int:
        """How many attempts came before."""
        return self.epoch - 1
