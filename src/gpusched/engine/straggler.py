"""Steps into facts: which rank holds its gang up, and which gang is slower than it was. Memory only.

In synchronous training all ranks step at one rate: who is slow makes all slow. What tells ranks apart is the
time each spends on its own work, outside the collectives, and that only the program knows: a rank may write
the sum of it beside its step. Where not all do, the time between steps stands in for it. It tells apart ranks
that do not wait for each other, and shows those that do as equal, so that none of them is accused.

Every duration is taken on one clock, a rank's or its node's; no two clocks are compared.

The rule. A window ends once every rank has come some steps further. A rank is a straggler if over the last
``LOOKS`` windows

1. it took longer for its own work than the median of the others in every window, and
2. in half of them at least the steps were so much longer for it as the policy says: what its work took beyond
   that median, in parts of what is left of the step without it.

Among ranks that are alike, however their times are spread, one given rank meets (1) by chance once in
2**LOOKS windows, a billion. A single long pause (a checkpoint, an evaluation) makes one window long and meets
neither. A gang is slow by the same rule: its steps against the median of its own first ones.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gpusched.domain.ids import AttemptId, NodeName
from gpusched.domain.job import Attempt, Job, Slowness
from gpusched.domain.job_state import JobState
from gpusched.domain.pulse import RankPace
from gpusched.engine.inputs import Fact, GangRecovered, GangSlowed
from gpusched.launch.ranks import tasks_started

LOOKS = 30
FIRST_WINDOWS = 100
"""How many windows tell what is usual for a gang: of fewer the median is too uncertain to compare with."""
OVER_SHARE = 0.5
"""Slowness is over when the delay is below this share of what the policy allows: it does not flicker."""
NAMED_MAX = 7  # ranks that are slow beside the slowest

Grid = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def median_of_others(times: Grid) -> Grid:
    """(K, N) for each entry the median of the other N - 1 in its row; N is at least 2."""
    count = times.shape[1] - 1
    ranked = np.sort(times, axis=1)
    place = np.argsort(np.argsort(times, axis=1), axis=1)
    low, high = (count - 1) // 2, count // 2
    return (_without(ranked, place, low) + _without(ranked, place, high)) / 2


def _without(ranked: Grid, place: npt.NDArray[np.intp], at: int) -> Grid:
    """What stands at ``at`` in each sorted row, once the entry at ``place`` is taken out of it."""
    found: Grid = np.take_along_axis(ranked, np.where(place <= at, at + 1, at), axis=1)
    return found


def delays(own: Grid, step: Grid) -> tuple[Grid, Flags]:
    """What each rank costs its gang.

    Args:
        own: (K, N) seconds per step of K windows that each of N ranks spent on its own work.
        step: (K, N) seconds that each of its steps took in all.

    Returns:
        (N,) by how much of itself a step is longer for this rank, the median of the windows, and (N,) whether
        the rank took longer than the median of the others in every one.
    """
    others = median_of_others(own)
    excess = own - others
    without = np.maximum(step, own) - excess
    delay = np.divide(excess, without, out=np.zeros_like(own), where=without > 0)
    is_always_longer: Flags = np.all(excess > 0, axis=0)
    return np.median(delay, axis=0), is_always_longer


def gang_delay(earlier: Sequence[float], now: Sequence[float]) -> float:
    """By how much of what it took a step takes longer now; 0 if not in every window."""
    usual = float(np.median(earlier))
    if usual <= 0 or min(now) <= usual:
        return 0.0
    return float(np.median(now)) / usual - 1


class StragglerWatch:
    """How far every node last said its ranks have come, and the windows of every gang that runs."""

    def __init__(self) -> None:
        self._said: dict[NodeName, dict[AttemptId, dict[int, RankPace]]] = {}
        self._gangs: dict[AttemptId, _Gang] = {}

    def heard(self, node: NodeName, paces: Iterable[RankPace]) -> None:
        """Take note of a heartbeat: it replaces what the node said before."""
        said: dict[AttemptId, dict[int, RankPace]] = {}
        for pace in paces:
            said.setdefault(pace.attempt_id, {})[pace.global_rank] = pace
        self._said[node] = said

    def check(self, jobs: Iterable[Job]) -> tuple[Fact, ...]:
        """What has become slow by now and what no longer is, of the jobs that run."""
        before, self._gangs = self._gangs, {}
        facts = []
        for job in jobs:
            policy, attempt, attempt_id = job.spec.slow_policy, job.attempt, job.attempt_id
            if policy.over_percent is None or attempt is None or attempt_id is None:
                continue
            if job.state is not JobState.RUNNING:
                continue
            gang = self._gangs[attempt_id] = before.get(attempt_id) or _Gang()
            ranks = self._ranks_of(attempt, attempt_id)
            if len(ranks) < tasks_started(job.spec):
                continue  # not all write their steps, or not yet
            if gang.take(ranks, -(-policy.steps // LOOKS)):
                fact = _news(attempt_id, attempt.slowness, gang, policy.over_percent / 100)
                if fact is not None:
                    facts.append(fact)
        return tuple(facts)

    def _ranks_of(self, attempt: Attempt, attempt_id: AttemptId) -> tuple[_Seen, ...]:
        """All ranks that write their steps, in their order."""
        seen = {
            rank: _Seen(node, pace)
            for node in attempt.node_names
            for rank, pace in self._said.get(node, {}).get(attempt_id, {}).items()
        }
        return tuple(seen[rank] for rank in sorted(seen))


@dataclass(frozen=True, slots=True)
class _Seen:
    """How far a rank has come, and where it runs."""

    node: NodeName
    pace: RankPace

    @property
    def name(self) -> str:
        return f"rank {self.pace.global_rank} on {self.node}"


@dataclass(slots=True)
class _Gang:
    """The windows of one attempt: seconds per step and rank, ranks in their order."""

    ranks: Sequence[_Seen] = ()  # as they were when the next window began
    own: deque[list[float]] = field(default_factory=lambda: deque(maxlen=LOOKS))
    step: deque[list[float]] = field(default_factory=lambda: deque(maxlen=LOOKS))
    steps: deque[int] = field(default_factory=lambda: deque(maxlen=LOOKS))
    first: list[float] = field(default_factory=list)  # of the whole gang, in its first windows
    has_own: bool = False  # whether ``own`` is what ranks wrote, not the time between steps

    def take(self, ranks: Sequence[_Seen], stride: int) -> bool:
        """Take a look at all ranks, and say whether it ends a window and there are enough to judge by."""
        pairs = [(then.pace, now.pace) for then, now in zip(self.ranks, ranks, strict=False)]
        has_own = all(seen.pace.own_s is not None for seen in ranks)
        if has_own != self.has_own or len(pairs) < len(ranks) or any(_went_back(*pair) for pair in pairs):
            self.forget()
            self.ranks, self.has_own, self.first = ranks, has_own, []
            return False
        steps = [now.step - then.step for then, now in pairs]
        if min(steps) < stride:
            return False
        step = [(now.at_s - then.at_s) / n for (then, now), n in zip(pairs, steps, strict=True)]
        own = [_own_s(then, now) / n for (then, now), n in zip(pairs, steps, strict=True)]
        self.ranks = ranks
        self.own.append(own if has_own else step)
        self.step.append(step)
        self.steps.append(min(steps))
        return len(self.step) == LOOKS

    def learn(self) -> None:
        """Take the oldest window for what is usual."""
        if len(self.first) < FIRST_WINDOWS:
            self.first.append(float(np.median(self.step[0])))

    def forget(self) -> None:
        """Judge by what comes from here on."""
        self.own.clear()
        self.step.clear()
        self.steps.clear()

    def whole(self) -> list[float]:
        """Seconds that a step of the gang took, by window."""
        return [float(np.median(step)) for step in self.step]


def _own_s(then: RankPace, now: RankPace) -> float:
    return (now.own_s or 0.0) - (then.own_s or 0.0)


def _went_back(then: RankPace, now: RankPace) -> bool:
    """Whether the rank counts anew: the difference to what it said before means nothing."""
    return now.step < then.step or now.at_s < then.at_s or _own_s(then, now) < 0


def _news(attempt_id: AttemptId, known: Slowness | None, gang: _Gang, over: float) -> Fact | None:
    """What is new about a gang by its last windows; they are forgotten with it."""
    fact: Fact | None = None
    if known is None or known.global_rank is None:
        fact = _straggler(attempt_id, gang, over)
    if fact is None and known is None:
        fact = _slow_gang(attempt_id, gang, over)
    if fact is None and known is not None and _is_over(known, gang, OVER_SHARE * over):
        fact = GangRecovered(attempt_id)
    if fact is not None:
        gang.forget()
    elif known is None:
        gang.learn()
    return fact


def _straggler(attempt_id: AttemptId, gang: _Gang, over: float) -> GangSlowed | None:
    if len(gang.ranks) < 2:
        return None
    own = np.array(gang.own)
    delay, is_always_longer = delays(own, np.array(gang.step))
    slow = [int(at) for at in np.argsort(-delay) if is_always_longer[at] and delay[at] >= over]
    if not slow:
        return None
    worst, too = gang.ranks[slow[0]], [gang.ranks[at] for at in sorted(slow[1:])]
    others_s = float(np.median(np.delete(own, slow, axis=1)))
    also = f"; slow too: {', '.join(seen.name for seen in too[:NAMED_MAX])}" if too else ""
    work = "of its own work in a step" if gang.has_own else "for a step"
    return GangSlowed(
        attempt_id,
        f"{worst.name} takes {_seconds(float(np.median(own[:, slow[0]])))} {work}, the others "
        f"{_seconds(others_s)}: steps are {100 * delay[slow[0]]:.0f} % longer for it, the last "
        f"{sum(gang.steps)} of them{also}",
        worst.pace.global_rank,
        worst.node,
    )


def _slow_gang(attempt_id: AttemptId, gang: _Gang, over: float) -> GangSlowed | None:
    if len(gang.first) < FIRST_WINDOWS:
        return None
    now = gang.whole()
    delay = gang_delay(gang.first, now)
    if delay < over:
        return None
    return GangSlowed(
        attempt_id,
        f"a step takes {_seconds(float(np.median(now)))}, the last {sum(gang.steps)} of them; it took "
        f"{_seconds(float(np.median(gang.first)))} at first. No rank stands out",
    )


def _is_over(known: Slowness, gang: _Gang, below: float) -> bool:
    if known.global_rank is None:
        # A head that just started does not know what was usual, and leaves what was told as it is.
        return len(gang.first) == FIRST_WINDOWS and gang_delay(gang.first, gang.whole()) < below
    at = [seen.pace.global_rank for seen in gang.ranks].index(known.global_rank)
    return float(delays(np.array(gang.own), np.array(gang.step))[0][at]) < below


def _seconds(duration_s: float) -> str:
    return f"{duration_s:.3g} s" if duration_s >= 1 else f"{duration_s * 1_000:.3g} ms"
