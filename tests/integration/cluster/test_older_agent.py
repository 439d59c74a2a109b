"""An agent one version older is served: what it does not know is not sent to it, and is said by name."""

from __future__ import annotations

import os
from pathlib import Path

from live import shell

from benchmarks.cluster import Head, running_agents, until
from gpusched.domain.job_state import EndReason, JobState

OPTIONS = ("--devices", "none", "--cpus", "4")
SETTINGS = {
    "LACKS": "DumpStacks,LaunchTasks",
    "PYTHONPATH": f"{Path(__file__).parents[2]}:{os.environ.get('PYTHONPATH', '')}",
}


def test_an_order_that_an_older_agent_does_not_know_is_refused_by_name_until_it_is_upgraded(
    head: Head, tmp_path: Path
) -> None:
    with head.client() as client:
        with running_agents(head, ("n1",), *OPTIONS, module="older_agent", settings=SETTINGS):
            job = client.jobs.wait(client.jobs.submit(shell("true"))).job
            why = "agent n1 0.0.9 does not know LaunchTasks: upgrade it"
            assert (job.state, job.end_reason) == (JobState.FAILED, EndReason.LAUNCH_FAILED)
            assert why in (job.end_detail or "")
            said = (head.home / "head.log").read_text()
            assert why in said
            assert "node n1 is served by an agent of version 0.0.9" in said
        with running_agents(head, ("n1",), *OPTIONS):
            assert client.jobs.wait(client.jobs.submit(shell("true"))).job.state is JobState.COMPLETED


def test_a_job_ends_on_its_agent_though_that_lacks_an_order_that_helps(head: Head, tmp_path: Path) -> None:
    settings = {**SETTINGS, "LACKS": "DumpStacks"}
    with (
        head.client() as client,
        running_agents(head, ("n1",), *OPTIONS, module="older_agent", settings=settings),
    ):
        job_id = client.jobs.submit(
            shell(f"touch {tmp_path}/runs; until test -e {tmp_path}/gate; do sleep 0.1; done")
        )
        until((tmp_path / "runs").exists, "the job to run")
        (tmp_path / "gate").touch()
        assert client.jobs.wait(job_id).job.state is JobState.COMPLETED
