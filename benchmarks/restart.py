"""How long a head is away when it is killed with a full queue."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass

import psutil

from benchmarks.cluster import Head, running_head, temporary_home
from benchmarks.report import Budget, Figure, Measured, at_most, percentile, run_benchmark, say
from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import JobState

BATCH = 1_000
BUDGETS: dict[int, Budget] = {10_000: at_most(2), 100_000: at_most(10)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Lengths of the queue, and how often the head is killed with each."""

    queues: tuple[int, ...] = (10_000, 100_000)
    kills: int = 3


def measure(sizes: Sizes) -> Measured:
    """kill -9 of the head with so many pending jobs; from its new start to the first answered call."""
    figures: list[Figure] = []
    for jobs in sizes.queues:
        with temporary_home() as home, running_head(Head(home)) as head:
            last = _fill(head, jobs)
            say(f"{jobs} pending jobs are in the store")
            away_s = [_killed_and_back(head, last) for _ in range(sizes.kills)]
            rss_mib = psutil.Process(head.pid).memory_info().rss / 2**20
        worst_s = percentile(away_s, 100)
        queue = f"{jobs:,} pending jobs"
        figures.append(Figure(f"head restart to first answer, {queue}", worst_s, "s", BUDGETS.get(jobs)))
        figures.append(Figure(f"head RSS after the restart, {queue}", rss_mib, "MiB"))
    return Measured(figures)


def _fill(head: Head, jobs: int) -> JobId:
    """Queue them: eight GPUs each, with no node there to give them. Returns the last id."""
    spec = JobSpec(name="train", command=("python", "train.py"), workdir="/tmp", gpus_per_node=8)
    with head.client() as client:
        last = JobId(0)
        for _ in range(jobs // BATCH):
            last = client.jobs.submit_many([spec] * BATCH)[-1]
    return last


def _killed_and_back(head: Head, last: JobId) -> float:
    """Seconds from the start of the new process to its first answer, which must know the last job."""
    head.kill()
    began = time.monotonic()
    head.start()
    with head.client() as client:
        found = client.jobs.get(last).job
    away_s = time.monotonic() - began
    if found.state is not JobState.PENDING:
        raise RuntimeError(f"job {last} was pending before the kill and is {found.state} after it")
    say(f"back after {away_s:.2f} s")
    return away_s


if __name__ == "__main__":
    sys.exit(run_benchmark("restart", measure, full=Sizes(), quick=Sizes(queues=(1_000,), kills=1)))
