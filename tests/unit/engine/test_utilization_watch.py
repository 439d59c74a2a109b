"""Jobs that hold GPUs and hardly use them: noticed after the window, once, and ended only if they say so."""

from __future__ import annotations

import pytest
from cluster import Cluster, facts, spec

from gpusched.domain.events import JobUnderused
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.job_spec import OnUnderuse, UtilizationPolicy
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.telemetry import DeviceSample, NodeSample
from gpusched.engine.inputs import Fact, GpusUnderused
from gpusched.engine.utilization import UtilizationWatch

N1 = NodeName("n1")
WINDOW_S = 60


class Watched:
    """A job on two GPUs of one node, and the watch over it; a beat every ten seconds."""

    def __init__(self, action: OnUnderuse = OnUnderuse.NOTIFY, **changes: object) -> None:
        self.cluster = Cluster()
        self.cluster.join(facts("n1", gpus=2))
        policy = UtilizationPolicy(10, WINDOW_S, action)
        self.cluster.submit(spec(**{"gpus_per_node": 2, "utilization": policy, **changes}))
        self.cluster.cycle()
        self.cluster.start_all(1)
        self.watch = UtilizationWatch()
        self.now_us = 0

    def beats(self, count: int, *busy: float | None) -> list[Fact]:
        """What is found over so many heartbeats with the GPUs this busy."""
        found: list[Fact] = []
        for _ in range(count):
            self.now_us += 10_000_000
            devices = tuple(
                DeviceSample(uuid=DeviceUuid(f"GPU-n1-{i}"), busy_percent=percent)
                for i, percent in enumerate(busy)
            )
            self.watch.heard(NodeSample(node=N1, sampled_at_us=0, devices=devices))
            state = self.cluster.engine.state
            found += self.watch.check([state.jobs[job_id] for job_id in state.running], self.now_us)
        return found


def test_a_gpu_that_is_idle_for_the_whole_window_is_noticed() -> None:
    watched = Watched()
    assert watched.beats(6, 100, 3) == []
    (fact,) = watched.beats(1, 100, 3)
    assert isinstance(fact, GpusUnderused)
    assert fact.evidence == "GPU GPU-n1-1 on n1 was busy less than 10 % of the time for 60 s (3 % now)"


def test_one_busy_moment_starts_the_window_anew() -> None:
    watched = Watched()
    assert watched.beats(6, 0, 0) == []
    assert watched.beats(1, 50, 50) == []
    assert watched.beats(6, 0, 0) == []


@pytest.mark.parametrize("busy", [(None, None), (10, 10), ()])
def test_what_is_used_enough_or_cannot_be_read_is_not_noticed(busy: tuple[float | None, ...]) -> None:
    assert Watched().beats(20, *busy) == []


def test_a_job_without_a_policy_may_idle() -> None:
    assert Watched(utilization=None).beats(20, 0, 0) == []


def test_it_is_told_once_and_the_job_goes_on() -> None:
    watched = Watched()
    facts_ = watched.beats(7, 0, 0)
    watched.cluster.step(facts_=[*facts_, *facts_])
    assert sum(isinstance(r.event, JobUnderused) for r in watched.cluster.log) == 1
    assert watched.beats(20, 0, 0) == []
    assert watched.cluster.job(1).state is JobState.RUNNING


def test_a_job_that_says_so_is_ended_with_the_reason_and_does_not_come_back() -> None:
    watched = Watched(OnUnderuse.END, requeue=True)
    watched.cluster.step(facts_=watched.beats(7, 0, 0))
    watched.cluster.end_all(1, exit_code=1)
    job = watched.cluster.job(1)
    assert (job.state, job.end_reason) == (JobState.FAILED, EndReason.UNDERUSED)
    assert job.end_detail is not None and "busy less than 10 %" in job.end_detail
