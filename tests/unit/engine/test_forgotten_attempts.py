"""A node that comes back without an attempt: has it forgotten it, or has it only not been told yet?"""

from __future__ import annotations

from cluster import Cluster, facts, spec

from gpusched.domain.ids import AttemptId, Epoch, JobId
from gpusched.domain.job_state import EndReason, JobState
from gpusched.engine.inputs import CommandAcknowledged, NodeConnected

HELLO = NodeConnected(facts("n1"), ())


def launched(*, taken: bool) -> tuple[Cluster, AttemptId]:
    """A job that was granted a node; ``taken``: the node has acknowledged its launch."""
    cluster = Cluster()
    cluster.join(facts("n1"))
    (job_id,) = cluster.submit(spec())
    cluster.cycle()
    if taken:
        (queued,) = cluster.engine.outbox_of(facts("n1").name)
        cluster.step(facts_=[CommandAcknowledged(facts("n1").name, queued.seq)])
    return cluster, AttemptId(JobId(job_id), Epoch(1))


def test_an_attempt_that_its_node_has_not_been_told_of_goes_on() -> None:
    cluster, attempt_id = launched(taken=False)
    assert cluster.engine.forgotten_by(HELLO) == ()
    cluster.step(facts_=[HELLO])
    assert cluster.engine.state.jobs[attempt_id.job_id].state is JobState.CONFIGURING


def test_an_attempt_that_its_node_has_forgotten_is_over() -> None:
    cluster, attempt_id = launched(taken=True)
    assert cluster.engine.forgotten_by(HELLO) == (attempt_id,)
    cluster.step(facts_=[HELLO])
    assert attempt_id.job_id not in cluster.engine.state.jobs
    assert EndReason.NODE_FAIL in [getattr(r.event, "reason", None) for r in cluster.log]


def test_a_hello_that_is_taken_again_after_a_commit_of_unknown_fate_forgets_no_launch_of_that_commit() -> (
    None
):
    """The node took the launch while the commit was under way: the acknowledgement may be written."""
    cluster, attempt_id = launched(taken=False)
    again = cluster.engine.repeatable(HELLO)
    assert isinstance(again, NodeConnected)
    assert again.attempts == (attempt_id,)
