"""Run every benchmark, one after the other, and keep the results: ``python -m benchmarks [NAME...]``."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.report import RESULTS, say, unwind_when_asked_to_end

BENCHMARKS = (
    "accepts",
    "end_to_end",
    "first_line",
    "restart",
    "agent_footprint",
    "scale",
    "cycle",
    "simulate",
)


def main(names: list[str]) -> int:
    """Run those named, or all; each in a process of its own, so that none inherits another's memory.

    Returns:
        How many did not run to their end.
    """
    unknown = sorted(set(names) - set(BENCHMARKS))
    if unknown:
        say(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
        return 2
    unwind_when_asked_to_end()
    RESULTS.mkdir(exist_ok=True)
    failed = [name for name in names or BENCHMARKS if not _run(name)]
    if failed:
        say(f"did not run to their end: {', '.join(failed)}")
    return len(failed)


def _run(name: str) -> bool:
    argv = [sys.executable, "-m", f"benchmarks.{name}", "--out", str(RESULTS / f"{name}.json")]
    process = subprocess.Popen(argv)
    try:
        return process.wait() == 0
    finally:
        process.terminate()  # it ends what it started before it goes; no harm where it has ended
        process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
