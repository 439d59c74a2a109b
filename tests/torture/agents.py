"""kill -9 of what supervises jobs: of the agent (R4: the job goes on, its output is whole), and of the shim
(R5: its ranks die with it, at once, and it is reported).

python -m torture.agents --out FILE
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torture.records import broken, judge
from torture.ticking import TickingJobs, broken_ends, ended_as_asked

from benchmarks.cluster import Head, running_agents, running_head, temporary_home, until
from benchmarks.report import SEED, Figure, Measured, at_most, percentile, run_benchmark, say
from gpusched.agent.attempt_dir import attempt_dir, read_record
from gpusched.agent.shim.proc import is_same_process
from gpusched.domain.ids import AttemptId, Epoch, JobId
from gpusched.domain.job_state import EndReason
from gpusched.wire.client import Client

NODE = "n1"
UP_MOST_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many jobs, and how often what supervises them is killed."""

    jobs: int = 50
    agent_kills: int = 500
    shim_kills: int = 200
    shims_at_once: int = 10


def measure(sizes: Sizes) -> Measured:
    """kill -9 of agents and shims under running jobs."""
    return Measured([*_agent_kills(sizes), *_shim_kills(sizes)])


def _options(jobs: int) -> Sequence[str]:
    return ("--devices", "none", "--cpus", str(jobs))


def _agent_kills(sizes: Sizes) -> list[Figure]:
    dice = random.Random(SEED)
    with temporary_home() as home, running_head(Head(home)) as head:
        jobs = TickingJobs(home)
        with head.client() as client:
            for kill in range(sizes.agent_kills):
                with running_agents(head, (NODE,), *_options(sizes.jobs)) as (pid,):
                    if kill == 0:
                        job_ids = jobs.submit(client, sizes.jobs)
                    threading.Event().wait(dice.uniform(0, UP_MOST_S))
                    os.kill(pid, signal.SIGKILL)
            with running_agents(head, (NODE,), *_options(sizes.jobs)):
                jobs.end()
                wrong = ended_as_asked(client, job_ids)
        head.stop()
        found = judge(f"sqlite:///{home}/gpusched.db", ticks=jobs.ticks)
    under = f"{sizes.jobs} running jobs over {sizes.agent_kills} agent kills"
    say(f"R4 {under}: {wrong} ended wrongly, {len(found)} promises broken")
    return [broken(under, found), broken_ends(under, wrong)]


# ── R5 ───────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _ShimDeath:
    """Seconds from the kill of a shim."""

    ranks_gone_s: float
    reported_s: float
    reason: EndReason | None


def _shim_kills(sizes: Sizes) -> list[Figure]:
    deaths: list[_ShimDeath] = []
    with temporary_home() as home, running_head(Head(home)) as head:
        jobs = TickingJobs(home)
        with running_agents(head, (NODE,), *_options(sizes.shims_at_once)), head.client() as client:
            while len(deaths) < sizes.shim_kills:
                for job_id in jobs.submit(client, min(sizes.shims_at_once, sizes.shim_kills - len(deaths))):
                    deaths.append(_kill_shim(client, home / "agents" / NODE, job_id))
        head.stop()
        found = judge(f"sqlite:///{home}/gpusched.db", ticks=jobs.ticks)
    under = f"{len(deaths)} shim kills"
    misreported = sum(death.reason is not EndReason.SHIM_LOST for death in deaths)
    gone_s = percentile([death.ranks_gone_s for death in deaths], 100)
    reported_s = percentile([death.reported_s for death in deaths], 100)
    say(f"R5 {under}: ranks gone in {gone_s:.2f} s, reported in {reported_s:.2f} s at most")
    return [
        broken(under, found),
        Figure(f"not reported as lost, {under}", misreported, "jobs", at_most(0)),
        Figure(f"until the last rank is gone, worst of {under}", gone_s, "s", at_most(2)),
        Figure(f"until the job has ended, worst of {under}", reported_s, "s", at_most(5)),
    ]


def _kill_shim(client: Client, agent_home: Path, job_id: JobId) -> _ShimDeath:
    files = attempt_dir(agent_home, AttemptId(job_id, Epoch(1)))
    record = read_record(files)
    assert record is not None and record.shim_pid is not None
    began_s = time.monotonic()
    os.kill(record.shim_pid, signal.SIGKILL)
    ranks = [(rank.pid, rank.start_ticks) for rank in record.ranks]
    until(lambda: not any(is_same_process(pid, ticks) for pid, ticks in ranks), "the ranks to be gone")
    ranks_gone_s = time.monotonic() - began_s
    ended = client.jobs.wait(job_id).job
    return _ShimDeath(ranks_gone_s, time.monotonic() - began_s, ended.end_reason)


QUICK = Sizes(jobs=4, agent_kills=3, shim_kills=3, shims_at_once=3)

if __name__ == "__main__":
    sys.exit(run_benchmark("agents", measure, full=Sizes(), quick=QUICK))
