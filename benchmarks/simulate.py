"""``gpusched simulate`` at length: how long the engine takes for a whole trace, in virtual time."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.report import SEED, Figure, Measured, at_most, run_benchmark, say
from gpusched.daemon.scenario import Cluster
from gpusched.daemon.simulated import TimeLimits, run_scenario, scenario_of
from gpusched.daemon.traces import TraceJob

GANGS = ((1, 0.62), (2, 0.12), (4, 0.1), (8, 0.12), (16, 0.025), (32, 0.01), (64, 0.005))
"""GPUs of a gang and its share of the jobs: about as in the published traces of Philly and ITP."""
GPUS_PER_NODE = 8
BURST_MEAN = 4.0  # jobs that come together, as from one script
ACCOUNTS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Jobs and nodes of the trace; load is the GPU time asked for over that of the cluster."""

    jobs: int = 80_000
    nodes: int = 64
    load: float = 0.9


def measure(sizes: Sizes) -> Measured:
    """A synthetic trace on a cluster of 8-GPU nodes: CPU seconds of the simulation."""
    jobs = list(synthetic_jobs(sizes))
    cluster = Cluster(
        nodes=sizes.nodes, devices=f"{GPUS_PER_NODE}xH100", cpus=128, memory_bytes=2 << 40, depth_max=10_000
    )
    say(f"simulating {sizes.jobs} jobs on {sizes.nodes} nodes")
    began, cpu_began = time.perf_counter(), time.process_time()
    outcome = run_scenario(scenario_of(jobs, cluster, TimeLimits.TRACE))
    cpu_s, wall_s = time.process_time() - cpu_began, time.perf_counter() - began
    where = f"{sizes.jobs:,} jobs on {sizes.nodes} nodes × {GPUS_PER_NODE} GPUs"
    return Measured(
        [
            Figure(f"simulate {where}, wall", wall_s, "s", at_most(60)),
            Figure(f"simulate {where}, CPU", cpu_s, "s"),
            Figure("jobs simulated", sizes.jobs / wall_s, "/s"),
        ],
        {"summary": outcome.summary.as_json(), "trace": "synthetic: see synthetic_jobs"},
    )


def synthetic_jobs(sizes: Sizes) -> Iterator[TraceJob]:
    """Jobs in bursts, of the sizes in ``GANGS``; running times log-normal, limits up to five times those."""
    dice = random.Random(SEED)
    gangs, shares = zip(*GANGS, strict=True)
    shapes = [
        (dice.choices(gangs, shares)[0], min(dice.lognormvariate(7.0, 1.6), 3 * 86_400.0))
        for _ in range(sizes.jobs)
    ]
    work_s = sum(gpus * seconds for gpus, seconds in shapes)
    span_s = work_s / (sizes.load * sizes.nodes * GPUS_PER_NODE)
    at_s = 0.0
    for number, (gpus, seconds) in enumerate(shapes):
        if dice.random() < 1 / BURST_MEAN:
            at_s += dice.expovariate(sizes.jobs / BURST_MEAN / span_s)
        yield TraceJob(
            name=str(number),
            submit_s=round(at_s, 3),
            duration_s=round(seconds, 3),
            gpus=gpus,
            time_limit_s=60 + round(seconds * dice.uniform(1.0, 5.0)),
            user=f"u{dice.randrange(4 * ACCOUNTS)}",
            account=f"a{dice.randrange(ACCOUNTS)}",
        )


if __name__ == "__main__":
    sys.exit(run_benchmark("simulate", measure, full=Sizes(), quick=Sizes(jobs=500, nodes=4)))
