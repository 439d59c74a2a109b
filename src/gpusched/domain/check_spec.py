"""What is wrong with a job spec, said before anything else hears of the job.

Each part of a spec has its module here, and ``spec_limits.py`` the numbers. The checks need no
cluster; whether a job fits one is the placement's answer.
"""

from __future__ import annotations

from collections.abc import Callable

from gpusched.domain.check_gang import check_components, check_nodes_named, check_topology
from gpusched.domain.check_policy import (
    check_restarts,
    check_slow,
    check_stall,
    check_time,
    check_utilization,
)
from gpusched.domain.check_program import check_around, check_env, check_what_runs, check_words
from gpusched.domain.check_resources import check_counts, check_memory, check_shape
from gpusched.domain.check_value import Check, digits, nearest, shown
from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.partition import Partitions


def check_spec(spec: JobSpec, partitions: Partitions | None) -> tuple[Violation, ...]:
    """List everything that is wrong with ``spec``; empty means it may be submitted.

    Args:
        spec: As decoded; every field may hold anything of its type.
        partitions: The cluster's, to check the partition's name and limits; None where they
            are not known (a client that checks before it calls).
    """
    checks: tuple[Callable[[JobSpec], Check], ...] = (
        check_what_runs,
        check_shape,
        check_components,
        check_memory,
        check_counts,
        check_time,
        check_restarts,
        check_stall,
        check_slow,
        check_utilization,
        check_words,
        check_env,
        check_around,
        check_nodes_named,
        check_topology,
    )
    found = [violation for check in checks for violation in check(spec)]
    if partitions is not None:
        found.extend(_check_partition(spec, partitions))
    return tuple(found)


def require_valid(spec: JobSpec, partitions: Partitions | None) -> None:
    """Refuse a spec that ``check_spec`` finds fault with.

    Raises:
        InvalidSpec: With every violation found.
    """
    violations = check_spec(spec, partitions)
    if violations:
        raise InvalidSpec(violations)


def _check_partition(spec: JobSpec, partitions: Partitions) -> Check:
    partition = partitions.named(spec.partition)
    if partition is None:
        names = [known.name for known in partitions.all]
        yield Violation(
            "partition",
            f"there is no {shown(spec.partition or '')}; {nearest(spec.partition or '', names)}",
        )
        return
    limit = partition.time_limit_max_s
    if limit is None:
        return
    if spec.time_limit_s is None:
        yield Violation(
            "time_limit", f"is not given, and partition {partition.name} allows {limit} seconds; give one"
        )
    elif spec.time_limit_s > limit:
        yield Violation(
            "time_limit",
            f"{digits(spec.time_limit_s)} is more than the {limit} seconds "
            f"that partition {partition.name} allows; ask for less, or name another partition",
        )
