"""Run every benchmark, one after the other, and keep the results: ``python -m benchmarks [NAME...]``."""

from __future__ import annotations

import sys

from benchmarks.report import RESULTS
from benchmarks.run_all import run_all

BENCHMARKS = (
    "accepts",
    "end_to_end",
    "first_line",
    "restart",
    "agent_footprint",
    "scale",
    "cycle",
    "decisions",
    "simulate",
)

if __name__ == "__main__":
    sys.exit(run_all("benchmarks", BENCHMARKS, sys.argv[1:], RESULTS))
