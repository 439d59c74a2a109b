"""Two heads on one PostgreSQL: one leads, the other takes over, and nobody has to be told."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from gpusched_cli import gpusched
from head_pair import HeadPair, is_serving, running_pair
from live import output, shell

from benchmarks.cluster import running_agents, until
from gpusched.api.ca import create_ca
from gpusched.api.token_keys import rotate_token_key
from gpusched.cli.exit_codes import ExitCode
from gpusched.domain.errors import NotLeading
from gpusched.domain.ids import JobId, RequestId
from gpusched.domain.job_state import JobState
from gpusched.wire.client import Client
from gpusched.wire.token_socket import fetch_token

OPTIONS = ("--devices", "none", "--cpus", "16")


@pytest.fixture
def pair(postgres_url: str) -> Iterator[HeadPair]:
    with running_pair(postgres_url, more="[engine]\nsilence_max_s = 6.0\n") as running:
        yield running


def test_the_second_head_stands_by_and_names_the_first(pair: HeadPair) -> None:
    first, second = pair.heads
    assert is_serving(first)
    assert not is_serving(second)
    with Client(second.address, retry_s=0) as client, pytest.raises(NotLeading, match="stands by") as refused:
        client.jobs.submit(shell("true"))
    assert refused.value.leader == first.address
    with Client(second.address) as client:  # with patience it follows the name
        assert client.jobs.submit(shell("true", hold=True)) == 1
    ran = gpusched("--head", second.address, "submit", "--hold", "--", "true")
    assert (ran.code, ran.out) == (ExitCode.OK, "Submitted job 2\n")


def test_a_killed_leader_is_replaced_and_jobs_clients_and_agents_go_on(
    pair: HeadPair, tmp_path: Path
) -> None:
    first, second = pair.heads
    with running_agents(pair, ("n1", "n2"), *OPTIONS), pair.client() as client:
        script = (
            f"echo $$ >> {tmp_path}/$SLURM_JOB_ID; until test -e {tmp_path}/gate; do sleep 0.1; done; exit 5"
        )
        plain = client.jobs.submit(shell(script))
        fenced = client.jobs.submit(shell(script, requeue=True))
        for job_id in (plain, fenced):
            until((tmp_path / str(job_id)).exists, "the job to run")
        ended: list[JobState] = []
        waiting = threading.Thread(target=lambda: ended.append(client.jobs.wait(plain).job.state))
        waiting.start()
        first.kill()
        once = RequestId("over-the-failover")
        waited_for = client.jobs.submit(shell("true", hold=True), request_id=once)
        assert client.jobs.submit(shell("true", hold=True), request_id=once) == waited_for
        assert is_serving(second)
        until(lambda: {view.node.reachable for view in client.nodes.list()} == {True}, "the agents")
        (tmp_path / "gate").touch()
        waiting.join(60)
        assert ended == [JobState.FAILED]
        for job_id in (plain, fenced):
            job = client.jobs.wait(job_id).job
            assert (job.exit_code, job.attempt and job.attempt.epoch) == (5, 1)
            assert len((tmp_path / str(job_id)).read_text().splitlines()) == 1
        first.start()  # it stands by now
        assert not is_serving(first)
        second.stop()  # in order: the lease need not be waited out
        assert client.jobs.submit(shell("true", hold=True)) == waited_for + 1
        assert is_serving(first)


def test_a_leader_that_was_stopped_too_long_writes_nothing_and_ends(pair: HeadPair) -> None:
    first, second = pair.heads
    acknowledged: list[JobId] = []
    enough = threading.Event()

    def submit_for_ever() -> None:
        with pair.client() as client:
            while not enough.is_set():
                acknowledged.append(client.jobs.submit(shell("true", hold=True)))

    submitters = [threading.Thread(target=submit_for_ever) for _ in range(3)]
    for submitter in submitters:
        submitter.start()
    try:
        until(lambda: len(acknowledged) > 20, "submissions")
        os.kill(first.pid, signal.SIGSTOP)
        until(lambda: is_serving(second), "the second head to take over", 30)
        before = len(acknowledged)
        os.kill(first.pid, signal.SIGCONT)
        assert first.wait(30) == ExitCode.UNAVAILABLE
        until(lambda: len(acknowledged) > before + 20, "submissions to the second head")
    finally:
        enough.set()
        for submitter in submitters:
            submitter.join()
    with pair.client() as client:
        known = [view.job.job_id for view in client.jobs.list()]
    assert len(acknowledged) == len(set(acknowledged))
    assert set(acknowledged) <= set(known)
    assert "another leads since" in (first.home / "head.log").read_text()


def test_output_is_followed_over_a_failover_without_a_byte_lost_or_repeated(
    pair: HeadPair, tmp_path: Path
) -> None:
    first, second = pair.heads
    with running_agents(pair, ("n1",), *OPTIONS), pair.client() as client:
        gate = f"until test -e {tmp_path}/gate; do sleep 0.1; done"
        job_id = client.jobs.submit(shell(f"seq 20000; touch {tmp_path}/half; {gate}; seq 20001 40000"))
        said: list[str] = []
        reading = threading.Thread(target=lambda: said.append(output(client, job_id)))
        reading.start()
        until((tmp_path / "half").exists, "half of the output")
        first.kill()
        until(lambda: is_serving(second), "the second head to take over", 30)
        (tmp_path / "gate").touch()
        reading.join(60)
    assert said == ["".join(f"{i}\n" for i in range(1, 40_001))]


def test_a_head_with_other_keys_is_refused_by_name_while_the_leader_lives(pair: HeadPair) -> None:
    first, second = pair.heads
    second.kill()
    (second.home / "token.key").unlink()
    create_ca(second.home / "ca", "gpusched", datetime.now(UTC))
    second.start()
    assert second.wait(30) == ExitCode.BROKEN
    said = (second.home / "head.log").read_text().splitlines()[-1]
    assert f"this head and the one that leads at {first.address} differ in token.key (" in said
    assert " here, none there)" in said
    assert "cluster" not in said.partition("differ in")[2].partition(":")[0]
    assert is_serving(first)
    second.stop()

    shutil.copy(first.home / "token.key", second.home)
    shutil.rmtree(second.home / "ca")
    second.start()
    token = fetch_token(first.home / "token.sock")
    log = second.home / "head.log"
    until(lambda: "fit to stand by" in log.read_text(), "the keys to be compared")
    rotate_token_key(first.home / "token.key")  # they differ again: told of, as nothing is lost yet
    until(lambda: "differ in token.key (" in log.read_text().splitlines()[-1], "a word")
    assert not second.has_ended()
    first.kill()
    with Client(second.address, token=token) as client:  # what the first one signed holds here
        until(lambda: is_serving(second), "the second head to take over", 30)
        assert client.jobs.submit(shell("true", hold=True)) == 1


def test_of_heads_that_are_started_at_once_one_leads(postgres_url: str) -> None:
    with running_pair(postgres_url, at_once=True) as pair:
        assert [is_serving(head) for head in pair.heads].count(True) == 1
        with pair.client() as client:
            assert client.jobs.submit(shell("true", hold=True)) == 1
        pair.leader().stop()
        with pair.client() as client:
            assert client.jobs.submit(shell("true", hold=True)) == 2
