"""Jobs that do nothing, from the first submit to the last end: what scheduling itself costs.

Where Slurm is installed, the same jobs run on it in the same minutes, and the ratio is told.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks import slurm
from benchmarks.cluster import Head, running_agents, running_head, temporary_home
from benchmarks.report import Figure, Measured, at_least, run_benchmark, say
from benchmarks.submitters import NANO, submit_from_many
from gpusched.domain.events import JobEnded
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import JobState

TRUE = JobSpec(name="true", command=("true",), workdir="/tmp")
JOBS_DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Two nodes of ``cpus`` declared CPUs; every job takes one."""

    jobs: int = 1_000
    submitters: int = 8
    cpus: int = 64
    repeats: int = 3


@dataclass(frozen=True, slots=True)
class Run:
    """One run: rates in jobs/s."""

    accepted_per_s: float
    ended_per_s: float


def measure(sizes: Sizes) -> Measured:
    """Jobs per second from the first submit to the last COMPLETED, beside Slurm where it is installed."""
    runs = {"gpusched": [_run_ours(sizes) for _ in range(sizes.repeats)]}
    if slurm.is_installed():
        for flavour in slurm.FLAVOURS:
            runs[f"Slurm {slurm.version()}, {flavour.name}"] = [
                _run_slurm(sizes, flavour) for _ in range(sizes.repeats)
            ]
    else:
        say("Slurm is not installed (apt-get install slurm-wlm munge): nothing to compare with")
    rates = {who: median(run.ended_per_s for run in mine) for who, mine in runs.items()}
    ours = rates.pop("gpusched")
    what = f"`true` jobs end to end, 2 agents, {sizes.submitters} submitters"
    figures = [Figure(what, ours, "jobs/s", at_least(200))]
    for who, theirs in rates.items():
        figures.append(Figure(f"the same jobs, {who}", theirs, "jobs/s"))
        figures.append(Figure(f"gpusched to {who}", ours / theirs, "times"))
    return Measured(figures, {"runs": {who: _as_json(mine) for who, mine in runs.items()}})


def _as_json(runs: list[Run]) -> list[dict[str, Any]]:
    return [
        {"accepted_per_s": round(run.accepted_per_s, 1), "ended_per_s": round(run.ended_per_s, 1)}
        for run in runs
    ]


def _run_ours(sizes: Sizes) -> Run:
    with (
        temporary_home() as home,
        running_head(Head(home)) as head,
        running_agents(head, ["n1", "n2"], "--devices", "none", "--cpus", str(sizes.cpus)),
    ):
        ends = _Ends(head, sizes.jobs)
        submitted = submit_from_many(
            head.address, TRUE, clients=sizes.submitters, calls=sizes.jobs // sizes.submitters
        )
        last_ns = ends.wait()
        run = Run(submitted.jobs_per_s, sizes.jobs / ((last_ns - submitted.began_ns) * NANO))
    say(f"gpusched: {run.ended_per_s:.1f} jobs/s ({run.accepted_per_s:.0f}/s accepted)")
    return run


class _Ends:
    """Follows the log in a thread until so many jobs have ended, all of them well."""

    def __init__(self, head: Head, jobs: int) -> None:
        self._head, self._jobs = head, jobs
        self._states: Counter[JobState] = Counter()
        self._last_ns = 0
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def wait(self) -> int:
        """The monotonic time at which the last end was heard of, in ns."""
        self._thread.join(JOBS_DEADLINE_S)
        if self._states != {JobState.COMPLETED: self._jobs}:
            raise RuntimeError(f"{self._jobs} jobs should have completed: {dict(self._states)}")
        return self._last_ns

    def _follow(self) -> None:
        with self._head.client() as client:
            for recorded in client.jobs.watch(()):
                if isinstance(recorded.event, JobEnded):
                    self._states[recorded.event.state] += 1
                    self._last_ns = time.monotonic_ns()
                    if self._states.total() == self._jobs:
                        return


def _run_slurm(sizes: Sizes, flavour: slurm.Flavour) -> Run:
    with slurm.running_slurm(flavour, cpus=sizes.cpus) as cluster:
        times = cluster.run_true_jobs(sizes.jobs, submitters=sizes.submitters)
    run = Run(
        sizes.jobs / ((times.accepted_ns - times.began_ns) * NANO),
        sizes.jobs / ((times.ended_ns - times.began_ns) * NANO),
    )
    say(f"Slurm {flavour.name}: {run.ended_per_s:.1f} jobs/s ({run.accepted_per_s:.0f}/s accepted)")
    return run


if __name__ == "__main__":
    sys.exit(run_benchmark("end_to_end", measure, full=Sizes(), quick=Sizes(jobs=80, repeats=1)))
