"""Two heads on one PostgreSQL (R9, R14): the leader is killed, stopped and continued, and the database ends.

Nothing acknowledged is lost or done twice, a head that was deposed writes nothing, and clients go on soon.

python -m torture.failover --out FILE
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from head_pair import HeadPair, is_serving, running_pair
from postgres import PostgresServer, running_postgres
from torture.records import AckLog, broken, judge
from torture.submitting import Submitters, submitting
from torture.ticking import TickingJobs, broken_ends, ended_as_asked
from witness import count_writes, watch_writes

from benchmarks.cluster import Head, running_agents, until
from benchmarks.report import SEED, Figure, Measured, at_least, at_most, percentile, run_benchmark, say
from gpusched.cli.exit_codes import ExitCode

LEASE_S = 6.0  # the default
DOWN_MOST_S = 3.0
FAILOVER_MOST_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How often each thing happens to the leader."""

    kills: int = 50
    pauses: int = 500
    pause_least_s: float = 1.0
    pause_most_s: float = 60.0
    pairs: int = 8  # in which leaders are paused at the same time
    outages: int = 20
    clients: int = 2
    jobs: int = 20
    lease_s: float = LEASE_S
    up_most_s: float = 3.0  # between two of them
    pair_pause_s: float = 0.05  # between submissions, where many pairs share a machine


# Longer than a lease and IDLE_MAX_S: a leader stopped within a commit keeps the row until the server ends it.
QUICK = Sizes(
    kills=1,
    pauses=1,
    pause_least_s=7.0,
    pause_most_s=7.0,
    pairs=1,
    outages=1,
    jobs=2,
    lease_s=1.0,
    up_most_s=0.5,
)


def measure(sizes: Sizes) -> Measured:
    """Kill leaders, stop leaders, and end the database of two heads."""
    return Measured([*_kills(sizes), *_pauses(sizes), *_outages(sizes)])


@contextmanager
def _working_pair(
    url: str, sizes: Sizes, *, pause_s: float = 0.0
) -> Iterator[tuple[HeadPair, AckLog, Submitters]]:
    with running_pair(url, lease_s=sizes.lease_s) as pair:
        acks = AckLog(pair.home / "acks.jsonl")
        with submitting(pair.address, acks, sizes.clients, pause_s=pause_s) as submitters:
            submitters.await_next()
            yield pair, acks, submitters


def _let_pass(seconds: float) -> None:
    threading.Event().wait(seconds)  # the instant of the fault is what is varied


# ── kill -9 ──────────────────────────────────────────────────────────────────────────────


def _kills(sizes: Sizes) -> list[Figure]:
    dice = random.Random(SEED)
    away_s: list[float] = []
    with running_postgres(options=()) as server:
        url = server.url("postgres")
        with _working_pair(url, sizes) as (pair, acks, submitters):
            jobs = TickingJobs(pair.home)
            with (
                running_agents(pair, ("n1", "n2"), "--devices", "none", "--cpus", str(sizes.jobs)),
                pair.client() as client,
            ):
                job_ids = jobs.submit(client, sizes.jobs)
                for _ in range(sizes.kills):
                    _let_pass(dice.uniform(0, sizes.up_most_s))
                    leader = pair.leader()
                    leader.kill()
                    away_s.append(submitters.await_next())
                    leader.start()
                jobs.end()
                wrong = ended_as_asked(client, job_ids)
            found = judge(url, acks=acks.read(), ticks=jobs.ticks, is_settled=False)
    under = f"{sizes.kills} kills of a leader"
    say(f"R9 {under}: {acks.jobs:,} acknowledged jobs, away {percentile(away_s, 100):.1f} s at most")
    return [
        Figure(f"jobs acknowledged over {under}", acks.jobs, "jobs", at_least(1)),
        Figure(f"until submissions go on, median of {under}", percentile(away_s, 50), "s"),
        Figure(
            f"until submissions go on, worst of {under}",
            percentile(away_s, 100),
            "s",
            at_most(FAILOVER_MOST_S),
        ),
        broken(under, found),
        broken_ends(f"over {under}", wrong),
    ]


# ── SIGSTOP, SIGCONT ─────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Paused:
    """What became of one pair."""

    deposed: int  # leaders that found another one when they went on
    writes: int
    false_writes: int
    broken: int


def _pauses(sizes: Sizes) -> list[Figure]:
    shares = [(sizes.pauses + pair) // sizes.pairs for pair in range(sizes.pairs)]
    with running_postgres(options=()) as server, ThreadPoolExecutor(sizes.pairs) as pool:
        seeds = range(sizes.pairs)
        done = list(pool.map(lambda seed, share: _paused_pair(server, sizes, seed, share), seeds, shares))
    under = f"{sum(shares)} pauses of a leader"
    writes, false_writes = sum(each.writes for each in done), sum(each.false_writes for each in done)
    deposed = sum(each.deposed for each in done)
    say(f"R9 {under}: {deposed} were deposed, {writes:,} writes, {false_writes} of them by a stale leader")
    return [
        Figure(f"leaders deposed over {under}", deposed, "", at_least(1)),
        Figure(f"writes seen over {under}", writes, "", at_least(1)),
        Figure(f"writes by a stale leader over {under}", false_writes, "", at_most(0)),
        Figure(f"promises broken, {under}", sum(each.broken for each in done), "", at_most(0)),
    ]


def _paused_pair(server: PostgresServer, sizes: Sizes, seed: int, pauses: int) -> _Paused:
    dice = random.Random(SEED + seed)
    deposed = 0
    with server.fresh_database() as url:
        with _working_pair(url, sizes, pause_s=sizes.pair_pause_s) as (pair, acks, submitters):
            watch_writes(url)
            for _ in range(pauses):
                _let_pass(dice.uniform(0, sizes.up_most_s))
                # As many short ones as long ones: about the length of the lease is where it is decided.
                ratio = sizes.pause_most_s / sizes.pause_least_s
                leader = pair.leader()
                _pause(leader, sizes.pause_least_s * ratio ** dice.random())
                submitters.await_next()
                _await_one(pair, leader)
                deposed += _revive(pair)
            found = judge(url, acks=acks.read(), is_settled=False)
        writes, false_writes = count_writes(url)
    return _Paused(deposed, writes, false_writes, len(found))


def _pause(leader: Head, length_s: float) -> None:
    os.kill(leader.pid, signal.SIGSTOP)
    _let_pass(length_s)
    os.kill(leader.pid, signal.SIGCONT)


def _await_one(pair: HeadPair, leader: Head) -> None:
    """Until it is the only one that leads, or has found that another does."""
    other = pair.other(leader)
    until(lambda: leader.has_ended() or not is_serving(other), "a deposed leader to end")


def _revive(pair: HeadPair) -> int:
    """Start again what found itself deposed, to stand by; how many did."""
    ended = [head for head in pair.heads if head.has_ended()]
    for head in ended:
        code = head.wait(0)
        assert code == ExitCode.UNAVAILABLE, f"a deposed leader ended with code {code}"
        head.stop()
        head.start()
    return len(ended)


# ── the database ─────────────────────────────────────────────────────────────────────────


def _outages(sizes: Sizes) -> list[Figure]:
    dice = random.Random(SEED)
    back_s: list[float] = []
    with running_postgres(options=()) as server:
        url = server.url("postgres")
        with _working_pair(url, sizes) as (_, acks, submitters):
            for _ in range(sizes.outages):
                _let_pass(dice.uniform(0, sizes.up_most_s))
                server.stop(signal.SIGQUIT)  # no checkpoint: the next start recovers from the log
                _let_pass(dice.uniform(0, DOWN_MOST_S))
                server.start()
                back_s.append(submitters.await_next())
            found = judge(url, acks=acks.read(), is_settled=False)
    under = f"{sizes.outages} ends of PostgreSQL under two heads"
    say(f"R14 {under}: {acks.jobs:,} acknowledged jobs, back in {percentile(back_s, 100):.1f} s at most")
    return [
        Figure(f"until submissions go on, worst of {under}", percentile(back_s, 100), "s", at_most(10)),
        broken(under, found),
    ]


if __name__ == "__main__":
    sys.exit(run_benchmark("failover", measure, full=Sizes(), quick=QUICK))
