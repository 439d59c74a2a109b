"""The database went back in time: nothing is started, nothing is ended in silence, no id is used again."""

from __future__ import annotations

import pytest
from cluster import Cluster, facts, spec

from gpusched.domain.commands import StopTasks
from gpusched.domain.events import JobAllocated, NodeAhead, NodeReconciled
from gpusched.domain.history import IDS_UNSEEN, Ahead, History, Mark, Term
from gpusched.domain.ids import AttemptId, Epoch, JobId
from gpusched.engine.inputs import NodeConnected

TERMS = (Term(1, "ours", 1),)
ELSEWHERE = Mark(2, "lost", 900, JobId(500))
UNKNOWN = AttemptId(JobId(400), Epoch(1))
NEXT = JobId(500 + IDS_UNSEEN)  # what was handed out since the node was told, it does not know


def restored(*, accepts_loss: bool = False) -> Cluster:
    """Two nodes, of which n1 has seen more than the database holds, and holds an attempt of it."""
    cluster = Cluster()
    cluster.engine.state.history = History(TERMS, accepts_loss=accepts_loss)
    cluster.join(facts("n2"))
    cluster.step(facts_=[NodeConnected(facts("n1"), (UNKNOWN,), ELSEWHERE)])
    return cluster


def orders(cluster: Cluster) -> list[object]:
    return [queued.command for batch in cluster.batches for queued in batch.queued]


def events(cluster: Cluster, kind: type) -> list[object]:
    return [recorded.event for recorded in cluster.log if isinstance(recorded.event, kind)]


def test_nothing_is_started_anywhere_and_nothing_is_ended() -> None:
    cluster = restored()
    cluster.submit(spec())
    assert cluster.cycle() == ()
    assert events(cluster, JobAllocated) == []
    assert orders(cluster) == []


def test_it_is_told_once_what_the_node_holds() -> None:
    cluster = restored()
    cluster.step(facts_=[NodeConnected(facts("n1"), (UNKNOWN,), ELSEWHERE)])
    assert events(cluster, NodeAhead) == [NodeAhead(node=facts("n1").name, ahead=Ahead((UNKNOWN,), NEXT))]
    assert cluster.engine.state.nodes[facts("n1").name].ahead == Ahead((UNKNOWN,), NEXT)


def test_ids_that_were_handed_out_are_not_handed_out_again() -> None:
    cluster = restored()
    assert cluster.submit(spec(), spec()) == (NEXT, NEXT + 1)


def test_a_waiting_job_that_a_node_has_run_is_held() -> None:
    cluster = Cluster()
    cluster.engine.state.history = History(TERMS)
    (job_id,) = cluster.submit(spec())
    cluster.step(facts_=[NodeConnected(facts("n1"), (AttemptId(job_id, Epoch(1)),), ELSEWHERE)])
    assert cluster.job(job_id).is_held


def test_once_accepted_what_is_unknown_is_ended_and_work_goes_on() -> None:
    cluster = restored(accepts_loss=True)
    (stop,) = orders(cluster)
    assert isinstance(stop, StopTasks)
    assert AttemptId(stop.job_id, stop.epoch) == UNKNOWN
    assert events(cluster, NodeAhead) != []
    assert events(cluster, NodeReconciled) != []
    (job_id,) = cluster.submit(spec())
    assert job_id == NEXT
    cluster.cycle()
    assert events(cluster, JobAllocated) != []


def test_work_goes_on_when_the_right_database_is_back() -> None:
    cluster = restored()
    cluster.engine.state.history = History((*TERMS, Term(2, "lost", 1)))
    cluster.engine.state.last_seq = 900
    cluster.step(facts_=[NodeConnected(facts("n1"), (), ELSEWHERE)])
    cluster.submit(spec())
    assert cluster.cycle() != ()


@pytest.mark.parametrize("mark", [None, Mark(1, "ours", 1, JobId(1))])
def test_a_node_that_has_seen_no_more_holds_nothing_up(mark: Mark | None) -> None:
    cluster = Cluster()
    cluster.engine.state.history = History(TERMS)
    cluster.join(facts("n2"))
    cluster.step(facts_=[NodeConnected(facts("n1"), (), mark)])
    cluster.submit(spec())
    assert cluster.cycle() != ()


@pytest.mark.parametrize("mark", [None, Mark(1, "ours", 0, JobId(1))])
def test_an_attempt_that_was_never_granted_is_told_and_stops_nobody_else(mark: Mark | None) -> None:
    cluster = Cluster()
    cluster.engine.state.history = History(TERMS)
    hello = NodeConnected(facts("n1"), (UNKNOWN,), mark)
    assert cluster.engine.never_granted(hello) == (UNKNOWN,)
    cluster.join(facts("n2"))
    cluster.submit(spec())
    assert cluster.cycle() != ()


def test_the_next_attempt_of_a_job_that_waits_was_never_granted() -> None:
    cluster = Cluster()
    cluster.engine.state.history = History(TERMS)
    (job_id,) = cluster.submit(spec())
    next_one = AttemptId(job_id, Epoch(1))
    assert cluster.engine.never_granted(NodeConnected(facts("n1"), (next_one,), None)) == (next_one,)


def test_what_was_granted_and_what_an_operator_gave_up_is_not_asked_about() -> None:
    cluster = Cluster()
    cluster.engine.state.history = History(TERMS)
    cluster.join(facts("n1"))
    (job_id,) = cluster.submit(spec())
    cluster.cycle()
    held = (AttemptId(job_id, Epoch(1)),)
    assert cluster.engine.never_granted(NodeConnected(facts("n1"), held, None)) == ()
    cluster.engine.state.history = History(TERMS, accepts_loss=True)
    assert cluster.engine.never_granted(NodeConnected(facts("n1"), (UNKNOWN,), None)) == ()
