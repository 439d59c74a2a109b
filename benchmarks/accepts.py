"""How fast jobs are accepted: every answer counted is for a job that is on disk."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.cluster import Head, running_head, temporary_home
from benchmarks.report import Figure, Measured, at_least, at_most, percentile, run_benchmark, say
from benchmarks.submitters import Submission, submit_from_many
from gpusched.domain.job_spec import JobSpec
from tests.postgres import binaries, running_postgres


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Jobs per client are ``single_calls`` in one run and ``batch_calls * batch`` in the other."""

    clients: int = 8
    single_calls: int = 1_500
    batch_calls: int = 20
    batch: int = 250


# Held, so that nothing but accepting is measured.
HELD = JobSpec(name="held", command=("true",), workdir="/tmp", hold=True)


def measure(sizes: Sizes) -> Measured:
    """Durable accepts over the unix socket, singly and in batches, on SQLite and on PostgreSQL."""
    figures: list[Figure] = []
    for database in ("SQLite", "PostgreSQL"):
        if database == "PostgreSQL" and not _has_postgres():
            say("no PostgreSQL binaries here: left out")
            continue
        with _store_url(database) as url, temporary_home() as home:
            config = "" if url is None else f'[store]\nurl = "{url}"\n'
            with running_head(Head(home, config)) as head:
                say(f"{database}: single submits")
                before_s = head.cpu_s()
                singly = submit_from_many(head.address, HELD, clients=sizes.clients, calls=sizes.single_calls)
                head_ms = 1e3 * (head.cpu_s() - before_s) / len(singly.job_ids)
                say(f"{database}: batches")
                batched = submit_from_many(
                    head.address, HELD, clients=sizes.clients, calls=sizes.batch_calls, batch=sizes.batch
                )
        figures += _figures(database, sizes, singly, batched)
        figures.append(Figure(f"head CPU per single accept, {database}", head_ms, "ms"))
    return Measured(figures)


def _figures(database: str, sizes: Sizes, singly: Submission, batched: Submission) -> list[Figure]:
    assert len({*singly.job_ids, *batched.job_ids}) == len(singly.job_ids) + len(batched.job_ids)
    single_ms = [latency_s * 1e3 for latency_s in singly.latencies_s]
    batch_ms = [latency_s * 1e3 for latency_s in batched.latencies_s]
    who = f"{sizes.clients} clients, {database}"
    return [
        Figure(f"durable accepts, {who}", singly.jobs_per_s, "jobs/s", at_least(1_000)),
        Figure(f"accept latency, median, {who}", percentile(single_ms, 50), "ms"),
        Figure(f"accept latency, p99, {who}", percentile(single_ms, 99), "ms", at_most(100)),
        Figure(
            f"durable accepts in batches of {sizes.batch}, {who}",
            batched.jobs_per_s,
            "jobs/s",
            at_least(5_000),
        ),
        Figure(f"batch latency, p99, {who}", percentile(batch_ms, 99), "ms"),
    ]


def _has_postgres() -> bool:
    try:
        binaries()
    except RuntimeError:
        return False
    return True


@contextmanager
def _store_url(database: str) -> Iterator[str | None]:
    """A fresh database; None stands for the head's own default."""
    if database == "SQLite":
        yield None
        return
    with running_postgres(options=()) as server, server.fresh_database() as url:
        yield url


if __name__ == "__main__":
    sys.exit(run_benchmark("accepts", measure, full=Sizes(), quick=Sizes(single_calls=20, batch_calls=2)))
