"""kill -9 anything at any point: nothing acknowledged is lost, nothing runs twice."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import SimpleNamespace

from live import output, shell

from benchmarks.cluster import Head, running_agents, temporary_home, until
from gpusched.domain.errors import Unavailable
from gpusched.domain.ids import JobId
from gpusched.domain.job_state import JobState


def test_no_acknowledged_job_is_lost_and_no_id_reused_over_head_kills(home: Path, head: Head) -> None:
    acknowledged: list[JobId] = []
    enough = threading.Event()

    def submit_for_ever() -> None:
        with head.client() as client:
            while not enough.is_set():
                try:
                    acknowledged.append(client.jobs.submit(shell("true", hold=True)))
                except Unavailable:
                    continue  # the head is down: the client gave up on this one, unacknowledged

    submitters = [threading.Thread(target=submit_for_ever) for _ in range(4)]
    for submitter in submitters:
        submitter.start()
    for kill in range(1, 6):
        until(lambda kill=kill: len(acknowledged) >= 40 * kill, "submissions")  # type: ignore[misc]
        head.kill()
        head.start()
    until(lambda: len(acknowledged) >= 240, "submissions after the last kill")
    enough.set()
    for submitter in submitters:
        submitter.join()
    with head.client() as client:
        known = [view.job.job_id for view in client.jobs.list()]
    assert len(acknowledged) == len(set(acknowledged))
    assert set(acknowledged) <= set(known)
    assert sorted(known) == list(range(1, len(known) + 1))


def test_running_jobs_go_on_over_head_kills_and_are_found_again(
    home: Path, head: Head, tmp_path: Path
) -> None:
    with running_agents(head, ("n1", "n2"), "--devices", "none", "--cpus", "16"):
        with head.client() as client:
            script = f"echo $$ >> {tmp_path}/$SLURM_JOB_ID; sleep 4; echo end of $SLURM_JOB_ID; exit 5"
            ids = client.jobs.submit_many([shell(script) for _ in range(10)])
            until(lambda: len(list(tmp_path.iterdir())) == 10, "all ten to run")
            for _ in range(3):
                head.kill()
                head.start()
        with head.client() as client:
            for job_id in ids:
                job = client.jobs.wait(job_id).job
                assert (job.state, job.exit_code) == (JobState.FAILED, 5)
                assert output(client, job_id) == f"end of {job_id}\n"
                starts = (tmp_path / str(job_id)).read_text().splitlines()
                assert len(starts) == 1


def test_running_jobs_go_on_over_agent_kills_and_end_once(home: Path, head: Head, tmp_path: Path) -> None:
    options = ("--devices", "none", "--cpus", "16")
    with head.client() as client, running_agents(head, ("n1",), *options) as (pid,):
        script = f"echo $$ >> {tmp_path}/$SLURM_JOB_ID; sleep 2; seq 100; exit 0"
        ids = client.jobs.submit_many([shell(script) for _ in range(5)])
        until(lambda: len(list(tmp_path.iterdir())) == 5, "all five to run")
        os.kill(pid, signal.SIGKILL)
        with running_agents(head, ("n1",), *options):
            for job_id in ids:
                assert client.jobs.wait(job_id).job.state is JobState.COMPLETED
                assert output(client, job_id) == "".join(f"{i}\n" for i in range(1, 101))
                assert len((tmp_path / str(job_id)).read_text().splitlines()) == 1


def test_a_silent_node_is_lost_and_comes_back_without_touching_its_job(home: Path, head: Head) -> None:
    with (
        running_agents(head, ("n1",), "--devices", "1xH100") as (pid,),
        head.client() as client,
    ):
        job_id = client.jobs.submit(shell("sleep 8; echo done"))
        until(lambda: client.jobs.get(job_id).job.state is JobState.RUNNING, "the job to run")
        os.kill(pid, signal.SIGSTOP)
        until(lambda: not client.nodes.list()[0].node.reachable, "the node to be given up")
        assert client.jobs.get(job_id).job.state is JobState.RUNNING
        os.kill(pid, signal.SIGCONT)
        until(lambda: client.nodes.list()[0].node.reachable, "the node to be heard again")
        assert client.jobs.wait(job_id).job.state is JobState.COMPLETED
        assert output(client, job_id) == "done\n"


def ticking(ticks: Path) -> str:
    """A script whose first attempt ticks for ever; the second ticks once, and is done."""
    return (
        f'while :; do echo "$GPUSCHED_EPOCH $(date +%s%N)" >> {ticks}; [ "$GPUSCHED_EPOCH" = 2 ] && '
        "exit 0; sleep 0.05; done"
    )


def assert_one_after_the_other(ticks: Path) -> None:
    lines = [line.split() for line in ticks.read_text().splitlines()]
    last_of_first = max(int(at) for epoch, at in lines if epoch == "1")
    first_of_second = min(int(at) for epoch, at in lines if epoch == "2")
    assert last_of_first < first_of_second


def test_an_agent_with_another_home_is_not_heard_before_what_it_does_not_know_is_dead(
    home: Path, head: Head, tmp_path: Path
) -> None:
    ticks, options = tmp_path / "ticks", ("--devices", "none", "--cpus", "2")
    with head.client() as client, temporary_home() as elsewhere:
        with running_agents(head, ("n1",), *options) as (pid,):
            job_id = client.jobs.submit(shell(ticking(ticks), requeue=True))
            until(ticks.exists, "the job to run")
            os.kill(pid, signal.SIGKILL)
        moved = SimpleNamespace(home=elsewhere, address=head.address, client=head.client)
        with running_agents(moved, ("n1",), *options):
            assert client.jobs.wait(job_id).job.state is JobState.COMPLETED
        assert_one_after_the_other(ticks)
        assert "knows nothing of 1.1" in (elsewhere / "agent-n1.log").read_text()


def test_a_head_that_comes_back_with_a_shorter_lease_waits_for_those_it_gave_before(
    home: Path, head: Head, tmp_path: Path
) -> None:
    ticks = tmp_path / "ticks"
    head.stop()
    config = home / "config.toml"
    shorter = config.read_text()
    config.write_text(shorter.replace("silence_max_s = 3.0", "silence_max_s = 12.0"))
    head.start()
    with running_agents(head, ("n1", "n2"), "--devices", "none", "--cpus", "2") as pids:
        with head.client() as client:
            job_id = client.jobs.submit(shell(ticking(ticks), requeue=True, cpus_per_task=2))
            until(lambda: client.jobs.get(job_id).job.state is JobState.RUNNING, "the job to run")
            attempt = client.jobs.get(job_id).job.attempt
        assert attempt is not None
        stopped = pids[int(attempt.node_names[0][1:]) - 1]
        os.kill(stopped, signal.SIGSTOP)
        head.kill()
        config.write_text(shorter)
        head.start()
        try:
            with head.client() as client:
                assert client.jobs.wait(job_id).job.state is JobState.COMPLETED
        finally:
            os.kill(stopped, signal.SIGCONT)
    assert_one_after_the_other(ticks)


def test_a_cut_off_node_ends_what_may_be_replaced_before_it_is_replaced(
    home: Path, head: Head, tmp_path: Path
) -> None:
    """The agent is stopped, as if the machine were cut off: the shim alone must keep the promise."""
    ticks = tmp_path / "ticks"
    with (
        running_agents(head, ("n1", "n2"), "--devices", "none", "--cpus", "2") as pids,
        head.client() as client,
    ):
        job_id = client.jobs.submit(shell(ticking(ticks), requeue=True, cpus_per_task=2))
        until(lambda: client.jobs.get(job_id).job.state is JobState.RUNNING, "the job to run")
        attempt = client.jobs.get(job_id).job.attempt
        assert attempt is not None
        stopped = pids[int(attempt.node_names[0][1:]) - 1]
        os.kill(stopped, signal.SIGSTOP)
        try:
            job = client.jobs.wait(job_id).job
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert (job.state, job.attempt and job.attempt.epoch) == (JobState.COMPLETED, 2)
        assert job.attempt is not None
        assert job.attempt.node_names != attempt.node_names
    assert_one_after_the_other(ticks)
