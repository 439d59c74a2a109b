"""Replay every trace under every policy and keep the results: ``python -m benchmarks.jct.record``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.jct.__main__ import POLICIES
from benchmarks.machine import this_machine
from benchmarks.report import RESULTS, Figure, Measured, at_most, result_of, say

CLUSTERS = (
    *(("muri", name, 8) for name in ("trace1", "trace3", "trace2_pr")),
    *(("itp", name, nodes) for name, nodes in (("c02", 12), ("c03", 20), ("c07", 36))),
    *(("philly", name, nodes) for name, nodes in (("103959", 3), ("ee9e8c", 17))),
)
"""Format, trace, nodes of 8 GPUs: Muri's own size, and the tight sizes of the traces' README."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """The cluster of a replay."""

    nodes: int
    gpus_per_node: int = 8


def main() -> int:
    """One file of results per trace."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jct.record", description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, metavar="DIR")
    traces: Path = parser.parse_args().traces
    machine = this_machine(Path(tempfile.gettempdir()))
    for format_, name, nodes in CLUSTERS:
        say(f"jct {name}")
        file = traces / format_ / f"{name}.csv.gz"
        results = {policy: _replayed(file, format_, nodes, policy) for policy in POLICIES}
        record = result_of(f"jct_{name}", _measured(results), machine, Sizes(nodes=nodes))
        text = json.dumps(record, indent=2) + "\n"
        (RESULTS / f"jct_{name}.json").write_text(text, encoding="utf-8")
    return 0


def _measured(results: Mapping[str, Mapping[str, float]]) -> Measured:
    """Ours against the best published order that knows no durations; all figures stay beside it."""
    name, part = results["ours"]["trace"], results["ours"]["avg_jct_s"] / results["tiresias"]["avg_jct_s"]
    figure = Figure(f"{name}: average completion time, of Tiresias'", part, "", at_most(1.0))
    return Measured((figure,), {"results": list(results.values())})


def _replayed(file: Path, format_: str, nodes: int, policy: str) -> dict[str, float]:
    """In a process of its own, as anybody would run it."""
    argv = [sys.executable, "-m", "benchmarks.jct", "--format", format_, "--trace", str(file)]
    argv += ["--nodes", str(nodes), "--gpus-per-node", "8", "--policy", policy, "--json"]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


if __name__ == "__main__":
    sys.exit(main())
