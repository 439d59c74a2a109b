"""Gangs of gloo ranks for trials: submitted, met, and their processes by rank."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from benchmarks.cluster import until
from gpusched.domain.events import Event, Recorded
from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import JobState
from gpusched.wire.client import Client

PROGRAM = str(Path(__file__).with_name("gloo_rank.py"))
E = TypeVar("E", bound=Event)


def gang(
    step_s: float = 0.02,
    log_every: int = 10,
    straggler_s: float = 0.0,
    notes: str = "none",
    **changes: object,
) -> JobSpec:
    """Four ranks on two nodes, and what the program is told."""
    given: dict[str, object] = {
        "name": "gang",
        "command": (sys.executable, PROGRAM, str(step_s), str(log_every), str(straggler_s), notes),
        "workdir": "/tmp",
        "nodes": 2,
        "tasks_per_node": 2,
        "kill_wait_s": 0,
    }
    return JobSpec(**{**given, **changes})  # type: ignore[arg-type]


def met(client: Client, job_id: JobId) -> dict[int, int]:
    """The pids by rank, once all ranks have made a step together."""
    written: dict[int, str] = {}

    def all_have_met() -> bool:
        job = client.jobs.get(job_id).job
        assert job.ended_at_us is None, f"the gang ended before it met: {job.end_detail}"
        if job.state is not JobState.RUNNING:
            return False
        written.clear()
        for chunk in client.jobs.logs(job_id):
            written[chunk.global_rank] = written.get(chunk.global_rank, "") + chunk.data.decode()
        return len(written) == 4 and all("step 1\n" in text for text in written.values())

    until(all_have_met, f"the ranks of job {job_id} to meet")
    return {rank: int(text.split()[1]) for rank, text in written.items()}


def next_event(client: Client, job_id: JobId, kind: type[E], after_seq: int = 0) -> tuple[Recorded, E]:
    """The next event of a kind, waited for."""
    for recorded in client.jobs.watch((job_id,), after_seq):
        if isinstance(recorded.event, kind):
            return recorded, recorded.event
    raise AssertionError(f"job {job_id} ended without {kind.__name__}")


def end(client: Client, job_ids: Sequence[JobId]) -> None:
    """Cancel jobs and wait for their end."""
    for job_id in job_ids:
        with suppress(Exception):
            client.jobs.cancel(job_id)
    for job_id in job_ids:
        client.jobs.wait(job_id)
