"""Runs measuring programs one after the other and keeps what each says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import say, unwind_when_asked_to_end


def run_all(package: str, known: Sequence[str], names: Sequence[str], results: Path) -> int:
    """Run those named, or all; each in a process of its own, so that none inherits another's memory.

    Args:
        package: Whose modules they are.
        known: All there are, in the order in which they run.
        names: Which to run; none stands for all.
        results: Where each leaves ``<name>.json``.

    Returns:
        How many did not run to their end.
    """
    unknown = sorted(set(names) - set(known))
    if unknown:
        say(f"there is no {', '.join(unknown)}; there are {', '.join(known)}")
        return 2
    unwind_when_asked_to_end()
    results.mkdir(exist_ok=True)
    failed = [name for name in names or known if not _run(f"{package}.{name}", results / f"{name}.json")]
    if failed:
        say(f"did not run to their end: {', '.join(failed)}")
    return len(failed)


def _run(module: str, out: Path) -> bool:
    process = subprocess.Popen([sys.executable, "-m", module, "--out", str(out)])
    try:
        return process.wait() == 0
    finally:
        process.terminate()  # it ends what it started before it goes; no harm where it has ended
        process.wait()
