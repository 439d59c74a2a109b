"""The state of the cluster as a fold over the event log.

``apply`` updates, and does nothing else. It is called for every event as it is recorded
and gives the same state when the whole log is folded again from the start.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpusched.domain.events import JobSubmitted, NodeEvent, Recorded
from gpusched.domain.job import Job
from gpusched.domain.node import Node
from gpusched.domain.partition import Partitions
from gpusched.engine.job_fold import apply_to_job, submit
from gpusched.engine.node_fold import node_after
from gpusched.engine.state import ClusterState


def fold(log: Iterable[Recorded], partitions: Partitions) -> ClusterState:
    """Fold a whole log from its start."""
    state = ClusterState(partitions=partitions)
    for recorded in log:
        apply(state, recorded)
    return state


def apply(state: ClusterState, recorded: Recorded) -> Job | Node:
    """Update ``state`` by one event and return the projection of its subject.

    A job that ended leaves the state; its last projection is the one returned.

    Raises:
        InvalidTransition: The event asks for a move that no job can make: a bug.
    """
    state.last_seq, state.at_us = recorded.seq, recorded.at_us
    event = recorded.event
    if isinstance(event, NodeEvent):
        node = node_after(state.nodes.get(event.node), event, recorded.at_us)
        state.put_node(node)
        if node.ahead is not None:  # its ids were handed out, though nobody here remembers to whom
            state.next_job_id = max(state.next_job_id, node.ahead.next_job_id)
        return node
    if isinstance(event, JobSubmitted):
        submit(state, event, recorded.at_us)
    else:
        apply_to_job(state, state.jobs[event.job_id], event, recorded.at_us)
    job = state.jobs[event.job_id]
    if job.state.is_terminal:
        del state.jobs[job.job_id]
    return job
