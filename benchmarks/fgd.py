"""Packing of GPU-sharing pods: the replay of Weng et al. (USENIX ATC 2023), ours against the published.

    python -m benchmarks.fgd --nodes F --pods F --arrivals F.npz [...] --policy ours --json --out FILE

Paths may also come from ``--traces DIR`` (or ``GPUSCHED_TRACES``) and ``--trace NAME``; with neither,
a synthetic trace of the same form is made, and the result says so.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.fgd_policies import BestFit, DotProd, Fgd, GpuClustering, GpuPacking, Learnt, Ours
from benchmarks.fgd_replay import ALLOCATION_AT, FRAGMENTATION_AT, ByArrival, Outcome, PolicyFor, replay
from benchmarks.fgd_trace import Trace, TraceInvalid, read_trace, read_trace_of_folder, synthetic_trace
from benchmarks.machine import commit, this_machine
from benchmarks.report import say

POLICIES: dict[str, PolicyFor] = {
    "ours": Ours,
    "learnt": Learnt,
    "fgd": Fgd,
    "bestfit": BestFit,
    "dotprod": DotProd,
    "gpupacking": GpuPacking,
    "gpuclustering": GpuClustering,
}


def main(words: Sequence[str] | None = None) -> int:
    """Replay every order given and print the means over them."""
    options = _options(words)
    try:
        trace = _trace(options)
    except (TraceInvalid, OSError) as error:
        sys.stderr.write(f"fgd: {error}\n")
        return 2
    outcomes = []
    for arrivals in trace.arrivals:
        outcome = replay(trace, arrivals, POLICIES[options.policy])
        outcomes.append(outcome)
        say(f"{trace.name} {options.policy} seed {outcome.seed}: {outcome.allocation}")
        if options.out is not None:
            _write_decisions(_out_path(options.out, outcome.seed, len(trace.arrivals)), outcome)
    result = summary(trace.name, options.policy, outcomes)
    if options.json:
        print(json.dumps(result))
    else:
        for key in ("trace", "policy", "allocation_percent", "fragmentation_percent", "decisions_per_s"):
            print(f"{key:<24} {result[key]}")
    return 0


def summary(trace: str, policy: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Means over the orders, what each gave, and where it was measured."""
    decided = sum(len(outcome.decisions) for outcome in outcomes)
    return {
        "trace": trace,
        "policy": policy,
        "seeds": [outcome.seed for outcome in outcomes],
        "allocation_percent": _means(ALLOCATION_AT, [outcome.allocation for outcome in outcomes]),
        "fragmentation_percent": _means(FRAGMENTATION_AT, [outcome.fragmentation for outcome in outcomes]),
        "decisions_per_s": round(decided / sum(outcome.wall_s for outcome in outcomes)),
        "decisions_per_cpu_s": round(decided / sum(outcome.cpu_s for outcome in outcomes)),
        "allocation_percent_per_seed": {outcome.seed: outcome.allocation for outcome in outcomes},
        "commit": commit(),
        "machine_facts": asdict(this_machine(Path(tempfile.gettempdir()))),
    }


def _means(at: Sequence[int], values: Sequence[ByArrival]) -> dict[str, float | None]:
    means: dict[str, float | None] = {}
    for percent in at:
        known = [value for each in values if (value := each[percent]) is not None]
        means[str(percent)] = round(sum(known) / len(known), 3) if known else None
    return means


def _write_decisions(path: Path, outcome: Outcome) -> None:
    """One line per arrival: the node's index by name (-1: rejected) and its GPUs."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(("node", "gpus"))
        for decision in outcome.decisions:
            writer.writerow((-1, "") if decision is None else (decision[0], " ".join(map(str, decision[1]))))


def _out_path(out: Path, seed: str, orders: int) -> Path:
    return out if orders == 1 else out.with_name(f"{out.stem}_{seed}{out.suffix}")


def _trace(options: argparse.Namespace) -> Trace:
    if options.nodes and options.pods and options.arrivals:
        return read_trace(options.nodes, options.pods, options.arrivals)
    if options.nodes or options.pods or options.arrivals:
        raise TraceInvalid("--nodes, --pods and --arrivals go together: give all three")
    if options.traces is not None:
        return read_trace_of_folder(options.traces, options.trace)
    say("no trace given: a synthetic one of the same form")
    return synthetic_trace(2)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fgd", description=__doc__)
    parser.add_argument("--nodes", type=Path, metavar="FILE", help="CSV of nodes")
    parser.add_argument("--pods", type=Path, metavar="FILE", help="CSV of pods")
    parser.add_argument("--arrivals", type=Path, nargs="+", metavar="FILE", help="NPZ, one per order")
    folder = os.environ.get("GPUSCHED_TRACES")
    parser.add_argument("--traces", type=Path, default=Path(folder) if folder else None, metavar="DIR")
    parser.add_argument("--trace", default="default", help="its name in the folder of traces")
    parser.add_argument("--policy", choices=POLICIES, default="ours")
    parser.add_argument("--json", action="store_true", help="print one JSON object last on stdout")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="decisions as CSV; FILE_SEED for several orders"
    )
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
