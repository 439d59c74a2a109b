"""An order that an agent has no words for ends what waits for it, with words that name agent and order."""

from __future__ import annotations

from cluster import ALICE, Cluster, facts, spec

from gpusched.domain.commands import LaunchTasks, Queued, StopTasks
from gpusched.domain.events import TasksEnded
from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.job_state import EndReason
from gpusched.engine.inputs import CancelJob, CommandNotKnown

N1 = NodeName("n1")
WHY = "agent n1 0.3.0 does not know it: upgrade it"


def waiting(cluster: Cluster, kind: type) -> Queued:
    """The order of this kind that waits for n1."""
    (queued,) = [each for each in cluster.engine.outbox_of(N1) if isinstance(each.command, kind)]
    return queued


def running() -> Cluster:
    cluster = Cluster()
    cluster.join(facts("n1"))
    cluster.submit(spec())
    cluster.cycle()
    return cluster


def test_a_launch_that_is_not_known_fails_its_attempt_by_name() -> None:
    cluster = running()
    refused = CommandNotKnown(N1, waiting(cluster, LaunchTasks), WHY)
    cluster.step(facts_=[refused])
    (ended,) = [each.event for each in cluster.log if isinstance(each.event, TasksEnded)]
    assert (ended.cause, ended.detail) == (EndReason.LAUNCH_FAILED, WHY)
    assert cluster.engine.outbox_of(N1) == ()
    length = len(cluster.log)
    cluster.step(facts_=[refused])  # said again, of an attempt that is over
    assert len(cluster.log) == length


def test_a_stop_that_is_not_known_waits_for_the_next_agent() -> None:
    cluster = running()
    cluster.step([CancelJob(who=ALICE, request_id=cluster.request_id(), job_id=JobId(1))])
    stop = waiting(cluster, StopTasks)
    cluster.step(facts_=[CommandNotKnown(N1, stop, WHY)])
    assert stop in cluster.engine.outbox_of(N1)
