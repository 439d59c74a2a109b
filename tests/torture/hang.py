"""Gangs that come to a halt, and gangs that are only slow (R19): a halt is flagged in time with the rank that
the others wait for, and nothing that works is ever flagged.

python -m torture.hang --out FILE
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

import psutil
from torture.gangs import end, gang, met, next_event

from benchmarks.cluster import Head, own_ports, running_agents, running_head, temporary_home
from benchmarks.report import SEED, Figure, Measured, at_most, percentile, run_benchmark, say
from gpusched.domain.events import JobStalled
from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec, StallPolicy
from gpusched.wire.client import Client

NODES = ("n1", "n2")
OPTIONS = ("--devices", "none", "--cpus", "64")
HALTS = (signal.SIGSTOP, signal.SIGUSR1, signal.SIGUSR2)
"""Stopped; asleep outside the collective; blocked on a pipe outside the collective."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many gangs, and after how long quiet ones count as stalled."""

    halts: int = 12
    halt_after_s: int = 30
    slow_gangs: int = 100
    slow_after_s: int = 10
    slow_for_s: float = 25.0
    at_once: int = 4


def measure(sizes: Sizes) -> Measured:
    """Hang detection: right rank, in time, no false flags, and what looking costs an agent."""
    with (
        temporary_home() as home,
        running_head(Head(home, own_ports())) as head,
        running_agents(head, NODES, *OPTIONS) as agents,
        head.client() as client,
    ):
        return Measured([*_halts(client, sizes), *_slow(client, sizes, agents)])


# ── gangs that halt ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Halt:
    """One halt as it was made and as it was told."""

    job_id: JobId
    how: signal.Signals
    rank: int
    named: int
    told_after_s: float
    evidence: str


def _halts(client: Client, sizes: Sizes) -> list[Figure]:
    dice, made = random.Random(SEED), list[_Halt]()
    wanted = gang(stall=StallPolicy(sizes.halt_after_s))
    for first in range(0, sizes.halts, sizes.at_once):
        hows = [HALTS[i % len(HALTS)] for i in range(first, min(first + sizes.at_once, sizes.halts))]
        made += _halt_some(client, wanted, hows, dice)
    wrong = [halt for halt in made if halt.named != halt.rank]
    for halt in wrong:
        say(f"WRONG rank {halt.named} for {halt.rank} after {halt.how.name}: {halt.evidence}")
    worst_s = percentile([halt.told_after_s for halt in made], 100)
    under = f"{len(made)} gangs of 4 ranks, T = {sizes.halt_after_s} s"
    say(f"R19 {under}: told after {worst_s:.1f} s at most, {len(wrong)} with the wrong rank")
    return [
        Figure(f"halts told with the wrong rank, {under}", len(wrong), "jobs", at_most(0)),
        Figure(f"from halt to told, worst of {under}", worst_s, "s", at_most(2 * sizes.halt_after_s)),
    ]


def _halt_some(
    client: Client, wanted: JobSpec, hows: Sequence[signal.Signals], dice: random.Random
) -> list[_Halt]:
    job_ids = client.jobs.submit_many([wanted] * len(hows))
    ranks_of = {job_id: met(client, job_id) for job_id in job_ids}
    begun: list[tuple[JobId, signal.Signals, int, float]] = []
    for job_id, how in zip(job_ids, hows, strict=True):
        rank = dice.choice(sorted(ranks_of[job_id]))
        os.kill(ranks_of[job_id][rank], how)
        begun.append((job_id, how, rank, time.time()))
    made = []
    for job_id, how, rank, at_s in begun:
        recorded, stalled = next_event(client, job_id, JobStalled)
        told_s = recorded.at_us / 1e6 - at_s
        made.append(_Halt(job_id, how, rank, stalled.global_rank, told_s, stalled.evidence))
    end(client, job_ids)
    return made


# ── gangs that are slow ──────────────────────────────────────────────────────────────────


def _slow(client: Client, sizes: Sizes, agents: Sequence[int]) -> list[Figure]:
    """Long steps without a word; a straggler that sleeps for most of T in every step; a rare line."""
    after_s = sizes.slow_after_s
    policy = StallPolicy(after_s)
    kinds = (
        gang(step_s=2.0 * after_s, log_every=0, stall=policy),
        gang(step_s=0.5, log_every=0, straggler_s=0.7 * after_s, stall=policy),
        gang(step_s=0.01, log_every=1, straggler_s=0.5 * after_s, stall=policy),
    )
    flagged, shares = 0, list[float]()
    for first in range(0, sizes.slow_gangs, sizes.at_once):
        count = min(sizes.at_once, sizes.slow_gangs - first)
        job_ids = client.jobs.submit_many([kinds[(first + i) % len(kinds)] for i in range(count)])
        for job_id in job_ids:
            _is_running(client, job_id)
        shares += _cpu_shares(agents, sizes.slow_for_s)
        end(client, job_ids)
        flagged += sum(_was_flagged(client, job_id) for job_id in job_ids)
    under = f"{sizes.slow_gangs} slow gangs of 4 ranks, T = {after_s} s"
    worst = percentile(shares, 100)
    say(f"R19 {under}: {flagged} flagged; an agent took {worst:.2%} of a core at most")
    return [
        Figure(f"flagged though they worked, {under}", flagged, "jobs", at_most(0)),
        Figure(
            f"CPU of an agent with {2 * sizes.at_once} ranks, worst of {under}", 100 * worst, "% of a core"
        ),
    ]


def _is_running(client: Client, job_id: JobId) -> None:
    for _ in client.jobs.watch((job_id,)):
        if client.jobs.get(job_id).job.state == "RUNNING":
            return


def _cpu_shares(agents: Sequence[int], wall_s: float) -> list[float]:
    """What each agent's process takes of a core while so much time passes."""
    before = [_cpu_s(pid) for pid in agents]
    threading.Event().wait(wall_s)
    return [(_cpu_s(pid) - then) / wall_s for pid, then in zip(agents, before, strict=True)]


def _cpu_s(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def _was_flagged(client: Client, job_id: JobId) -> bool:
    """Whether a job that has ended was ever told to have stalled."""
    stalls = [r.event for r in client.jobs.watch((job_id,)) if isinstance(r.event, JobStalled)]
    for stalled in stalls:
        say(f"FALSE flag of job {job_id}: {stalled.evidence}")
    return bool(stalls)


QUICK = Sizes(halts=3, halt_after_s=5, slow_gangs=3, slow_after_s=3, slow_for_s=6.0, at_once=3)

if __name__ == "__main__":
    sys.exit(run_benchmark("hang", measure, full=Sizes(), quick=QUICK))
