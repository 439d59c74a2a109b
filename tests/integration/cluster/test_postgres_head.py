"""A head on PostgreSQL: the main path, kill -9 of the head, and a database that goes away and comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from gpusched_cli import assert_refused, gpusched
from live import output, shell
from postgres import PostgresServer, running_postgres

from benchmarks.cluster import Head, running_agents, running_head, temporary_home, until
from gpusched.cli.exit_codes import ExitCode
from gpusched.domain.errors import InvalidSpec, StoreUnavailable
from gpusched.domain.ids import RequestId
from gpusched.domain.job import JobFilter
from gpusched.domain.job_state import JobState
from gpusched.wire.client import Client

AGENTS = ("n1", "n2")
OPTIONS = ("--devices", "4xH100", "--cpus", "16")
RATES = """
[[rates.price]]
model = "H100"
per_gpu_hour = "3600"
effective_from = 2020-01-01
"""


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with running_postgres() as server:
        yield server


@contextmanager
def running_cluster(url: str) -> Iterator[tuple[Head, Client]]:
    config = f'[store]\nurl = "{url}"\n{RATES}'
    with (
        temporary_home() as home,
        running_head(Head(home, config)) as head,
        running_agents(head, AGENTS, *OPTIONS),
        Client(head.address, retry_s=0.2) as client,
    ):
        yield head, client


@pytest.fixture(scope="module")
def cluster(database: PostgresServer) -> Iterator[tuple[Head, Client]]:
    with running_cluster(database.url("postgres")) as running:
        yield running


def test_a_gang_is_placed_run_streamed_and_billed(cluster: tuple[Head, Client]) -> None:
    _, client = cluster
    script = 'echo "rank $RANK of $WORLD_SIZE"'
    job_id = client.jobs.submit(shell(script, nodes=2, gpus_per_node=2, tasks_per_node=2))
    view = client.jobs.wait(job_id)
    assert view.job.state is JobState.COMPLETED
    assert [output(client, job_id, rank) for rank in range(4)] == [f"rank {i} of 4\n" for i in range(4)]
    gpu_us = sum(i.end_us - i.start_us for i in client.reports.usage() if i.job_id == job_id)
    assert Decimal(client.jobs.get(job_id).cost or "0") == Decimal(gpu_us) / 1_000_000 > 0


def test_what_postgresql_cannot_hold_is_refused_before_it_is_asked(cluster: tuple[Head, Client]) -> None:
    _, client = cluster
    with pytest.raises(InvalidSpec, match="NUL"):
        list(client.jobs.list(where=JobFilter(name="a\0b")))
    failing = client.jobs.submit(shell("printf 'a\\0b\\377c'; exit 3"))
    job = client.jobs.wait(failing).job
    assert "a\0b\ufffdc" in (job.end_detail or "")  # its last words, kept as JSON


def test_kill_9_of_the_head_loses_nothing_acknowledged(cluster: tuple[Head, Client], tmp_path: Path) -> None:
    head, client = cluster
    running = client.jobs.submit(shell(f"echo $$ >> {tmp_path}/starts; sleep 3; echo done; exit 5"))
    until((tmp_path / "starts").exists, "the job to run")
    acknowledged = [client.jobs.submit(shell("true", hold=True)) for _ in range(20)]
    head.kill()
    head.start()
    with Client(head.address) as again:
        known = {view.job.job_id for view in again.jobs.list()}
        assert set(acknowledged) <= known
        assert again.jobs.submit(shell("true", hold=True)) > max(acknowledged)
        job = again.jobs.wait(running).job
        assert (job.state, job.exit_code) == (JobState.FAILED, 5)
        assert output(again, running) == "done\n"
    assert len((tmp_path / "starts").read_text().splitlines()) == 1


def test_without_its_database_the_head_refuses_changes_and_then_goes_on(
    cluster: tuple[Head, Client], database: PostgresServer, tmp_path: Path
) -> None:
    head, client = cluster
    gate = tmp_path / "gate"
    wait_for_gate = f"until test -e {gate}; do sleep 0.05; done; echo through; exit 4"
    job_id = client.jobs.submit(shell(wait_for_gate))
    until(lambda: client.jobs.get(job_id).job.state is JobState.RUNNING, "the job to run")
    jobs = len(list(client.jobs.list()))

    database.stop()
    once = RequestId("while-it-is-away")
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            client.jobs.submit(shell("true", hold=True), request_id=once)
    assert_refused(
        gpusched("submit", "--hold", "--", "true", home=head.home), ExitCode.UNAVAILABLE, "does not answer"
    )
    assert {view.node.reachable for view in client.nodes.list()} == {True}
    gate.touch()  # the job ends while nobody can write that down

    database.start()
    with Client(head.address) as patient:
        job = patient.jobs.wait(job_id).job
        assert (job.state, job.exit_code) == (JobState.FAILED, 4)
        assert output(patient, job_id) == "through\n"
        first = patient.jobs.submit(shell("true", hold=True), request_id=once)
        assert patient.jobs.submit(shell("true", hold=True), request_id=once) == first
        assert len(list(patient.jobs.list())) == jobs + 1
