"""Where a job's next attempt may go: not where infrastructure failed it before, if there is any other way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gpusched.domain.errors import Rejected
from gpusched.domain.ids import NodeName
from gpusched.domain.job_spec import JobSpec
from gpusched.placement.feasible import check_feasible
from gpusched.placement.snapshot import ClusterSnapshot


def retry_spec(snapshot: ClusterSnapshot, spec: JobSpec, failed_on: Sequence[NodeName]) -> JobSpec:
    """The job without the nodes that failed it, unless nothing else could ever hold it. O(N) if any did."""
    if not failed_on:
        return spec
    elsewhere = replace(spec, exclude=(*spec.exclude, *(n for n in failed_on if n not in spec.exclude)))
    try:
        check_feasible(snapshot, elsewhere)
    except Rejected:
        return spec
    return elsewhere
