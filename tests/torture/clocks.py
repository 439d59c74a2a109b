"""The wall clock of a host jumps an hour, a day, back and forth: nothing ends or expires early (R15).

The clock is Debian's libfaketime (apt-get install faketime), preloaded into a head or an agent; only the
wall clock lies, as it does when somebody sets it.

python -m torture.clocks --out FILE
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from torture.records import whole_log
from torture.ticking import TickingJobs, broken_ends, ended_as_asked

from benchmarks.cluster import Head, running_agents, running_head, temporary_home, until
from benchmarks.report import Figure, Measured, at_most, run_benchmark, say
from gpusched.domain.events import JobRequeued, NodeLost
from gpusched.domain.usage import GroupBy
from gpusched.wire.client import Client

LIBRARIES = "/usr/lib/*/faketime/libfaketime.so.1"
HOUR_S, DAY_S = 3_600, 86_400
JUMPS_S = (HOUR_S, -HOUR_S, DAY_S, -DAY_S)
SEEN_TICKS = 3  # of each job after every jump: by then heartbeats, leases and cycles went on as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many jobs, how often all jumps are made, and on which host."""

    jobs: int = 10
    rounds: int = 10
    hosts: tuple[str, ...] = ("head", "n1")


QUICK = Sizes(jobs=3, rounds=1)


def measure(sizes: Sizes) -> Measured:
    """Set the wall clock of one host under running jobs."""
    return Measured([figure for host in sizes.hosts for figure in _jumps(host, sizes)])


class _Clock:
    """A wall clock that can be set, for the processes that are started with ``settings``."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set(0)
        library = next(Path("/").glob(LIBRARIES[1:]), None)
        if library is None:
            raise RuntimeError("no libfaketime to set a clock with: apt-get install faketime")
        self.settings: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # else Python's own waits hang (libfaketime issue 390)
        }

    def set(self, ahead_s: int) -> None:
        """So far from the true time. Replaced as a whole: it is read at every look at the clock."""
        following = self._file.with_suffix(".next")
        following.write_text(f"{ahead_s:+d}\n")
        following.rename(self._file)


def _jumps(host: str, sizes: Sizes) -> list[Figure]:
    with temporary_home() as home, ExitStack() as stack:
        clock, jobs = _Clock(home / "clock"), TickingJobs(home, period_s=0.2)
        head = stack.enter_context(
            running_head(Head(home, settings=clock.settings if host == "head" else None))
        )
        options = ("--devices", "4xH100", "--cpus", str(sizes.jobs))
        agent_settings = clock.settings if host == "n1" else None
        stack.enter_context(running_agents(head, ("n1",), *options, settings=agent_settings))
        client = stack.enter_context(head.client())
        # Replaceable, so that an early end of the lease would end them; limited, so that an early end of
        # the limit would.
        job_ids = jobs.submit(client, sizes.jobs, requeue=True, time_limit_s=HOUR_S // 2)
        for _ in range(sizes.rounds):
            for jump_s in JUMPS_S:
                clock.set(jump_s)
                _await_ticks(jobs, sizes.jobs)
                _use(head)
        clock.set(0)
        jobs.end()
        wrong = ended_as_asked(client, job_ids)
        moved = [r for r in whole_log(f"sqlite:///{home}/gpusched.db") if isinstance(r.event, _EARLY)]
    under = f"{sizes.rounds * len(JUMPS_S)} jumps of the clock of the {'head' if host == 'head' else 'node'}"
    say(f"R15 {under}: {wrong} ended wrongly, {len(moved)} nodes lost or jobs requeued")
    return [
        Figure(f"nodes lost or jobs requeued, {under}", len(moved), "events", at_most(0)),
        broken_ends(under, wrong),
    ]


_EARLY = (NodeLost, JobRequeued)


def _await_ticks(jobs: TickingJobs, count: int) -> None:
    seen = _lines(jobs)
    until(
        lambda: sum(lines >= seen.get(name, 0) + SEEN_TICKS for name, lines in _lines(jobs).items()) >= count,
        "every job to tick on",
    )


def _lines(jobs: TickingJobs) -> dict[str, int]:
    return {path.name: path.read_bytes().count(b"\n") for path in jobs.ticks.iterdir()}


def _use(head: Head) -> None:
    """What people do goes on: tokens are given and taken, reports add up."""
    with Client(head.address) as client:
        client.nodes.list()
        report = client.reports.cost(GroupBy.USER)
        assert sum(line.billed_cost for line in report.lines) == report.total


if __name__ == "__main__":
    sys.exit(run_benchmark("clocks", measure, full=Sizes(), quick=QUICK))
