"""What the head stands on goes away: its database (R14), its disk (R13). Nothing acknowledged is lost,
jobs run on, and when it is back all goes on by itself.

python -m torture.outages --out FILE        (as root: full disks are small tmpfs)
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from live import output, shell
from postgres import running_postgres
from torture.records import AckLog, broken, judge
from torture.submitting import submitting
from torture.ticking import TickingJobs, broken_ends, ended_as_asked

from benchmarks.cluster import Head, running_agents, running_head, temporary_home, until
from benchmarks.report import SEED, Figure, Measured, at_most, percentile, run_benchmark, say
from gpusched.domain.errors import Unavailable
from gpusched.wire.client import Client

SMALL_DISK = "24m"
FILL_BYTES = 1 << 16
UP_MOST_S = 2.0
DOWN_MOST_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How often each thing goes away."""

    database_outages: int = 100
    long_outage_s: float = 60.0
    full_disks: int = 20
    clients: int = 4
    jobs: int = 20


QUICK = Sizes(database_outages=2, long_outage_s=2.0, full_disks=2, clients=2, jobs=3)


def measure(sizes: Sizes) -> Measured:
    """End the database, and fill the disk, under clients that submit and jobs that run."""
    return Measured([*_database_outages(sizes), *_full_disks(sizes), *_full_disk_of_a_job()])


# ── R14 ──────────────────────────────────────────────────────────────────────────────────


def _database_outages(sizes: Sizes) -> list[Figure]:
    dice = random.Random(SEED)
    back_s: list[float] = []
    options = ("--devices", "none", "--cpus", str(sizes.jobs))
    with temporary_home() as home, running_postgres(options=()) as server:
        url = server.url("postgres")
        acks, jobs = AckLog(home / "acks.jsonl"), TickingJobs(home)
        with (
            running_head(Head(home, f'[store]\nurl = "{url}"\n')) as head,
            running_agents(head, ("n1",), *options),
            head.client() as client,
        ):
            job_ids = jobs.submit(client, sizes.jobs)
            with submitting(head.address, acks, sizes.clients) as submitters:
                for number in range(sizes.database_outages):
                    _let_pass(dice.uniform(0, UP_MOST_S))
                    server.stop(signal.SIGQUIT)  # no checkpoint: the next start recovers from the log
                    _let_pass(dice.uniform(0, DOWN_MOST_S) if number else sizes.long_outage_s)
                    server.start()
                    back_s.append(submitters.await_next())
            jobs.end()
            wrong = ended_as_asked(client, job_ids)
        found = judge(url, ticks=jobs.ticks, acks=acks.read(), is_settled=False)
    under = f"{sizes.database_outages} ends of PostgreSQL"
    say(f"R14 {under}: {acks.jobs:,} acknowledged jobs, back in {percentile(back_s, 100):.1f} s at most")
    return [
        Figure(f"jobs acknowledged over {under}", acks.jobs, "jobs"),
        Figure(f"until submissions go on, worst of {under}", percentile(back_s, 100), "s", at_most(10)),
        broken(under, found),
        broken_ends(f"over {under}", wrong),
    ]


# ── R13 ──────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _small_disk(at: Path) -> Iterator[Path]:
    at.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", at], check=True)
    try:
        yield at
    finally:
        subprocess.run(["umount", "--lazy", at], check=True)


def _fill(disk: Path) -> Path:
    """Leave no byte free."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (FILL_BYTES, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return filler


def _full_disks(sizes: Sizes) -> list[Figure]:
    acknowledged_when_full = 0
    back_s: list[float] = []
    with temporary_home() as home, _small_disk(home / "disk") as disk:
        url = f"sqlite:///{disk}/gpusched.db"
        acks = AckLog(home / "acks.jsonl")
        with running_head(Head(home, f'[store]\nurl = "{url}"\n')) as head:
            for _ in range(sizes.full_disks):
                with submitting(head.address, acks, sizes.clients) as submitters:
                    submitters.await_next()
                filler = _fill(disk)
                acknowledged_when_full += _tries_on_full_disk(head.address)
                filler.unlink()
                with submitting(head.address, acks, 1) as submitters:
                    back_s.append(submitters.await_next())
            head.kill()
            found = judge(url, acks=acks.read(), is_settled=False)
    under = f"{sizes.full_disks} times no space for the store"
    say(f"R13 {under}: {acks.jobs:,} acknowledged jobs, back in {percentile(back_s, 100):.2f} s at most")
    return [
        Figure(f"acknowledged on a full disk, {under}", acknowledged_when_full, "jobs", at_most(0)),
        Figure(f"until submissions go on, worst of {under}", percentile(back_s, 100), "s", at_most(10)),
        broken(under, found),
    ]


def _tries_on_full_disk(address: str) -> int:
    """How many of ten submissions of 4 KiB each were taken."""
    taken = 0
    with Client(address, retry_s=0) as client:
        for _ in range(10):
            try:
                client.jobs.submit(shell("true", hold=True, comment="x" * 1000, env=(("PAD", "y" * 30_000),)))
            except Unavailable:
                continue
            taken += 1
    return taken


def _full_disk_of_a_job() -> list[Figure]:
    """A job whose output finds no space runs to its own end, and the loss is said in its output."""
    with temporary_home() as home, running_head(Head(home)) as head, _small_disk(home / "agents") as disk:
        with running_agents(head, ("n1",), "--devices", "none"), head.client() as client:
            gate, begun = home / "gate", home / "begun"
            script = (
                f"echo first; touch {begun}; until test -e {gate}; do sleep 0.05; done; "
                f"seq 100000; rm {disk}/filler; sleep 1; echo last; exit 7"
            )
            job_id = client.jobs.submit(shell(script))
            until(begun.exists, "the job to run")
            _fill(disk)
            gate.touch()
            job = client.jobs.wait(job_id).job
            text = output(client, job_id)
        survived = job.exit_code == 7 and text.startswith("first\n") and text.endswith("last\n")
    say(f"R13 output on a full disk: the job {'ended by itself' if survived else 'DID NOT end as asked'}")
    return [broken_ends("its output on a full disk", int(not survived))]


def _let_pass(seconds: float) -> None:
    """The length of a fault, or of the peace between two."""
    threading.Event().wait(seconds)


if __name__ == "__main__":
    sys.exit(run_benchmark("outages", measure, full=Sizes(), quick=QUICK))
