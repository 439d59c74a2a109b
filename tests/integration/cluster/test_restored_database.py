"""A database restored from a backup under heads and agents that have seen more."""

from __future__ import annotations

import shutil
from pathlib import Path

from gpusched_cli import gpusched
from head_pair import is_serving, running_pair
from live import shell
from postgres import PostgresServer

from benchmarks.cluster import Head, running_agents, until
from gpusched.domain.job_state import JobState, PendingReason

OPTIONS = ("--devices", "none", "--cpus", "16")


def restore(head: Head, backup: Path) -> None:
    """Stop the head, put the backup in place of its database, and start it again."""
    head.kill()
    for left in head.home.glob("gpusched.db*"):
        left.unlink()
    shutil.copy(backup, head.home / "gpusched.db")
    head.start()


def back_up(head: Head, to: Path) -> None:
    head.stop()  # in order: all of it is in the one file
    shutil.copy(head.home / "gpusched.db", to)
    head.start()


def test_nothing_is_started_until_the_loss_is_accepted_and_no_id_is_used_again(
    home: Path, head: Head, tmp_path: Path
) -> None:
    with running_agents(head, ("n1",), *OPTIONS), head.client() as client:
        old = client.jobs.submit(shell("true", hold=True))
        back_up(head, tmp_path / "backup.db")
        script = f"echo $$ > {tmp_path}/pid; until test -e {tmp_path}/gate; do sleep 0.1; done"
        lost = client.jobs.submit(shell(script))
        until((tmp_path / "pid").exists, "the job to run")
        seen = home / "agents/n1/seen.json"
        until(seen.exists, "the agent to be told how far the log goes")
        until(lambda: f'"next_job_id": {lost + 1}' in seen.read_text(), "the agent to be told of the job")

        restore(head, tmp_path / "backup.db")
        until(lambda: client.nodes.list()[0].node.ahead is not None, "the node to be found ahead")
        new = client.jobs.submit(shell("true"))
        assert new > lost > old
        listed = gpusched("nodes", home=home)
        assert "AHEAD" in listed.out
        assert f"{lost}.1" in listed.out
        assert "the database went back in time" in (home / "head.log").read_text()
        pid = int((tmp_path / "pid").read_text())
        assert Path(f"/proc/{pid}").exists(), "the job that nobody knows was ended"
        assert client.jobs.get(new).job.state is JobState.PENDING

        head.kill()
        (home / "seen").unlink()  # though this head may have forgotten, its nodes have not
        head.start()
        until(lambda: client.nodes.list()[0].node.ahead is not None, "the node to be found ahead again")
        assert client.jobs.get(new).job.state is JobState.PENDING

        head.kill()
        head.start("--accept-restored-database")
        assert client.jobs.wait(new).job.state is JobState.COMPLETED
        until(lambda: not Path(f"/proc/{pid}").exists(), "the job that nobody knows to be ended")
        head.kill()
        head.start()
        assert client.jobs.wait(client.jobs.submit(shell("true"))).job.state is JobState.COMPLETED


def remembers(head: Head, next_job_id: int) -> bool:
    """Whether the head has noted, beside its sockets, that ids below this one were handed out."""
    return f'"next_job_id":{next_job_id}' in (head.home / "seen").read_text().replace(" ", "")


def test_a_head_that_stood_by_notices_and_the_loss_is_accepted_once_on_each(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    with running_pair(postgres_url, lease_s=8.0) as pair, pair.client() as client:  # longer than a restart
        first, second = pair.heads
        kept = [client.jobs.submit(shell("true", hold=True)) for _ in range(3)]
        backup = postgres_server.dump(postgres_url)
        lost = [client.jobs.submit(shell("true", hold=True)) for _ in range(5)]
        until(lambda: remembers(second, lost[-1] + 1), "the second head to follow the first")

        first.kill()
        postgres_server.restore(postgres_url, backup)
        until(lambda: is_serving(second), "the second head to take over")
        assert [view.job.job_id for view in client.jobs.list()] == kept[::-1]
        with running_agents(pair, ("n1",), *OPTIONS):  # of a node that knows nothing
            new = client.jobs.submit(shell("true"))
            assert new > lost[-1]
            assert client.jobs.get(new).pending_reason is PendingReason.SUSPENDED
            for words in (("nodes",), ("health", "list"), ("explain", str(new))):
                assert "the database went back in time" in gpusched("--head", pair.address, *words).out
            assert "the database went back in time" in (second.home / "head.log").read_text()
            first.start()  # it stands by, and knows it too
            said = "this head, which stands by, has seen more"
            until(lambda: said in (first.home / "head.log").read_text(), "the first head to say so")
            assert client.jobs.get(new).job.state is JobState.PENDING

            for head in (second, first):
                head.kill()
                head.start("--accept-restored-database")
                assert client.jobs.wait(new).job.state is JobState.COMPLETED
            newer = client.jobs.submit(shell("true", hold=True))
            until(lambda: remembers(pair.other(pair.leader()), newer + 1), "the other to follow again")
            for head in (pair.leader(), pair.other(pair.leader())):  # without the option now
                head.kill()
                head.start()
                assert client.jobs.wait(client.jobs.submit(shell("true"))).job.state is JobState.COMPLETED
