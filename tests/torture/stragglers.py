"""Gangs with a slow rank, and gangs whose ranks are alike: the slow one is named, no other ever is.

python -m torture.stragglers --out FILE
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from dataclasses import dataclass

from torture.gangs import end, gang, met, next_event

from benchmarks.cluster import Head, own_ports, running_agents, running_head, temporary_home, until
from benchmarks.report import SEED, Figure, Measured, at_most, percentile, run_benchmark, say
from gpusched.domain.events import JobSlowed
from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.wire.client import Client

NODES = ("n1", "n2")
OPTIONS = ("--devices", "none", "--cpus", "64")
STEP_S = 0.05  # a slow rank takes twice as long


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many gangs, how often their nodes look, and how many steps the even ones make."""

    slowed: int = 12
    even: int = 12
    even_steps: int = 1_000
    heartbeat_s: float = 1.0
    told_within_s: float = 65.0  # twice the 30 looks that the rule wants, and a little
    at_once: int = 3


def measure(sizes: Sizes) -> Measured:
    """Stragglers: right rank, how soon, and no false flags."""
    config = f"[engine]\nheartbeat_interval_s = {sizes.heartbeat_s}"
    with (
        temporary_home() as home,
        running_head(Head(home, config + own_ports())) as head,
        running_agents(head, NODES, *OPTIONS),
        head.client() as client,
    ):
        return Measured([*_slowed(client, sizes), *_even(client, sizes)])


# ── gangs with a slow rank ───────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Told:
    """One rank that was slowed, and what was told."""

    rank: int
    named: int | None
    after_s: float
    after_steps: int
    evidence: str


def _slowed(client: Client, sizes: Sizes) -> list[Figure]:
    dice, told = random.Random(SEED), list[_Told]()
    wanted = gang(step_s=STEP_S, log_every=1, notes="own")
    for first in range(0, sizes.slowed, sizes.at_once):
        told += _slow_down(client, wanted, min(sizes.at_once, sizes.slowed - first), dice)
    wrong = [one for one in told if one.named != one.rank]
    for one in wrong:
        say(f"WRONG rank {one.named} for {one.rank}: {one.evidence}")
    worst_s = percentile([one.after_s for one in told], 100)
    worst_steps = max(one.after_steps for one in told)
    under = f"{len(told)} gangs of 4 ranks, one twice as slow"
    say(
        f"stragglers, {under}: right rank named {len(told) - len(wrong)} of {len(told)}, "
        f"after {worst_s:.1f} s and {worst_steps} steps at most"
    )
    return [
        Figure(f"stragglers told with the wrong rank, {under}", len(wrong), "jobs", at_most(0)),
        Figure(f"from slow to told, worst of {under}", worst_s, "s", at_most(sizes.told_within_s)),
        Figure(f"steps from slow to told, worst of {under}", worst_steps, "steps"),
    ]


def _slow_down(client: Client, wanted: JobSpec, count: int, dice: random.Random) -> list[_Told]:
    job_ids = client.jobs.submit_many([wanted] * count)
    ranks_of = {job_id: met(client, job_id) for job_id in job_ids}
    begun: list[tuple[JobId, int, float, int]] = []
    for job_id in job_ids:
        rank = dice.choice(sorted(ranks_of[job_id]))
        begun.append((job_id, rank, time.time(), _steps(client, job_id)))
        os.kill(ranks_of[job_id][rank], signal.SIGHUP)
    told = []
    for job_id, rank, at_s, at_step in begun:
        recorded, slowed = next_event(client, job_id, JobSlowed)
        steps = _steps(client, job_id) - at_step
        told.append(_Told(rank, slowed.global_rank, recorded.at_us / 1e6 - at_s, steps, slowed.evidence))
    end(client, job_ids)
    return told


def _steps(client: Client, job_id: JobId) -> int:
    """How many steps rank 0 has written of."""
    written = b"".join(chunk.data for chunk in client.jobs.logs(job_id) if chunk.global_rank == 0)
    return written.count(b"step ")


# ── gangs whose ranks are alike ──────────────────────────────────────────────────────────


def _even(client: Client, sizes: Sizes) -> list[Figure]:
    """Even ones; ones in which another rank lags in every step; ones that write no times of their own."""
    kinds = (
        gang(step_s=STEP_S, log_every=1, notes="own"),
        gang(step_s=STEP_S / 2, log_every=1, straggler_s=STEP_S / 2, notes="own"),
        gang(step_s=STEP_S, log_every=1, notes="steps"),
    )
    ranks = gangs = 0
    for first in range(0, sizes.even, sizes.at_once):
        places = range(first, min(first + sizes.at_once, sizes.even))
        job_ids = client.jobs.submit_many([kinds[place % len(kinds)] for place in places])
        for job_id in job_ids:
            met(client, job_id)
        for job_id in job_ids:
            until(lambda job_id=job_id: _steps(client, job_id) >= sizes.even_steps, "its steps", 600)
        end(client, job_ids)
        told = [slowed for job_id in job_ids for slowed in _told(client, job_id)]
        ranks += sum(slowed.global_rank is not None for slowed in told)
        gangs += sum(slowed.global_rank is None for slowed in told)
    under = f"{sizes.even} gangs of 4 even ranks, {sizes.even_steps} steps each"
    say(f"stragglers, {under}: {ranks} ranks told, {gangs} times the whole gang")
    return [
        Figure(f"ranks told as slow though they were not, {under}", ranks, "ranks", at_most(0)),
        Figure(f"times that the gang was told as slower than before, {under}", gangs, "times"),
    ]


def _told(client: Client, job_id: JobId) -> list[JobSlowed]:
    """What was told of a job that has ended."""
    told = [r.event for r in client.jobs.watch((job_id,)) if isinstance(r.event, JobSlowed)]
    for slowed in told:
        say(f"told of job {job_id}: {slowed.evidence}")
    return told


QUICK = Sizes(slowed=2, even=3, even_steps=80, heartbeat_s=0.1, at_once=3)

if __name__ == "__main__":
    sys.exit(run_benchmark("stragglers", measure, full=Sizes(), quick=QUICK))
