"""Run every trial in full, or those named, and keep the figures: ``python -m torture [NAME...]``."""

from __future__ import annotations

import sys

from torture.trials import TRIALS

from benchmarks.report import RESULTS
from benchmarks.run_all import run_all

if __name__ == "__main__":
    sys.exit(run_all("torture", TRIALS, sys.argv[1:], RESULTS / "torture"))
