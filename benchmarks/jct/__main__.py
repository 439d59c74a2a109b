"""Replay a job trace under one policy: ``python -m benchmarks.jct --help``."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.jct.orders import Fifo, Ours, ShortestRemaining, Tiresias
from benchmarks.jct.replay import Floats, Policy, Pool, Replayed, Work, replay
from benchmarks.report import say
from gpusched.daemon.traces import TraceFormat, TraceJob, read_trace
from gpusched.domain.errors import InvalidSpec, Violation

FORMATS = ("muri", "itp", "philly")
OVERHEAD_UNKNOWN_S = 10.0
"""Start overhead of models that Muri's simulator does not list."""

POLICIES: Mapping[str, Callable[[Work], Policy]] = {
    "fifo": lambda work: Fifo(),
    "srtf": lambda work: ShortestRemaining(np.ones(len(work.ids))),
    "srsf": lambda work: ShortestRemaining(work.gpus),
    "tiresias": lambda work: Tiresias(work.gpus),
    "ours": lambda work: Ours(work.gpus),
}


def work_of(jobs: Sequence[TraceJob], overhead_s: Floats) -> Work:
    """Turn a trace into columns."""
    return Work(
        ids=tuple(job.name for job in jobs),
        submit_s=np.array([job.submit_s for job in jobs]),
        service_s=np.array([job.duration_s for job in jobs]),
        gpus=np.array([job.gpus for job in jobs], dtype=np.int64),
        overhead_s=overhead_s,
    )


def overheads_of(jobs: Sequence[TraceJob], table: Path | None) -> Floats:
    """Seconds lost at a start, per job, from Muri's table; without one the same for all."""
    if table is None:
        return np.full(len(jobs), OVERHEAD_UNKNOWN_S)
    try:
        raw = json.loads(table.read_text(encoding="utf-8"))
        unknown_s = float(raw["default_for_other_models"])
        seconds: Mapping[str, Mapping[str, float]] = {size: dict(row) for size, row in raw["seconds"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"no table of start overheads ({error!r}): give that of the trace with --overheads"
        raise InvalidSpec((Violation(str(table), message),)) from None
    return np.array(
        [
            float(seconds.get(str(job.gpus), {}).get(job.workload[0] if job.workload else "", unknown_s))
            for job in jobs
        ]
    )


def main() -> int:
    """Read, replay, tell."""
    options = _options()
    try:
        jobs = read_trace(options.trace, TraceFormat(options.format))
    except (InvalidSpec, OSError) as error:
        say(str(error))
        return 2
    pool = Pool(options.nodes, options.gpus_per_node)
    widest = max(jobs, key=lambda job: job.gpus)
    if widest.gpus > pool.total:
        say(f"job {widest.name} needs {widest.gpus} GPUs, the cluster has {pool.total}: give more nodes")
        return 2
    try:
        work = work_of(jobs, _overheads(options, jobs))
        if options.out is not None:
            options.out.touch()  # told before the replay, not after it
    except (InvalidSpec, OSError) as error:
        say(str(error))
        return 2
    began = time.perf_counter()
    replayed = replay(work, pool, POLICIES[options.policy](work), _progress(len(jobs)))
    result = _result(options, work, replayed, time.perf_counter() - began)
    if options.out is not None:
        _write(options.out, work, replayed)
    print(json.dumps(result) if options.json else "\n".join(f"{k:<12} {v}" for k, v in result.items()))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jct", description=__doc__)
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--trace", type=Path, required=True, metavar="FILE")
    parser.add_argument("--nodes", type=int, required=True)
    parser.add_argument("--gpus-per-node", type=int, required=True)
    parser.add_argument("--policy", choices=tuple(POLICIES), required=True)
    parser.add_argument(
        "--overheads", type=Path, metavar="FILE", help="muri only; default: start_overhead.json by the trace"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write job_id,start,end as CSV")
    options = parser.parse_args()
    if options.nodes < 1 or options.gpus_per_node < 1:
        parser.error("--nodes and --gpus-per-node must be at least 1")
    return options


def _overheads(options: argparse.Namespace, jobs: Sequence[TraceJob]) -> Floats:
    """In the ITP and Philly protocol starts are free."""
    if options.format != TraceFormat.MURI:
        return np.zeros(len(jobs))
    beside = options.trace.with_name("start_overhead.json")
    table = options.overheads or (beside if beside.exists() else None)
    if table is None:
        say(f"no {beside} and no --overheads: every start costs {OVERHEAD_UNKNOWN_S:g} s")
    return overheads_of(jobs, table)


def _progress(total: int) -> Callable[[int], None]:
    """A line now and then on stderr, for whoever watches a terminal."""
    tenths = 0

    def told(done: int) -> None:
        nonlocal tenths
        if done * 10 // total > tenths and sys.stderr.isatty():
            tenths = done * 10 // total
            say(f"{tenths}0 % of {total} jobs have ended")

    return told


def _result(
    options: argparse.Namespace, work: Work, replayed: Replayed, wall_s: float
) -> dict[str, str | int | float]:
    jct_s = replayed.jct_s(work)
    return {
        "trace": options.trace.name.split(".")[0],
        "policy": options.policy,
        "jobs": len(work.ids),
        "avg_jct_s": round(float(jct_s.mean()), 3),
        "makespan_s": round(float(replayed.finish_s.max()), 3),
        "p99_jct_s": round(replayed.p99_s(work), 3),
        "wall_s": round(wall_s, 3),
        "median_jct_s": round(float(np.median(jct_s)), 3),
        "avg_slowdown": round(float((jct_s / np.maximum(work.service_s, 60.0)).mean()), 3),
        "events": replayed.events,
        "nodes": options.nodes,
        "gpus_per_node": options.gpus_per_node,
    }


def _write(path: Path, work: Work, replayed: Replayed) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("job_id", "start", "end"))
        rows.writerows(
            (work.ids[job], f"{start:.6f}", f"{end:.6f}") for job, start, end in replayed.intervals
        )


if __name__ == "__main__":
    sys.exit(main())
