"""From attempts to how often nodes fail: what the advice on checkpoints is made of."""

from __future__ import annotations

from collections.abc import Sequence

from gpusched.domain.checkpoints import FailureHistory
from gpusched.domain.job_state import EndReason
from gpusched.domain.usage import AttemptSpan

FAILURE_REASONS = frozenset({EndReason.NODE_FAIL, EndReason.SHIM_LOST, EndReason.STALLED})
"""Ends that are failures. A drain is somebody's decision."""


def failure_history(attempts: Sequence[AttemptSpan], start_us: int, end_us: int) -> FailureHistory:
    """Fold the attempts that held nodes in a window; time outside it does not count.

    Args:
        attempts: Whole, in the order of job and epoch.
        start_us: Where the window begins.
        end_us: Where it ends; attempts that still run are cut off there.
    """
    node_us, failures, restarts_us = 0, 0, list[int]()
    lost: AttemptSpan | None = None  # the attempt before, if a failure ended it
    for attempt in attempts:
        begin_us = max(attempt.allocation.granted_at_us, start_us)
        ended_us = min(end_us if attempt.ended_at_us is None else attempt.ended_at_us, end_us)
        node_us += max(0, ended_us - begin_us) * len(attempt.allocation.nodes)
        if lost is not None and lost.job_id == attempt.job_id and attempt.running_at_us is not None:
            assert lost.ended_at_us is not None
            restarts_us.append(attempt.running_at_us - lost.ended_at_us)
        is_lost = attempt.end_reason in FAILURE_REASONS and attempt.ended_at_us is not None
        failures += is_lost
        lost = attempt if is_lost else None
    mean_s = sum(restarts_us) / len(restarts_us) / 1e6 if restarts_us else None
    return FailureHistory(node_us=node_us, failures=failures, restart_s=mean_s)
