"""A real gang of gloo ranks comes to a halt: the right rank is named, and what was asked for follows."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace

import pytest
from gpusched_cli import gpusched
from torture.gangs import gang, met, next_event

from benchmarks.cluster import Head, running_agents, until
from gpusched.domain.events import JobRequeued, JobStalled, StallEnded
from gpusched.domain.ids import Epoch
from gpusched.domain.job_spec import StallAction, StallPolicy
from gpusched.domain.job_state import JobState
from gpusched.wire.client import Client

AFTER = StallPolicy(3)


@pytest.fixture
def client(head: Head) -> Iterator[Client]:
    with running_agents(head, ("n1", "n2"), "--devices", "none", "--cpus", "4"), head.client() as c:
        yield c


def test_a_stopped_rank_is_named_its_stacks_are_kept_and_its_return_is_told(
    head: Head, client: Client
) -> None:
    job_id = client.jobs.submit(gang(stall=AFTER))
    pids = met(client, job_id)
    os.kill(pids[2], signal.SIGSTOP)
    _, stalled = next_event(client, job_id, JobStalled)
    attempt = client.jobs.get(job_id).job.attempt
    assert attempt is not None
    assert (stalled.global_rank, stalled.node) == (2, attempt.node_names[1])
    assert "rank 2" in client.jobs.explain(job_id).message
    assert "stopped by a signal" in gpusched("job", "show", str(job_id), home=head.home).out
    until(lambda: all(chunk.data for chunk in client.jobs.stacks(job_id)), "stacks of all ranks")
    stacks = {chunk.global_rank: chunk.data.decode() for chunk in client.jobs.stacks(job_id)}
    assert "state T" in stacks[2]
    assert "all_reduce" in stacks[0]
    os.kill(pids[2], signal.SIGCONT)
    next_event(client, job_id, StallEnded)
    attempt = client.jobs.get(job_id).job.attempt
    assert attempt is not None and attempt.stall is None
    client.jobs.cancel(job_id)
    client.jobs.wait(job_id)


def test_a_gang_with_requeue_starts_again_after_a_stall(client: Client) -> None:
    job_id = client.jobs.submit(gang(requeue=True, stall=replace(AFTER, action=StallAction.REQUEUE)))
    pids = met(client, job_id)
    os.kill(pids[1], signal.SIGSTOP)
    assert next_event(client, job_id, JobStalled)[1].global_rank == 1
    next_event(client, job_id, JobRequeued)
    until(lambda: client.jobs.get(job_id).job.state is JobState.RUNNING, "the next attempt")
    kept = list(client.jobs.stacks(job_id, epoch=Epoch(1)))
    assert all(chunk.data for chunk in kept), "the stop did not wait for the stacks"
    client.jobs.cancel(job_id)
    client.jobs.wait(job_id)
