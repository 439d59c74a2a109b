"""Programs of the site before, after and between jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from live import shell

from gpusched.agent.health.programs import require_trusted
from gpusched.domain.errors import ConfigInvalid
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.node import Schedulability

TOLD = {"PATH", "LANG", "HOME", "GPUSCHED_HOOK", "GPUSCHED_NODE", "GPUSCHED_JOB_ID", "GPUSCHED_EPOCH"}
TOLD |= {"GPUSCHED_UID", "GPUSCHED_DEVICES"}


@pytest.fixture
def program(tmp_path: Path):
    def write(name: str, text: str) -> list[str]:
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o700)
        return [str(path)]

    return write


def test_a_prolog_that_fails_cordons_its_node_and_the_job_runs_on_another(ward, program, tmp_path) -> None:
    text = f'test "$GPUSCHED_NODE" = n1 && {{ echo no scratch disk; exit 3; }}; env > {tmp_path}/env'
    with ward(nodes=("n1", "n2"), hooks={"prolog": [program("prolog", text)]}) as here:
        evil = (("LD_PRELOAD", "evil.so"), ("SECRET", "mine"))
        spec = shell("true", gpus_per_node=1, requeue=True, env=evil)
        job_id = here.client.jobs.submit(spec)
        here.until(lambda: here.client.jobs.get(job_id).job.state is JobState.COMPLETED, "the job")
        job = here.client.jobs.get(job_id).job
        assert job.failed_on == ("n1",)
        assert job.attempt.node_names == ("n2",)
        assert here.node("n1").reason == "PrologFailed: prolog: no scratch disk"
        told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
        assert set(told) - {"PWD", "SHLVL", "_", "OLDPWD"} == TOLD


def test_a_job_that_may_not_run_again_ends_with_its_prologs_reason(ward, program) -> None:
    with ward(hooks={"prolog": [program("prolog", "echo not today; exit 1")]}) as here:
        job_id = here.client.jobs.submit(shell("true", gpus_per_node=1))
        here.until(lambda: here.client.jobs.get(job_id).job.state is JobState.FAILED, "the end")
        job = here.client.jobs.get(job_id).job
        assert (job.end_reason, job.end_detail) == (EndReason.PROLOG_FAILED, "prolog: not today")


def test_an_epilog_runs_before_the_devices_are_free_and_its_failure_cordons(ward, program, tmp_path) -> None:
    epilog = program("epilog", f"echo $GPUSCHED_JOB_ID > {tmp_path}/after; exit 1")
    with ward(hooks={"epilog": [epilog]}) as here:
        job_id = here.client.jobs.submit(shell("true", gpus_per_node=2))
        here.until(lambda: here.client.jobs.get(job_id).job.state is JobState.COMPLETED, "the end")
        assert (tmp_path / "after").read_text().split() == [str(job_id)]
        here.until(lambda: here.node().schedulability is Schedulability.DRAINED, "the cordon")
        assert here.node().reason == "EpilogFailed: epilog: exit code 1"


def test_a_site_check_drains_the_node_and_the_node_returns_when_it_passes(ward, program, tmp_path) -> None:
    check = program("check", f"test -e {tmp_path}/fine || {{ echo no quota server; exit 1; }}")
    (tmp_path / "fine").touch()
    with ward(hooks={"check": [check], "check_interval_s": 0.2}) as here:
        assert here.node().schedulability is Schedulability.OPEN
        (tmp_path / "fine").unlink()
        here.until(lambda: here.node().schedulability is Schedulability.DRAINED, "the drain")
        assert here.node().reason == "CheckFailed: check: no quota server"
        (tmp_path / "fine").touch()
        here.until(lambda: here.node().schedulability is Schedulability.OPEN, "the return")


def test_a_check_that_hangs_is_a_check_that_failed(ward, program) -> None:
    with ward(hooks={"check": [program("check", "sleep 600")], "timeout_s": 0.5}) as here:
        here.until(lambda: here.node().schedulability is Schedulability.DRAINED, "the drain")
        assert "did not end within" in here.node().reason


def test_a_program_that_others_may_change_is_refused(program, tmp_path) -> None:
    path = Path(program("hook", "true")[0])
    require_trusted((str(path),))
    for mode, said in ((0o720, "may be written by others"), (0o702, "may be written"), (0o600, "not exec")):
        path.chmod(mode)
        with pytest.raises(ConfigInvalid, match=said):
            require_trusted((str(path),))
    path.chmod(0o700)
    tmp_path.chmod(0o777)  # who may write the folder may put another program there
    with pytest.raises(ConfigInvalid, match="may be written by others"):
        require_trusted((str(path),))
    tmp_path.chmod(0o700)
    for argv, said in ((("hook",), "whole path"), ((str(tmp_path / "none"),), "No such file")):
        with pytest.raises(ConfigInvalid, match=said):
            require_trusted(argv)
