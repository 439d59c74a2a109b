"""Run every trial in full, or those named, and keep the figures: ``python -m fuzz [NAME...]``."""

from __future__ import annotations

import sys

from fuzz.trials import TRIALS

from benchmarks.report import RESULTS
from benchmarks.run_all import run_all

if __name__ == "__main__":
    sys.exit(run_all("fuzz", TRIALS, sys.argv[1:], RESULTS / "fuzz"))
