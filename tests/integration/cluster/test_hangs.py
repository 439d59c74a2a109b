"""A real gang of gloo ranks comes to a halt: the right rank is named, and what was asked for follows."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from gpusched_cli import gpusched

from benchmarks.cluster import Head, running_agents, until
from gpusched.domain.events import Event, JobRequeued, JobStalled, StallEnded
from gpusched.domain.ids import Epoch, JobId
from gpusched.domain.job_spec import JobSpec, StallAction, StallPolicy
from gpusched.domain.job_state import JobState
from gpusched.wire.client import Client

RANK_PROGRAM = str(Path(__file__).parents[2] / "torture" / "gloo_rank.py")
E = TypeVar("E", bound=Event)


@pytest.fixture
def client(head: Head) -> Iterator[Client]:
    with running_agents(head, ("n1", "n2"), "--devices", "none", "--cpus", "4"), head.client() as c:
        yield c


def gang(**changes: object) -> JobSpec:
    """Four ranks on two nodes that do one collective after the other."""
    given: dict[str, object] = {
        "name": "gang",
        "command": (sys.executable, RANK_PROGRAM, "0.02", "10"),
        "workdir": "/tmp",
        "nodes": 2,
        "tasks_per_node": 2,
        "kill_wait_s": 0,
        "stall": StallPolicy(3),
    }
    return JobSpec(**{**given, **changes})  # type: ignore[arg-type]


def started(client: Client, wanted: JobSpec) -> tuple[JobId, dict[int, int]]:
    """A job whose ranks have all made steps, and their pids by rank."""
    job_id = client.jobs.submit(wanted)
    written: dict[int, str] = {}

    def all_step() -> bool:
        if client.jobs.get(job_id).job.state is JobState.RUNNING:
            for chunk in client.jobs.logs(job_id):
                written[chunk.global_rank] = written.get(chunk.global_rank, "") + chunk.data.decode()
        return len(written) == 4 and all("step 10" in text for text in written.values())

    until(all_step, "steps of all ranks")
    return job_id, {rank: int(text.split()[1]) for rank, text in written.items()}


def next_event(client: Client, job_id: JobId, kind: type[E]) -> E:
    return next(r.event for r in client.jobs.watch((job_id,)) if isinstance(r.event, kind))


def test_a_stopped_rank_is_named_its_stacks_are_kept_and_its_return_is_told(
    head: Head, client: Client
) -> None:
    job_id, pids = started(client, gang())
    os.kill(pids[2], signal.SIGSTOP)
    stalled = next_event(client, job_id, JobStalled)
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
    job_id, pids = started(client, gang(requeue=True, stall=StallPolicy(3, StallAction.REQUEUE)))
    os.kill(pids[1], signal.SIGSTOP)
    assert next_event(client, job_id, JobStalled).global_rank == 1
    next_event(client, job_id, JobRequeued)
    until(lambda: client.jobs.get(job_id).job.state is JobState.RUNNING, "the next attempt")
    kept = list(client.jobs.stacks(job_id, epoch=Epoch(1)))
    assert all(chunk.data for chunk in kept), "the stop did not wait for the stacks"
    client.jobs.cancel(job_id)
    client.jobs.wait(job_id)
