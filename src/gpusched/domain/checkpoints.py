"""How often to write a checkpoint: from how often nodes fail, and what a checkpoint and a restart cost.

The share of the wall time in which a job makes lasting progress (ETTR, effective training time ratio) is,
with N nodes that each fail at rate r, a restart that takes u, and a checkpoint that takes w, every d seconds,

    ETTR(d) = (1 - N r (u + d/2)) / (1 + w/d)

(Kokolis et al., "Revisiting Reliability in Large-Scale Machine Learning Research Clusters", arXiv
2410.21680). It is greatest at d = -w + sqrt(w^2 + 2 w (1 - N r u) / (N r)), where its derivative is zero.
Young's interval sqrt(2 w M), M = 1 / (N r) (CACM 17(9), 1974), and Daly's (FGCS 22(3), 2006) are given beside
it: for w much less than M all three agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from gpusched.domain.errors import InvalidSpec, Violation

DAY_S = 86_400.0
PRIOR_PER_NODE_DAY = 6.5e-3
"""Failures of Meta's RSC-1 (16,000 A100, 11 months): 6.50 per 1,000 node-days (arXiv 2410.21680)."""
PRIOR_FAILURES = 1.0
"""What the prior weighs: as much as one failure seen here, which is 154 node-days without any."""
RESTART_S = 600.0
"""Where no restart was measured: within the 5 to 20 minutes that Meta reports (arXiv 2410.21680)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureHistory:
    """What this cluster has seen: the time that jobs used nodes, and how often a failure ended that."""

    node_us: int  # microseconds, over all nodes
    failures: int  # attempts that infrastructure ended
    restart_s: float | None  # mean, from such an end until every rank ran again; None: never seen

    @property
    def node_days(self) -> float:
        """Days of nodes in use."""
        return self.node_us / 1e6 / DAY_S

    @property
    def failures_per_node_day(self) -> float:
        """The mean of the posterior: what was seen here, and the prior with the weight of one failure."""
        prior_days = PRIOR_FAILURES / PRIOR_PER_NODE_DAY
        return (self.failures + PRIOR_FAILURES) / (self.node_days + prior_days)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointAdvice:
    """The interval that loses least, and what is lost with it. Times in seconds, shares of the wall time."""

    nodes: int
    checkpoint_s: float
    restart_s: float
    mttf_s: float  # mean time between failures of the whole job
    interval_s: float
    young_s: float
    daly_s: float
    ettr: float
    writing: float  # share spent on writing checkpoints
    redoing: float  # share spent on work that is done a second time
    restarting: float  # share spent on restarts


def ettr(*, rate_per_s: float, restart_s: float, checkpoint_s: float, interval_s: float) -> float:
    """The share of lasting progress, by the formula above; ``rate_per_s`` is of the whole job."""
    return (1 - rate_per_s * (restart_s + interval_s / 2)) / (1 + checkpoint_s / interval_s)


def advise_checkpoint(
    *, nodes: int, failures_per_node_day: float, checkpoint_s: float, restart_s: float
) -> CheckpointAdvice:
    """Find the interval that maximises ``ettr``.

    Raises:
        InvalidSpec: No interval helps: a job of this size fails before it has restarted.
    """
    rate = nodes * failures_per_node_day / DAY_S
    mttf = 1 / rate
    room = 1 - rate * restart_s
    if room <= 0:
        message = (
            f"{nodes} nodes fail every {mttf:.0f} s and a restart takes {restart_s:.0f} s: "
            "no checkpoint helps; ask for fewer nodes, or make restarts faster"
        )
        raise InvalidSpec((Violation("nodes", message),))
    w = checkpoint_s
    interval = sqrt(w * w + 2 * w * room / rate) - w
    return CheckpointAdvice(
        nodes=nodes,
        checkpoint_s=w,
        restart_s=restart_s,
        mttf_s=mttf,
        interval_s=interval,
        young_s=sqrt(2 * w * mttf),
        daly_s=_daly(w, mttf),
        ettr=ettr(rate_per_s=rate, restart_s=restart_s, checkpoint_s=w, interval_s=interval),
        writing=w / (interval + w),
        redoing=rate * interval / 2,
        restarting=rate * restart_s,
    )


def _daly(checkpoint_s: float, mttf_s: float) -> float:
    """Daly's higher-order estimate, equation 37; the MTTF for a checkpoint of twice the MTTF or more."""
    if checkpoint_s >= 2 * mttf_s:
        return mttf_s
    half = checkpoint_s / (2 * mttf_s)
    return sqrt(2 * checkpoint_s * mttf_s) * (1 + sqrt(half) / 3 + half / 9) - checkpoint_s
