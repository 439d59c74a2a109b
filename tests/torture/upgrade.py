"""Versions change under running jobs (R22): the head first, then the agents; and the agents first.

The version before is real: the code of ``BEFORE``, a commit of this repository's history, unpacked anew.
After each step the jobs that ran go on, new ones run, and at the end all have the end that they asked for.

python -m torture.upgrade --out FILE
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from torture.records import judge
from torture.ticking import TickingJobs, broken_ends, ended_as_asked

from benchmarks.cluster import Head, running_agents, temporary_home
from benchmarks.report import Figure, Measured, at_least, at_most, run_benchmark, say

REPOSITORY = Path(__file__).parents[2]
BEFORE = "0c4f09611220d9e0a95915b3fce46fd88dc96060"
"""The last commit before agents say which orders they understand. Move it on with each release."""

NODES = ("n1", "n2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How often both orders of an upgrade are gone through, and under how many jobs."""

    rounds: int = 10
    jobs: int = 20


QUICK = Sizes(rounds=1, jobs=2)


def measure(sizes: Sizes) -> Measured:
    """Upgrade a cluster of the version before, in either order, under running jobs."""
    figures: list[Figure] = []
    with temporary_home() as folder:
        before = {"PYTHONPATH": str(_unpack(folder))}
        for parts in (("head", "agents"), ("agents", "head")):
            figures += _upgrades(parts, before, sizes)
    return Measured(figures)


def _unpack(folder: Path) -> Path:
    """The package of the version before, to be found on a PYTHONPATH."""
    found = _git("archive", BEFORE, "src")
    if found.returncode != 0:  # a clone without history
        _git("fetch", "--depth=1", "origin", BEFORE)
        found = _git("archive", BEFORE, "src")
    if found.returncode != 0:
        why = found.stderr.decode().strip()
        raise RuntimeError(f"commit {BEFORE} is not here ({why}): fetch the whole history")
    with tarfile.open(fileobj=BytesIO(found.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


def _git(*words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["git", "-C", str(REPOSITORY), *words], capture_output=True, check=False)


def _upgrades(parts: tuple[str, str], before: Mapping[str, str], sizes: Sizes) -> list[Figure]:
    wrong, found, ran = 0, 0, 0
    for _ in range(sizes.rounds):
        with temporary_home() as home, _running(home, before, sizes.jobs) as cluster:
            jobs = TickingJobs(home)
            with cluster.head.client() as client:
                job_ids = list(jobs.submit(client, sizes.jobs))
                for part in parts:
                    cluster.upgrade(part)
                    job_ids += jobs.submit(client, 1)  # what comes between the steps runs too
                jobs.end()
                wrong, ran = wrong + ended_as_asked(client, job_ids), ran + len(job_ids)
            cluster.head.stop()
            found += len(judge(f"sqlite:///{home}/gpusched.db", ticks=jobs.ticks))
    under = f"{sizes.rounds} upgrades, {' then '.join(parts)}"
    say(f"R22 {under}: {ran} jobs ran through them, {wrong} ended wrongly, {found} promises broken")
    return [
        Figure(f"jobs run, {under}", ran, "jobs", at_least(sizes.rounds * (sizes.jobs + len(parts)))),
        Figure(f"promises broken, {under}", found, "", at_most(0)),
        broken_ends(f"over {under}", wrong),
    ]


class _Cluster:
    """A head and agents of the version before, each to be replaced by this one's."""

    def __init__(self, home: Path, before: Mapping[str, str], jobs: int, stack: ExitStack) -> None:
        self.head = Head(home, settings=before)
        stack.callback(self._stop_head)
        self._options = ("--devices", "none", "--cpus", str(jobs + 1))
        self._agents = stack.enter_context(ExitStack())
        self.head.start()
        self._start_agents(before)

    def _stop_head(self) -> None:
        self.head.stop()

    def _start_agents(self, settings: Mapping[str, str] | None) -> None:
        agents = running_agents(self.head, NODES, *self._options, settings=settings)
        self._pids = self._agents.enter_context(agents)

    def upgrade(self, part: str) -> None:
        """Replace the head, or the agents, under what runs."""
        if part == "head":
            self.head.stop()
            self.head = Head(self.head.home)
            self.head.start()
        else:
            for pid in self._pids:  # as an upgrade of a package does: the shims stay
                os.kill(pid, signal.SIGKILL)
            self._agents.close()
            self._start_agents(None)


@contextmanager
def _running(home: Path, before: Mapping[str, str], jobs: int) -> Iterator[_Cluster]:
    with ExitStack() as stack:
        yield _Cluster(home, before, jobs, stack)


if __name__ == "__main__":
    sys.exit(run_benchmark("upgrade", measure, full=Sizes(), quick=QUICK))
