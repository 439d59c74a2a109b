"""Jobs that do nothing, from the first submit to the last end: what scheduling itself costs.

Where Slurm is installed, the same jobs run on it in the same minutes, and the ratio is told.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks import slurm
from benchmarks.cluster import Head, running_agents, running_head, temporary_home, until
from benchmarks.report import Figure, Measured, at_least, run_benchmark, say
from benchmarks.submitters import NANO, submit_from_many
from gpusched.domain.job import JobFilter
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import JobState

TRUE = JobSpec(name="true", command=("true",), workdir="/tmp")
# Asked for one of these now and then: cheaper for the head than to be told of every event.
UNFINISHED = JobFilter(states=tuple(state for state in JobState if not state.is_terminal))


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
    with ExitStack() as stack:
        head = stack.enter_context(running_head(Head(stack.enter_context(temporary_home()))))
        options = ("--devices", "none", "--cpus", str(sizes.cpus))
        stack.enter_context(running_agents(head, ["n1", "n2"], *options))
        client = stack.enter_context(head.client())
        before_s = head.cpu_s()
        submitted = submit_from_many(
            head.address, TRUE, clients=sizes.submitters, calls=sizes.jobs // sizes.submitters
        )
        until(lambda: next(client.jobs.list(UNFINISHED, page_size=1), None) is None, "the jobs")
        last_ns = time.monotonic_ns()
        head_ms = 1e3 * (head.cpu_s() - before_s) / sizes.jobs
        states = Counter(view.job.state for view in client.jobs.list(page_size=1_000))
    if states != {JobState.COMPLETED: sizes.jobs}:
        raise RuntimeError(f"{sizes.jobs} jobs should have completed: {dict(states)}")
    run = Run(submitted.jobs_per_s, sizes.jobs / ((last_ns - submitted.began_ns) * NANO))
    say(
        f"gpusched: {run.ended_per_s:.1f} jobs/s ({run.accepted_per_s:.0f}/s accepted), "
        f"{head_ms:.1f} ms of the head's CPU per job"
    )
    return run


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
