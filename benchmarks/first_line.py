"""From submit to the first line of user code on an idle cluster, beside starting the same program bare."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cluster import Head, running_agents, running_head, temporary_home
from benchmarks.report import Figure, Measured, at_most, percentile, run_benchmark
from gpusched.domain.job_spec import JobSpec
from gpusched.wire.client import Client

# The wall clock at its first line; all processes here share it. `-S` leaves out site-packages, so
# that the figure is about starting and not about what happens to be installed.
PROGRAM = "import time; now = time.time_ns(); import sys; open(sys.argv[1], 'w').write(str(now))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Samples of each kind; one more before them warms caches and is not counted."""

    samples: int = 100


def measure(sizes: Sizes) -> Measured:
    """Submit to first line of user code, one job at a time, with agents that run already."""
    with (
        temporary_home() as home,
        running_head(Head(home)) as head,
        running_agents(head, ["n1", "n2"], "--devices", "none", "--cpus", "64"),
        head.client() as client,
    ):
        launched_ms, bare_ms = [], []
        for _ in range(1 + sizes.samples):
            # In turns: whatever else this machine does meets both alike.
            launched_ms.append(_until_first_line(home / "first-line", lambda argv: _as_job(client, argv)))
            bare_ms.append(_until_first_line(home / "first-line", _bare))
    launched_ms, bare_ms = launched_ms[1:], bare_ms[1:]
    above = percentile(launched_ms, 50) - percentile(bare_ms, 50)
    return Measured(
        [
            Figure("submit to first line of user code, median", percentile(launched_ms, 50), "ms"),
            Figure("submit to first line of user code, p99", percentile(launched_ms, 99), "ms"),
            Figure("bare process start to its first line, median", percentile(bare_ms, 50), "ms"),
            Figure("bare process start to its first line, p99", percentile(bare_ms, 99), "ms"),
            Figure("first line above a bare start, median", above, "ms", at_most(100)),
        ],
        {"launched_ms": [round(ms, 2) for ms in launched_ms], "bare_ms": [round(ms, 2) for ms in bare_ms]},
    )


def _until_first_line(written: Path, run: Callable[[tuple[str, ...]], None]) -> float:
    """Milliseconds until the program that ``run`` starts, and waits for, was at its first line."""
    asked_ns = time.time_ns()
    run((sys.executable, "-S", "-c", PROGRAM, str(written)))
    first_line_ns = int(written.read_text(encoding="ascii"))
    written.unlink()
    return (first_line_ns - asked_ns) * 1e-6


def _as_job(client: Client, argv: tuple[str, ...]) -> None:
    job_id = client.jobs.submit(JobSpec(name="first-line", command=argv, workdir="/tmp"))
    client.jobs.wait(job_id)


def _bare(argv: tuple[str, ...]) -> None:
    subprocess.run(argv, check=True, cwd="/tmp")


if __name__ == "__main__":
    sys.exit(run_benchmark("first_line", measure, full=Sizes(), quick=Sizes(samples=5)))
