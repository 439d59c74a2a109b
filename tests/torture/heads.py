"""kill -9 of the head at random instants: nothing acknowledged is lost, no id is handed out twice (R1, R2),
and jobs that run go on, each to its one end (R3).

python -m torture.heads --out FILE
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from postgres import running_postgres
from torture.records import AckLog, broken, judge
from torture.submitting import submitting
from torture.ticking import TickingJobs, broken_ends, ended_as_asked

from benchmarks.cluster import Head, running_agents, running_head, temporary_home
from benchmarks.report import SEED, Figure, Measured, at_least, percentile, run_benchmark, say

UP_MOST_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How often the head is killed, and under what."""

    stores: tuple[str, ...] = ("sqlite", "postgresql")
    kills: int = 250  # of each store
    clients: int = 4
    acknowledged_least: int = 50_000
    running_jobs: int = 200
    running_kills: int = 200


QUICK = Sizes(stores=("sqlite",), kills=3, acknowledged_least=1, running_jobs=4, running_kills=2)


def measure(sizes: Sizes) -> Measured:
    """kill -9 of the head, again and again, while clients submit and while jobs run."""
    figures = [figure for store in sizes.stores for figure in _submissions(store, sizes)]
    return Measured([*figures, *_running_jobs(sizes)])


@contextmanager
def _store(kind: str, home: Path) -> Iterator[str]:
    if kind == "sqlite":
        yield f"sqlite:///{home}/gpusched.db"
    else:  # with fsync, as a site would run it
        with running_postgres(options=()) as server, server.fresh_database() as url:
            yield url


def _submissions(store: str, sizes: Sizes) -> list[Figure]:
    dice = random.Random(SEED)
    with temporary_home() as home, _store(store, home) as url:
        acks = AckLog(home / "acks.jsonl")
        with (
            running_head(Head(home, f'[store]\nurl = "{url}"\n')) as head,
            submitting(head.address, acks, sizes.clients) as submitters,
        ):
            away_s = [_kill_and_restart(head, dice) for _ in range(sizes.kills)]
        found = judge(url, acks=acks.read(), is_settled=False)
    under = f"{sizes.kills} head kills, {store}"
    say(f"R1 {under}: {acks.jobs:,} acknowledged jobs, {submitters.retried:,} requests sent again")
    return [
        Figure(f"jobs acknowledged over {under}", acks.jobs, "jobs", at_least(sizes.acknowledged_least)),
        Figure(f"requests sent again over {under}", submitters.retried, "requests"),
        Figure(f"head away, median of {under}", percentile(away_s, 50), "s"),
        broken(under, found),
    ]


def _running_jobs(sizes: Sizes) -> list[Figure]:
    dice = random.Random(SEED)
    with temporary_home() as home:
        jobs = TickingJobs(home)
        options = ("--devices", "none", "--cpus", str(sizes.running_jobs))
        with running_head(Head(home)) as head, running_agents(head, ("n1", "n2"), *options):
            with head.client() as client:
                job_ids = jobs.submit(client, sizes.running_jobs)
            for _ in range(sizes.running_kills):
                _kill_and_restart(head, dice)
            jobs.end()
            with head.client() as client:
                wrong = ended_as_asked(client, job_ids)
        found = judge(f"sqlite:///{home}/gpusched.db", ticks=jobs.ticks)
    under = f"{sizes.running_jobs} running jobs over {sizes.running_kills} head kills"
    say(f"R3 {under}: {wrong} ended wrongly")
    return [broken(under, found), broken_ends(under, wrong)]


def _kill_and_restart(head: Head, dice: random.Random) -> float:
    """Let it live for a random while, kill it, start it; seconds until it serves again."""
    threading.Event().wait(dice.uniform(0, UP_MOST_S))  # the instant of the kill is what is varied
    began_s = time.monotonic()
    head.kill()
    head.start()
    return time.monotonic() - began_s


if __name__ == "__main__":
    sys.exit(run_benchmark("heads", measure, full=Sizes(), quick=QUICK))
