"""How often nodes failed, from attempts."""

from __future__ import annotations

from cluster import facts

from gpusched.domain.allocation import Allocation, NodeAllocation
from gpusched.domain.ids import Epoch, JobId
from gpusched.domain.job_state import EndReason
from gpusched.domain.usage import AttemptSpan
from gpusched.engine.failures import failure_history

S = 1_000_000
DAY_US = 86_400 * S


def attempt(
    job: int, epoch: int, start_us: int, running_us: int | None, end_us: int | None, reason: EndReason | None
) -> AttemptSpan:
    nodes = tuple(
        NodeAllocation(
            node=facts(name).name,
            address=name,
            interface=None,
            devices=(),
            cpu_ids=(),
            cpus_pinnable=True,
            memory_bytes=0,
        )
        for name in ("n1", "n2")
    )
    return AttemptSpan(
        job_id=JobId(job),
        epoch=Epoch(epoch),
        user="ada",
        account="a",
        allocation=Allocation(nodes=nodes, master_port=1, granted_at_us=start_us),
        running_at_us=running_us,
        ended_at_us=end_us,
        end_reason=reason,
    )


def test_nothing_gives_nothing() -> None:
    found = failure_history((), 0, DAY_US)
    assert (found.node_us, found.failures, found.restart_s) == (0, 0, None)


def test_node_time_counts_every_node_within_the_window_only() -> None:
    ran = attempt(1, 1, -DAY_US, 0, DAY_US // 2, EndReason.COMPLETED)
    runs_on = attempt(2, 1, DAY_US // 2, DAY_US // 2, None, None)
    assert failure_history((ran, runs_on), 0, DAY_US).node_days == 2.0


def test_only_failures_of_infrastructure_count_and_a_drain_is_none() -> None:
    reasons = (EndReason.NODE_FAIL, EndReason.STALLED, EndReason.RANK_FAILED, EndReason.DRAINED)
    spans = [attempt(i, 1, 0, 0, S, reason) for i, reason in enumerate(reasons, 1)]
    assert failure_history(spans, 0, DAY_US).failures == 2


def test_a_restart_is_measured_from_the_failure_until_every_rank_runs_again() -> None:
    spans = (
        attempt(1, 1, 0, 0, 100 * S, EndReason.NODE_FAIL),
        attempt(1, 2, 110 * S, 130 * S, 200 * S, EndReason.NODE_FAIL),
        attempt(1, 3, 200 * S, 210 * S, None, None),
        attempt(2, 1, 0, 1 * S, None, None),
    )
    assert failure_history(spans, 0, DAY_US).restart_s == 20.0
