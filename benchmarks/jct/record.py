"""Replay every trace under every policy and keep the results: ``python -m benchmarks.jct.record --traces DIR``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarks.jct.__main__ import POLICIES
from benchmarks.machine import commit, this_machine
from benchmarks.report import RESULTS, say

CLUSTERS = (
    *(("muri", name, 8) for name in ("trace1", "trace3", "trace2_pr")),
    *(("itp", name, nodes) for name, nodes in (("c02", 12), ("c03", 20), ("c07", 36))),
    *(("philly", name, nodes) for name, nodes in (("103959", 3), ("ee9e8c", 17))),
)
"""Format, trace, nodes of 8 GPUs: Muri's own size, and the tight sizes of the traces' README."""


def main() -> int:
    """One file of results per trace."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jct.record", description=__doc__)
    parser.add_argument("--traces", type=Path, required=True, metavar="DIR")
    traces: Path = parser.parse_args().traces
    machine = this_machine(Path(tempfile.gettempdir()))
    for format_, name, nodes in CLUSTERS:
        say(f"jct {name}")
        file = traces / format_ / f"{name}.csv.gz"
        record = {
            "name": f"jct_{name}",
            "commit": commit(),
            "machine": machine.short,
            "machine_facts": asdict(machine),
            "results": [_replayed(file, format_, nodes, policy) for policy in POLICIES],
        }
        text = json.dumps(record, indent=2) + "\n"
        (RESULTS / f"jct_{name}.json").write_text(text, encoding="utf-8")
    return 0


def _replayed(file: Path, format_: str, nodes: int, policy: str) -> object:
    """In a process of its own, as anybody would run it."""
    argv = [sys.executable, "-m", "benchmarks.jct", "--format", format_, "--trace", str(file)]
    argv += ["--nodes", str(nodes), "--gpus-per-node", "8", "--policy", policy, "--json"]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    sys.exit(main())
