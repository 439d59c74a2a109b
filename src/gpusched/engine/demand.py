"""What is usually asked for, learnt from the last submissions: what placement keeps room for."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.placement.mix import NOTHING_KNOWN, RequestMix, shape_of
from gpusched.placement.request import NodeRequest, node_request

WINDOW = 1_024
"""Submissions that the mix is counted from: a share of 10 % is then known to about 1 %."""

RENEWED_EVERY = 256
"""Submissions between two countings: with another mix every node is scored anew, so it changes seldom."""

RECENT = WINDOW + RENEWED_EVERY
"""Of so many last submissions a restart must know the specs, to go on with the same mix."""


@dataclass(slots=True)
class Demand:
    """The mix of the last submissions: a function of their specs, in the order of their ids.

    Before the first ``RENEWED_EVERY`` nothing is known: too few say too little.
    """

    mix: RequestMix = NOTHING_KNOWN
    _last: deque[tuple[NodeRequest, int]] = field(default_factory=lambda: deque(maxlen=WINDOW))

    @classmethod
    def of(cls, submitted: Iterable[tuple[JobId, JobSpec]]) -> Demand:
        """Restore from the last ``RECENT`` submissions, or all there were, oldest first."""
        demand = cls()
        for job_id, spec in submitted:
            demand.note(job_id, spec)
        return demand

    def note(self, job_id: JobId, spec: JobSpec) -> None:
        """Count a submission. A gang of n nodes is n requests."""
        self.count(job_id, node_request(spec), spec.nodes)

    def count(self, number: int, request: NodeRequest, nodes: int) -> None:
        """Count ``nodes`` requests, the ``number``-th of all submissions."""
        self._last.append((shape_of(request), nodes))
        if number % RENEWED_EVERY == 0:
            counts: Counter[NodeRequest] = Counter()
            for shape, times in self._last:
                counts[shape] += times
            self.mix = RequestMix.of(counts)
