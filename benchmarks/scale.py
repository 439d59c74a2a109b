"""A head with a thousand agents, a hundred thousand jobs in its queue and two thousand running.

The agents are simulated (``simulated_agents.py``), their streams and everything behind them are real.
"""

from __future__ import annotations

import json
import os
import random
import resource
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from benchmarks.cluster import START_DEADLINE_S, Head, running_head, tail, temporary_home, until
from benchmarks.report import SEED, Figure, Measured, at_most, percentile, run_benchmark, say
from benchmarks.simulated_agents import node_name
from gpusched.domain.ids import JobId
from gpusched.domain.job import JobFilter
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import JobState
from gpusched.wire.client import Client

CONFIG = "[engine]\nheartbeat_interval_s = {heartbeat_s:.1f}\n"
BATCH = 1_000
FULL_DEADLINE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Nodes have 8 GPUs; a job takes 4 of one node, so two per node run."""

    agents: int = 1_000
    agents_per_process: int = 250
    pending: int = 100_000
    heartbeat_s: float = 5.0
    window_s: float = 60.0
    calls_per_s: float = 20.0

    @property
    def running(self) -> int:
        """Jobs that fill the cluster."""
        return 2 * self.agents


@dataclass(slots=True)
class _Watched:
    """What the window showed."""

    latencies_s: dict[str, list[float]] = field(default_factory=dict)
    rss_bytes: list[int] = field(default_factory=list)
    cpu_s: float = 0.0


def measure(sizes: Sizes) -> Measured:
    """Head memory, API latency and cycle time while the cluster is full and jobs come and go."""
    _allow_many_files()
    with temporary_home() as home:
        probe = home / "probe.json"
        head = Head(
            home,
            CONFIG.format(heartbeat_s=sizes.heartbeat_s),
            module="benchmarks.probed_head",
            settings={"GPUSCHED_BENCH_PROBE": str(probe)},
        )
        with running_head(head), _running_agents(head, sizes), head.client() as client:
            say(f"{sizes.agents} agents joined; submitting {sizes.pending + sizes.running} jobs")
            began = time.monotonic()
            first = _submit_all(client, sizes.pending + sizes.running)
            submit_s = time.monotonic() - began
            until(lambda: _all_running(client, first, sizes), "a full cluster", FULL_DEADLINE_S)
            full_s = time.monotonic() - began
            say(f"the cluster was full after {full_s:.1f} s; watching for {sizes.window_s:.0f} s")
            window_began = time.monotonic()
            watched = _watch(head, client, first, sizes)
            window_ended = time.monotonic()
        engine = json.loads(probe.read_text(encoding="utf-8"))
    in_window = {
        name: [took for at, took in calls if window_began <= at <= window_ended]
        for name, calls in engine.items()
    }
    return Measured(
        _figures(sizes, watched, in_window),
        {
            "submit_s": round(submit_s, 2),
            "full_after_s": round(full_s, 2),
            "head_cpu_percent_of_a_core": round(100 * watched.cpu_s / sizes.window_s, 1),
            "api_ms": {name: _summary(values) for name, values in watched.latencies_s.items()},
            "engine_ms": {name: _summary(values) for name, values in in_window.items()},
        },
    )


def _figures(sizes: Sizes, watched: _Watched, engine: dict[str, list[float]]) -> list[Figure]:
    with_load = f"{sizes.agents:,} agents, {sizes.pending:,} pending, {sizes.running:,} running"
    latencies_ms = [1e3 * s for values in watched.latencies_s.values() for s in values]
    cycles_ms = [1e3 * s for s in engine["cycle"]]
    return [
        Figure(f"head RSS, {with_load}", max(watched.rss_bytes) / 2**30, "GiB", at_most(1)),
        Figure(f"API latency, median, {with_load}", percentile(latencies_ms, 50), "ms"),
        Figure(f"API latency, p99, {with_load}", percentile(latencies_ms, 99), "ms", at_most(1_000)),
        Figure(f"cycle, median, {with_load}", percentile(cycles_ms, 50), "ms", at_most(50)),
        Figure(f"cycle, p99, {with_load}", percentile(cycles_ms, 99), "ms"),
    ]


def _summary(values_s: list[float]) -> dict[str, float]:
    if not values_s:
        return {"count": 0}
    return {"count": len(values_s)} | {
        f"p{percent}": round(1e3 * percentile(values_s, percent), 2) for percent in (50, 90, 99, 100)
    }


def _allow_many_files() -> None:
    """A head needs a file per agent; children inherit what we set here."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def _running_agents(head: Head, sizes: Sizes) -> Iterator[None]:
    with ExitStack() as stack:
        processes = []
        for first in range(0, sizes.agents, sizes.agents_per_process):
            count = min(sizes.agents_per_process, sizes.agents - first)
            log = head.home / f"agents-{first}.log"
            processes.append((stack.enter_context(_agents_process(head, first, count, log)), log))
        for process, log in processes:
            assert process.stdout is not None
            select.select([process.stdout], [], [], START_DEADLINE_S)
            if process.poll() is not None or process.stdout.readline() != b"joined\n":
                raise RuntimeError(f"simulated agents did not join: {tail(log)}")
        yield
        for process, log in processes:
            if process.poll() is not None:
                raise RuntimeError(f"simulated agents lost their head: {tail(log)}")


@contextmanager
def _agents_process(head: Head, first: int, count: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    argv = [sys.executable, "-m", "benchmarks.simulated_agents", head.address]
    argv += ["--first", str(first), "--count", str(count), "--seed", str(SEED)]
    with log.open("wb") as errors:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, env=dict(os.environ))
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _submit_all(client: Client, jobs: int) -> JobId:
    spec = JobSpec(
        name="train",
        command=("python", "train.py"),
        workdir="/tmp",
        gpus_per_node=4,
        tasks_per_node=4,
        cpus_per_task=8,
        time_limit_s=3_600,
    )
    ids: list[JobId] = []
    for start in range(0, jobs, BATCH):
        ids += client.jobs.submit_many([spec] * min(BATCH, jobs - start))
    return ids[0]


def _all_running(client: Client, first: JobId, sizes: Sizes) -> bool:
    """Jobs start in order: when the last of the first full house has left the queue, the house is full."""
    return client.jobs.get(JobId(first + sizes.running - 1)).job.state is not JobState.PENDING


def _watch(head: Head, client: Client, first: JobId, sizes: Sizes) -> _Watched:
    watched = _Watched()
    process = psutil.Process(head.pid)
    before = process.cpu_times()
    dice = random.Random(SEED)
    calls = _calls(client, first, sizes, dice)
    pace = threading.Event()
    ends_at = time.monotonic() + sizes.window_s
    while (now := time.monotonic()) < ends_at:
        name, call = calls[dice.randrange(len(calls))]
        call()
        took_s = time.monotonic() - now
        watched.latencies_s.setdefault(name, []).append(took_s)
        watched.rss_bytes.append(process.memory_info().rss)
        pace.wait(max(0.0, 1 / sizes.calls_per_s - took_s))
    after = process.cpu_times()
    watched.cpu_s = float(after.user + after.system - before.user - before.system)
    return watched


def _calls(
    client: Client, first: JobId, sizes: Sizes, dice: random.Random
) -> list[tuple[str, Callable[[], Any]]]:
    """What people and dashboards ask for, each equally often."""
    one = JobSpec(name="one", command=("true",), workdir="/tmp", gpus_per_node=1, time_limit_s=600)

    def some_job() -> JobId:
        return JobId(first + dice.randrange(sizes.running + sizes.pending))

    def first_page() -> None:
        running = client.jobs.list(JobFilter(states=(JobState.RUNNING,)), page_size=100)
        for _ in range(100):
            if next(running, None) is None:
                return

    return [
        ("submit", lambda: client.jobs.submit(one)),
        ("get", lambda: client.jobs.get(some_job())),
        ("list 100 running", first_page),
        ("explain", lambda: client.jobs.explain(some_job())),
        ("get node", lambda: client.nodes.get(node_name(dice.randrange(sizes.agents)))),
    ]


if __name__ == "__main__":
    quick = Sizes(agents=20, agents_per_process=10, pending=2_000, heartbeat_s=1.0, window_s=5.0)
    sys.exit(run_benchmark("scale", measure, full=Sizes(), quick=quick))
