"""Quiet ranks into facts: which gangs have come to a halt, and for whom they wait. Memory only.

Nodes name, with every heartbeat, the ranks that show no sign of work and since when; a rank that is not
named works. A gang stalls when none of its ranks has worked for as long as its policy says, or when one of
them has been stopped by a signal for that long: a collective ends for nobody if one does not take part.

Who is waited for, first answer that fits:

1. a rank that is stopped;
2. the one that is behind the others by its step, where ranks write their steps;
3. the odd one out: most ranks sleep in the same place in the kernel with their GPUs alike, this one does not
   (the outliers of the dominant cluster, as ByteRobust takes them from stacks, arXiv 2509.16293);
4. the one whose work ended first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gpusched.domain.ids import AttemptId, NodeName
from gpusched.domain.job import Job
from gpusched.domain.job_state import JobState
from gpusched.domain.pulse import GpuPulse, QuietRank
from gpusched.engine.inputs import Fact, GangMoves, GangStalled
from gpusched.launch.ranks import tasks_started

TOLD_APART_S = 1.0
"""Ranks whose work ended within this time of each other ended together, as far as samples can tell."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A quiet rank and where it runs."""

    node: NodeName
    rank: QuietRank


class StallWatch:
    """What every node's last heartbeat said of its quiet ranks."""

    def __init__(self) -> None:
        self._quiet: dict[NodeName, dict[AttemptId, dict[int, QuietRank]]] = {}

    def heard(self, node: NodeName, quiet: Iterable[QuietRank]) -> None:
        """Take note of a heartbeat: it replaces what the node said before."""
        said: dict[AttemptId, dict[int, QuietRank]] = {}
        for rank in quiet:
            said.setdefault(rank.attempt_id, {})[rank.global_rank] = rank
        self._quiet[node] = said

    def check(self, jobs: Iterable[Job]) -> tuple[Fact, ...]:
        """What has stalled by now and what moves again, of the jobs that run."""
        return tuple(fact for job in jobs if (fact := self._news(job)) is not None)

    def _news(self, job: Job) -> Fact | None:
        attempt, attempt_id, after_s = job.attempt, job.attempt_id, job.spec.stall_policy.after_s
        if attempt is None or attempt_id is None or after_s is None or job.state is not JobState.RUNNING:
            return None
        if attempt.stall is not None:
            said = self._quiet.get(attempt.stall.node)  # None: a head that just started has not heard it
            moves = said is not None and attempt.stall.global_rank not in said.get(attempt_id, {})
            return GangMoves(attempt_id) if moves else None
        quiet = [
            _Seen(node, rank)
            for node in attempt.node_names
            for rank in self._quiet.get(node, {}).get(attempt_id, {}).values()
        ]
        return _judge(attempt_id, quiet, after_s, tasks_started(job.spec))


def _judge(attempt_id: AttemptId, quiet: Sequence[_Seen], after_s: int, ranks: int) -> GangStalled | None:
    """Whether these quiet ranks make a gang of ``ranks`` a stalled one."""
    overdue = [one for one in quiet if one.rank.quiet_s >= after_s]
    stopped = [one for one in overdue if one.rank.is_stopped]
    if not stopped and len(overdue) < ranks:
        return None
    culprit, why = _waited_for(stopped, overdue)
    return GangStalled(
        attempt_id=attempt_id,
        node=culprit.node,
        global_rank=culprit.rank.global_rank,
        quiet_s=round(culprit.rank.quiet_s),
        evidence=_evidence(culprit, why, len(quiet), ranks),
    )


def _waited_for(stopped: Sequence[_Seen], overdue: Sequence[_Seen]) -> tuple[_Seen, str]:
    """The rank that the others wait for, and what tells it from them."""
    if stopped:
        return _longest(stopped), "is stopped by a signal or a debugger"
    if len(overdue) == 1:
        return overdue[0], "shows no sign of work"
    steps = [one.rank.step for one in overdue if one.rank.step is not None]
    if len(steps) == len(overdue) and min(steps) < max(steps):
        behind = [one for one in overdue if one.rank.step == min(steps)]
        if len(behind) < len(overdue) - len(behind):
            return _longest(behind), f"is at step {min(steps)} while others are at {max(steps)}"
    (usual, count), *others = Counter(map(_signature, overdue)).most_common()
    if others and 2 * count > len(overdue):
        odd = _longest([one for one in overdue if _signature(one) != usual])
        doing, usually = _doing(_signature(odd), "waits", "is"), _doing(usual, "wait", "are")
        return odd, f"{doing}, while most others {usually}"
    first = _longest(overdue)
    others_quiet_s = max(one.rank.quiet_s for one in overdue if one is not first)
    if first.rank.quiet_s - others_quiet_s > TOLD_APART_S:
        return first, "was the first to end its work"
    return first, "cannot be told from the others by what a node sees: compare the stacks"


def _longest(seen: Sequence[_Seen]) -> _Seen:
    return max(seen, key=lambda one: (one.rank.quiet_s, -one.rank.global_rank))


_Signature = tuple[str, str | None, GpuPulse | None]


def _signature(one: _Seen) -> _Signature:
    return one.rank.state, one.rank.waits_in, one.rank.gpu


def _doing(signature: _Signature, waits: str, is_: str) -> str:
    state, waits_in, gpu = signature
    where = f"{waits} in {waits_in}" if waits_in is not None else f"{is_} in state {state}"
    return where if gpu is None else f"{where} with GPU {gpu.value}"


def _evidence(culprit: _Seen, why: str, quiet: int, ranks: int) -> str:
    rank = culprit.rank
    after = f" after step {rank.step}" if rank.step is not None else ""
    return (
        f"rank {rank.global_rank} on {culprit.node} {why}; {quiet} of {ranks} ranks show no output, "
        f"CPU time, I/O or GPU work, this one for {rank.quiet_s:.0f} s{after}"
    )
