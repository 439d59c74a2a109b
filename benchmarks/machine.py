"""Where a figure was measured: the machine's facts and the commit, as they go into every result."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
LOOK_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Facts that a reader needs before comparing two figures.

    Attributes:
        disk: Kind of the file system that holds the temporary homes.
        busy_before_percent: Of all cores, in the seconds before the benchmark: others' work. Where it is
            not near 0, rates read too low and times too high.
    """

    cpu: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    disk: str
    busy_before_percent: float

    @property
    def short(self) -> str:
        """For a column of a table."""
        return f"{self.cores} cores, {self.memory_gib:.0f} GiB"


def this_machine(folder: Path) -> Machine:
    """Read the facts of this machine; ``folder`` is where databases and sockets will be."""
    return Machine(
        cpu=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        kernel=platform.release(),
        python=platform.python_version(),
        disk=_filesystem(folder),
        busy_before_percent=psutil.cpu_percent(interval=LOOK_S),
    )


def commit() -> str:
    """The commit under test, with ``-dirty`` behind it if ``src`` differs from it."""
    changed = _git("status", "--porcelain", "--untracked-files=all", "--", "src")
    return _git("rev-parse", "HEAD") + ("-dirty" if changed else "")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _filesystem(folder: Path) -> str:
    """Kind of the file system that holds ``folder``: an fsync on tmpfs costs nothing."""
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"
