"""Which gangs count as stalled, whom they wait for, and what follows."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster import Cluster, facts, spec

from gpusched.domain.commands import DumpStacks, StopTasks
from gpusched.domain.events import JobStalled, StallEnded
from gpusched.domain.ids import AttemptId, Epoch, JobId, NodeName
from gpusched.domain.job_spec import JobSpec, StallAction, StallPolicy
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.pulse import GpuPulse, QuietRank
from gpusched.engine.inputs import GangMoves, GangStalled
from gpusched.engine.stall import StallWatch
from gpusched.engine.state import ClusterState

N1, N2 = NodeName("n1"), NodeName("n2")
FIRST = AttemptId(JobId(1), Epoch(1))
AFTER_S = 30


def quiet(rank: int, for_s: float, **changes: object) -> QuietRank:
    seen = QuietRank(attempt_id=FIRST, global_rank=rank, quiet_s=for_s, state="S", waits_in="futex_do_wait")
    return replace(seen, **changes)  # type: ignore[arg-type]


def gang(**changes: object) -> JobSpec:
    """Two nodes of two ranks."""
    return spec(**{"nodes": 2, "tasks_per_node": 2, "stall": StallPolicy(AFTER_S), **changes})


class Watched:
    """A gang that runs, and the watch over it."""

    def __init__(self, wanted: JobSpec | None = None) -> None:
        self.cluster = Cluster()
        self.cluster.join(facts("n1"), facts("n2"))
        self.cluster.submit(wanted or gang())
        self.cluster.cycle()
        self.cluster.start_all(1)
        self.watch = StallWatch()

    def said(self, on_n1: tuple[QuietRank, ...], on_n2: tuple[QuietRank, ...]) -> GangStalled | None:
        """What the watch finds once both nodes have said this."""
        self.watch.heard(N1, on_n1)
        self.watch.heard(N2, on_n2)
        found = self.check()
        assert len(found) <= 1
        return found[0] if found and isinstance(found[0], GangStalled) else None

    def check(self) -> tuple[object, ...]:
        state = self.cluster.engine.state
        return self.watch.check(state.jobs[job_id] for job_id in state.running)

    def flag(self, rank: int = 2) -> None:
        """Let the gang stall for ``rank``, and the engine take it."""
        found = self.said(
            (quiet(0, 31), quiet(1, 31)),
            tuple(quiet(r, 31, state="T" if r == rank else "S") for r in (2, 3)),
        )
        assert found is not None
        self.cluster.step(facts_=[found])


@pytest.fixture
def watched() -> Watched:
    return Watched()


def test_a_gang_in_which_one_rank_works_has_not_stalled(watched: Watched) -> None:
    assert watched.said((quiet(0, 500), quiet(1, 500)), (quiet(2, 500),)) is None


def test_a_gang_that_is_quiet_for_less_than_its_time_has_not_stalled(watched: Watched) -> None:
    assert watched.said((quiet(0, 29), quiet(1, 40)), (quiet(2, 40), quiet(3, 40))) is None


def test_a_node_that_has_said_nothing_yet_counts_as_working(watched: Watched) -> None:
    watched.watch.heard(N1, (quiet(0, 500), quiet(1, 500)))
    assert watched.check() == ()


def test_a_stopped_rank_is_named_though_the_others_were_quiet_first(watched: Watched) -> None:
    found = watched.said((quiet(0, 31), quiet(1, 31)), (quiet(2, 30.5, state="T"), quiet(3, 31)))
    assert found is not None
    assert (found.global_rank, found.node) == (2, N2)
    assert "rank 2 on n2 is stopped" in found.evidence


def test_a_stopped_rank_stalls_its_gang_before_the_others_have_run_dry(watched: Watched) -> None:
    found = watched.said((), (quiet(3, 30, state="T"),))
    assert found is not None
    assert found.global_rank == 3


def test_the_rank_that_is_behind_by_its_step_is_named(watched: Watched) -> None:
    others = [quiet(rank, 31, step=7) for rank in (0, 2, 3)]
    found = watched.said((others[0], quiet(1, 30, step=6)), (others[1], others[2]))
    assert found is not None
    assert found.global_rank == 1
    assert "step 6 while others are at 7" in found.evidence


def test_the_odd_one_out_is_named(watched: Watched) -> None:
    odd = quiet(1, 30.2, waits_in="hrtimer_nanosleep")
    found = watched.said((quiet(0, 31), odd), (quiet(2, 31), quiet(3, 31)))
    assert found is not None
    assert found.global_rank == 1
    assert "waits in hrtimer_nanosleep, while most others wait in futex_do_wait" in found.evidence


def test_the_rank_whose_gpu_is_idle_while_the_others_spin_is_named(watched: Watched) -> None:
    spinning = [quiet(rank, 31, gpu=GpuPulse.SPINS) for rank in (0, 1, 2)]
    found = watched.said((spinning[0], spinning[1]), (spinning[2], quiet(3, 31, gpu=GpuPulse.IDLE)))
    assert found is not None
    assert found.global_rank == 3


def test_among_equals_the_first_to_end_its_work_is_named(watched: Watched) -> None:
    found = watched.said((quiet(0, 31), quiet(1, 34)), (quiet(2, 31), quiet(3, 31)))
    assert found is not None
    assert found.global_rank == 1
    assert "first to end its work" in found.evidence


def test_where_nothing_tells_ranks_apart_the_evidence_says_so(watched: Watched) -> None:
    found = watched.said((quiet(0, 31), quiet(1, 31)), (quiet(2, 31), quiet(3, 31)))
    assert found is not None
    assert "cannot be told from the others" in found.evidence


def test_a_single_rank_is_watched_only_if_asked_for() -> None:
    assert spec().stall_policy.after_s is None
    assert spec(stall=StallPolicy(60)).stall_policy.after_s == 60
    assert spec(tasks_per_node=2).stall_policy == StallPolicy(600, StallAction.NOTIFY)


def test_a_gang_whose_policy_is_never_is_never_flagged() -> None:
    watched = Watched(gang(stall=StallPolicy(None)))
    assert watched.said((quiet(0, 9999), quiet(1, 9999)), (quiet(2, 9999, state="T"), quiet(3, 9999))) is None


def test_a_stall_is_told_once_and_every_node_is_asked_for_stacks(watched: Watched) -> None:
    watched.flag()
    assert watched.check() == ()
    stalls = [r.event for r in watched.cluster.log if isinstance(r.event, JobStalled)]
    assert [(event.global_rank, event.node) for event in stalls] == [(2, N2)]
    asked = {
        queued.command.node
        for batch in watched.cluster.batches
        for queued in batch.queued
        if isinstance(queued.command, DumpStacks)
    }
    assert asked == {N1, N2}
    assert watched.cluster.job(1).state is JobState.RUNNING


def test_a_fact_that_comes_twice_stalls_the_gang_once(watched: Watched) -> None:
    found = watched.said((quiet(0, 31), quiet(1, 31)), (quiet(2, 31), quiet(3, 31)))
    assert found is not None
    watched.cluster.step(facts_=[found, found])
    assert sum(isinstance(r.event, JobStalled) for r in watched.cluster.log) == 1


def test_a_gang_that_works_again_is_told_and_can_stall_again(watched: Watched) -> None:
    watched.flag()
    watched.watch.heard(N2, ())
    found = watched.check()
    assert found == (GangMoves(FIRST),)
    watched.cluster.step(facts_=[GangMoves(FIRST)])
    assert isinstance(watched.cluster.log[-1].event, StallEnded)
    attempt = watched.cluster.job(1).attempt
    assert attempt is not None and attempt.stall is None
    watched.flag()


def test_a_head_that_has_just_started_does_not_take_silence_for_work(watched: Watched) -> None:
    watched.flag()
    watched.watch = StallWatch()
    assert watched.check() == ()


def test_with_requeue_the_stacks_are_asked_for_before_the_stop_and_the_job_goes_back() -> None:
    watched = Watched(gang(requeue=True, stall=StallPolicy(AFTER_S, StallAction.REQUEUE)))
    watched.flag()
    cluster = watched.cluster
    orders = [type(q.command) for q in cluster.batches[-1].queued if q.command.node == N1]
    assert orders == [DumpStacks, StopTasks]
    attempt = cluster.job(1).attempt
    assert attempt is not None and attempt.stop_reason is EndReason.STALLED
    assert attempt.stop_detail is not None and "rank 2 on n2" in attempt.stop_detail
    cluster.end_all(1, exit_code=1)
    assert cluster.job(1).state is JobState.PENDING


def test_a_stalled_attempt_is_as_it_was_after_a_restart(watched: Watched) -> None:
    watched.flag()
    state = watched.cluster.engine.state
    restored = ClusterState.of(state.partitions, jobs=state.jobs.values(), nodes=state.nodes.values())
    assert restored.jobs == state.jobs
