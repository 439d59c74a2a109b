"""What people and machines write, through every parser, guided by what of the code an input reaches."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from parsers import PARSERS

from benchmarks.report import Figure, Measured, at_least, at_most, run_benchmark, say

TOLD_CHARS = 2_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many inputs each parser gets, and how many parsers."""

    runs: int = 50_000
    parsers: int = len(PARSERS)


FULL = Sizes()
QUICK = Sizes(runs=300, parsers=3)


def measure(sizes: Sizes) -> Measured:
    """Measure what parsers make of inputs that atheris finds."""
    names = list(PARSERS)[: sizes.parsers]
    with ThreadPoolExecutor(2) as pool:
        said = dict(zip(names, pool.map(lambda name: _fuzzed(name, sizes.runs), names), strict=True))
    failed = {name: words for name, words in said.items() if words is not None}
    figures = [
        Figure("parsers", len(names), "", at_least(3)),
        Figure("inputs, all parsers", sizes.runs * (len(names) - len(failed)), "", at_least(sizes.runs)),
        Figure("parsers that neither took nor refused an input", len(failed), "", at_most(0)),
    ]
    return Measured(figures, {"failed": failed})


def _fuzzed(name: str, runs: int) -> str | None:
    """What was said at the input that broke a parser; None: none did."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "fuzz.guided", name, str(runs), folder]
        done = subprocess.run(
            words,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # a test's, too
            capture_output=True,
            check=False,
            text=True,
            errors="replace",
        )
    say(f"{name}: {'ok' if done.returncode == 0 else 'FAILED'}")
    return None if done.returncode == 0 else done.stderr[-TOLD_CHARS:]


if __name__ == "__main__":
    sys.exit(run_benchmark("fuzz.files", measure, full=FULL, quick=QUICK))
