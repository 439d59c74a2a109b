"""How often to write a checkpoint: against the sources, by brute force, and at the edges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusched.domain.checkpoints import (
    DAY_S,
    PRIOR_PER_NODE_DAY,
    FailureHistory,
    advise_checkpoint,
    ettr,
)
from gpusched.domain.errors import InvalidSpec


def history(node_days: float, failures: int) -> FailureHistory:
    return FailureHistory(node_us=int(node_days * DAY_S * 1e6), failures=failures, restart_s=None)


def test_a_job_fails_as_often_as_its_nodes_do_together() -> None:
    advice = advise_checkpoint(
        nodes=128, failures_per_node_day=PRIOR_PER_NODE_DAY, checkpoint_s=60, restart_s=600
    )
    assert advice.mttf_s == pytest.approx(DAY_S / (128 * 6.5e-3))


def test_hourly_checkpoints_of_large_jobs_reach_the_ettr_that_meta_reports() -> None:
    # Same source: 2,000 to 4,000 GPUs with hourly checkpoints have an ETTR of 0.9 or more.
    rate = 256 * PRIOR_PER_NODE_DAY / DAY_S
    assert ettr(rate_per_s=rate, restart_s=300, checkpoint_s=10, interval_s=3600) >= 0.9


def test_without_history_the_prior_stands_and_history_outweighs_it() -> None:
    assert history(0, 0).failures_per_node_day == pytest.approx(PRIOR_PER_NODE_DAY)
    assert history(100_000, 5_000).failures_per_node_day == pytest.approx(0.05, rel=0.01)
    assert 0 < history(100_000, 0).failures_per_node_day < PRIOR_PER_NODE_DAY / 100


@given(
    nodes=st.integers(1, 4096),
    rate=st.floats(1e-4, 1e-2),
    checkpoint_s=st.floats(0.1, 600),
    restart_s=st.floats(0, 600),
    factor=st.floats(0.05, 20),
)
def test_no_other_interval_loses_less(
    nodes: int, rate: float, checkpoint_s: float, restart_s: float, factor: float
) -> None:
    try:
        advice = advise_checkpoint(
            nodes=nodes, failures_per_node_day=rate, checkpoint_s=checkpoint_s, restart_s=restart_s
        )
    except InvalidSpec:
        assert nodes * rate / DAY_S * restart_s >= 1
        return
    other = ettr(
        rate_per_s=1 / advice.mttf_s,
        restart_s=restart_s,
        checkpoint_s=checkpoint_s,
        interval_s=advice.interval_s * factor,
    )
    assert other <= advice.ettr + 1e-12


def test_for_cheap_checkpoints_it_agrees_with_young_and_daly() -> None:
    advice = advise_checkpoint(nodes=16, failures_per_node_day=6.5e-3, checkpoint_s=5, restart_s=60)
    assert advice.interval_s == pytest.approx(advice.young_s, rel=0.01)
    assert advice.daly_s == pytest.approx(advice.young_s, rel=0.01)


def test_a_job_that_fails_before_it_has_restarted_gets_no_advice() -> None:
    with pytest.raises(InvalidSpec, match="no checkpoint helps"):
        advise_checkpoint(nodes=100_000, failures_per_node_day=0.1, checkpoint_s=1, restart_s=600)
