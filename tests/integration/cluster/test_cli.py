"""The command line as its users type it, against a real cluster."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from gpusched_cli import COMMAND, Ran, assert_refused, gpusched, state_of

from benchmarks.cluster import Head, running_agents, running_head, temporary_home, until
from gpusched.cli.exit_codes import ExitCode
from gpusched.domain.ids import JobId
from gpusched.domain.job_state import JobState, PendingReason
from gpusched.wire.client import Client

CONFIG = """
[rates]
currency = "EUR"
[[rates.price]]
model = "H100"
per_gpu_hour = "3600"
effective_from = 2020-01-01
"""


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    options = ("--devices", "4xH100", "--cpus", "16")
    with (
        temporary_home() as home,
        running_head(Head(home, CONFIG)) as running,
        running_agents(running, ("n1", "n2"), *options),
    ):
        yield running


@pytest.fixture(scope="module")
def client(head: Head) -> Iterator[Client]:
    with head.client() as connected:
        yield connected


@contextmanager
def started(head: Head, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A command that runs beside the test."""
    process = subprocess.Popen(
        [*COMMAND, *words],
        env={**os.environ, "GPUSCHED_HOME": str(head.home)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def succeeded(ran: Ran) -> str:
    assert ran.code == ExitCode.OK, ran
    return ran.out


def submitted(head: Head, *words: str, cwd: Path | None = None) -> list[JobId]:
    out = succeeded(gpusched("submit", "--parsable", *words, home=head.home, cwd=cwd))
    return [JobId(int(line)) for line in out.splitlines()]


def logs(head: Head, job_id: JobId, *words: str) -> str:
    return succeeded(gpusched("logs", str(job_id), "--follow", *words, home=head.home))


def test_a_command_runs_where_it_was_submitted(head: Head, tmp_path: Path) -> None:
    (job_id,) = submitted(head, "--", "sh", "-c", "pwd; echo $0 $1", "a b", "*", cwd=tmp_path)
    assert logs(head, job_id) == f"{tmp_path}\na b *\n"


def test_a_file_of_several_jobs_is_one_batch(head: Head, client: Client, tmp_path: Path) -> None:
    (tmp_path / "jobs.yaml").write_text(
        "name: first\nrun: [echo, one]\n---\nname: second\nenv: {WORD: two}\nrun: |\n  echo $WORD\n  exit 3\n"
    )
    first, second = submitted(head, "jobs.yaml", cwd=tmp_path)
    assert [logs(head, first), logs(head, second)] == ["one\n", "two\n"]
    jobs = [client.jobs.wait(job_id).job for job_id in (first, second)]
    assert [(job.spec.name, job.exit_code) for job in jobs] == [("first", 0), ("second", 3)]


def test_a_slurm_script_runs_unchanged(head: Head, tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text(
        "#!/bin/bash\n#SBATCH --nodes=2 --ntasks-per-node=2\n#SBATCH -J from-slurm\n#SBATCH -o out.%j\n"
        "echo $SLURM_JOB_NAME $SLURM_PROCID of $SLURM_NTASKS\n"
    )
    ran = gpusched("submit", "--parsable", "train.sh", home=head.home, cwd=tmp_path)
    assert ran.err == (
        "gpusched: warning: train.sh:4: #SBATCH --output is not used: "
        "logs are kept by gpusched; see `gpusched logs`\n"
    )
    lines = logs(head, JobId(int(succeeded(ran)))).splitlines()
    assert sorted(lines) == [f"[{rank}] from-slurm {rank} of 4" for rank in range(4)]


@pytest.mark.parametrize(
    ("script", "code"), [("echo said", 0), ("echo said; exit 7", 7), ("echo said; kill -9 $$", 128 + 9)]
)
def test_run_ends_with_the_jobs_own_code(head: Head, script: str, code: int) -> None:
    ran = gpusched("run", "--", "bash", "-c", script, home=head.home)
    assert (ran.code, ran.out) == (code, "said\n")
    assert ("COMPLETED" if code == 0 else "FAILED: NonZeroExitCode") in ran.err


def test_ctrl_c_of_run_cancels_where_nobody_can_be_asked(head: Head, client: Client) -> None:
    with started(head, "run", "--", "bash", "-c", "echo up; sleep 300") as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n"
        run.send_signal(signal.SIGINT)
        _, said = run.communicate()
    assert run.returncode == ExitCode.INTERRUPTED
    job_id = JobId(int(said.split()[2]))  # Submitted job 17
    assert f"Cancelling job {job_id}" in said
    assert client.jobs.get(job_id).job.state is JobState.CANCELLED


def test_logs_follow_a_job_as_it_speaks(head: Head, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo before; until test -e {gate}; do sleep 0.02; done; printf after"
    (job_id,) = submitted(head, "--", "bash", "-c", script)
    with started(head, "logs", "-f", str(job_id)) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline() == "before\n"
        gate.touch()
        assert follower.communicate() == ("after", "")
    assert follower.returncode == ExitCode.OK
    assert logs(head, job_id, "--tail", "1") == "after"
    (chunk, *_) = [json.loads(line) for line in logs(head, job_id, "--json").splitlines()]
    assert (chunk["global_rank"], chunk["node"]) == (0, "n1")


def test_every_read_speaks_json_and_agrees_with_the_client(head: Head, client: Client) -> None:
    (job_id,) = submitted(head, "--gpus-per-node", "1", "--", "sh", "-c", "exit 4")
    client.jobs.wait(job_id)

    def read(*words: str) -> object:
        return json.loads(succeeded(gpusched(*words, "--json", home=head.home)), parse_constant=pytest.fail)

    listed = {job["job_id"]: job for job in read("ps", "--all")}  # type: ignore[attr-defined]
    assert listed.keys() == {view.job.job_id for view in client.jobs.list()}
    shown = read("job", "show", str(job_id))
    for job in (listed[job_id], shown):
        assert (job["state"], job["exit_code"]) == ("FAILED", 4)  # type: ignore[index]
    nodes = read("nodes")
    assert [(node["node"], len(node["facts"]["devices"])) for node in nodes] == [("n1", 4), ("n2", 4)]  # type: ignore[attr-defined]
    assert all(device["declared"] for node in nodes for device in node["facts"]["devices"])  # type: ignore[attr-defined]
    topology = read("node", "topology")
    assert [facts["name"] for facts in topology] == ["n1", "n2"]  # type: ignore[attr-defined]
    assert read("explain", str(job_id))["message"].startswith(f"job {job_id} is FAILED")  # type: ignore[index]
    assert {row["job_id"] for row in read("report", "usage")} >= {None, job_id}  # type: ignore[attr-defined]
    events = succeeded(gpusched("job", "watch", str(job_id), "--json", home=head.home)).splitlines()
    assert [json.loads(line)["event"] for line in (events[0], events[-1])] == ["JobSubmitted", "JobEnded"]


def test_tables_say_which_devices_are_declared(head: Head) -> None:
    assert succeeded(gpusched("nodes", home=head.home)).count("(declared)") == 2
    assert succeeded(gpusched("node", "topology", "n1", home=head.home)).count("(declared)") == 4
    assert "NV18" in succeeded(gpusched("node", "topology", "n1", home=head.home))


def test_cost_is_the_same_in_every_form(head: Head, client: Client) -> None:
    (job_id,) = submitted(head, "-A", "payers", "--gpus-per-node", "2", "--", "sleep", "0.3")
    client.jobs.wait(job_id)
    end = gpusched("cost", "--json", home=head.home)
    window = ("--by", "account", "--to", json.loads(succeeded(end))["end"])
    report = json.loads(succeeded(gpusched("cost", *window, "--json", home=head.home)))
    rows = list(csv.DictReader(io.StringIO(succeeded(gpusched("cost", *window, "--csv", home=head.home)))))
    table = succeeded(gpusched("cost", *window, home=head.home))
    billed = [Decimal(row["billed_cost"]) for row in rows]
    assert sum(billed) == Decimal(report["total"]) > 0
    assert {row["key"] for row in rows} == {line["key"] for line in report["lines"]} >= {"payers"}
    assert f"{Decimal(report['total']):.2f}" in table.splitlines()[-1]


def test_the_environment_of_a_rank_is_shown(head: Head, client: Client) -> None:
    words = ("--nodes", "2", "--tasks-per-node", "2", "--env", "WORD=x y", "--", "true")
    (job_id,) = submitted(head, *words)
    client.jobs.wait(job_id)
    shown = succeeded(gpusched("job", "show", str(job_id), "--env", "--rank", "3", home=head.home))
    lines = [line.strip() for line in shown.splitlines()]
    assert {"RANK=3", "WORLD_SIZE=4", "LOCAL_RANK=1", "GPUSCHED_NODE=n2", "WORD=x y"} <= set(lines)
    assert_refused(
        gpusched("job", "show", str(job_id), "--rank", "9", home=head.home), ExitCode.NOT_FOUND, "0 to 3"
    )


def test_a_held_job_is_explained_released_and_cancelled(head: Head, client: Client) -> None:
    (job_id,) = submitted(head, "--hold", "--gpus-per-node", "4", "--nodes", "2", "--", "sleep", "300")
    why = succeeded(gpusched("explain", str(job_id), home=head.home))
    assert f"gpusched job release {job_id}" in why
    assert "Forecast" not in why  # it waits for a person
    assert succeeded(gpusched("job", "release", str(job_id), home=head.home)) == f"Job {job_id} released\n"
    until(lambda: client.jobs.get(job_id).job.state is JobState.RUNNING, "the job to run")
    (waiting,) = submitted(head, "--gpus-per-node", "1", "--", "true")
    until(
        lambda: client.jobs.get(waiting).pending_reason is PendingReason.RESOURCES,
        "the other to be looked at",
    )
    assert "Nodes that fit: 0 now, 2 if nothing ran" in succeeded(
        gpusched("explain", str(waiting), home=head.home)
    )
    ran = gpusched("cancel", str(job_id), "999999", str(waiting), home=head.home)
    assert ran.code == ExitCode.NOT_FOUND
    assert ran.out == f"Job {job_id} cancelled\nJob {waiting} cancelled\n"
    assert "no job 999999" in ran.err
    assert client.jobs.wait(job_id).job.state is JobState.CANCELLED


def test_a_dry_run_shows_the_plan_and_submits_nothing(head: Head, client: Client) -> None:
    before = state_of(client)
    words = ("--dry-run", "--gpus-per-node", "2", "--nodes", "2", "--", "python", "train.py")
    shown = succeeded(gpusched("submit", *words, home=head.home))
    assert "Nothing was submitted." in shown
    assert "Price: 14400" in shown
    assert "DECLARED-n2-1 (declared)" in shown
    (plan,) = json.loads(succeeded(gpusched("submit", "--json", *words, home=head.home)))
    assert [node["node"] for node in plan["nodes"]] == ["n1", "n2"]
    assert state_of(client) == before


def test_a_reader_that_leaves_early_is_no_error(head: Head) -> None:
    command = f"{shlex.join(COMMAND)} nodes --json | head -n 1"
    settings = {**os.environ, "GPUSCHED_HOME": str(head.home)}
    done = subprocess.run(["bash", "-c", command], env=settings, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(shell: str) -> None:
    assert "_GPUSCHED_COMPLETE" in succeeded(gpusched("completion", shell))


def test_bash_completes_commands_and_options(tmp_path: Path) -> None:
    program = tmp_path / "gpusched"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    program.chmod(0o755)
    script = """
        source <(gpusched completion bash)
        complete -p gpusched >&2
        COMP_WORDS=(gpusched su); COMP_CWORD=1; _gpusched_completion gpusched; echo "${COMPREPLY[@]}"
        COMPREPLY=()
        COMP_WORDS=(gpusched ps --js); COMP_CWORD=2; _gpusched_completion gpusched; echo "${COMPREPLY[@]}"
    """
    settings = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=settings, capture_output=True, text=True, check=False)
    assert "-F _gpusched_completion gpusched" in done.stderr
    assert done.stdout == "submit\n--json\n"


def test_the_version_loads_next_to_nothing() -> None:
    words = [sys.executable, "-X", "importtime", "-m", "gpusched", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert done.stdout.startswith("gpusched ")
    assert "click" in loaded
    assert loaded.isdisjoint({"rich", "grpc", "google", "sqlalchemy", "numpy", "pydantic", "yaml", "asyncio"})
