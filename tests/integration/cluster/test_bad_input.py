"""Whatever a user types: one clear message, the documented exit code, and nothing has changed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from gpusched_cli import COMMAND, assert_refused, gpusched, state_of
from live import shell

from benchmarks.cluster import Head, running_agents, running_head, tail, temporary_home, until
from gpusched.cli.exit_codes import ExitCode
from gpusched.domain.errors import (
    GpuschedError,
    InfeasibleRequest,
    InvalidSpec,
    NotFound,
    OverLimit,
    RequestIdReused,
)
from gpusched.domain.ids import JobId, NodeName, RequestId
from gpusched.domain.job import JobFilter
from gpusched.wire.client import Client

INVALID, NOT_FOUND, INFEASIBLE = ExitCode.INVALID, ExitCode.NOT_FOUND, ExitCode.INFEASIBLE
UNAVAILABLE, BROKEN, WRONG_STATE = ExitCode.UNAVAILABLE, ExitCode.BROKEN, ExitCode.WRONG_STATE
NOBODY = 65534


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    options = ("--devices", "4xH100", "--cpus", "16")
    with (
        temporary_home() as home,
        running_head(Head(home)) as running,
        running_agents(running, ("n1", "n2"), *options),
    ):
        yield running


@pytest.fixture(scope="module")
def client(head: Head) -> Iterator[Client]:
    with head.client() as connected:
        connected.jobs.submit(shell("true", hold=True), request_id=RequestId("the-only-one"))
        yield connected


@pytest.fixture(autouse=True)
def nothing_changed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Jobs and nodes are after every test of this file what they were before it."""
    client: Client = request.getfixturevalue("client")
    before = state_of(client)
    yield
    assert state_of(client) == before


# ── jobs, as files ────────────────────────────────────────────────────────────────────


JOB_FILES = {
    "an unknown field": ("run: [a]\ngpus_per_nod: 4\n", ":2:1: gpus_per_nod:", "did you mean gpus_per_node?"),
    "a unit that is none": ("run: [a]\nmem: 80Q\n", ":2:1: mem:", "80G", "'80Q'"),
    "a negative size": ("run: [a]\nmem: -1G\n", ":2:1: mem:", "'-1G'"),
    "an absurd count": ("run: [a]\nnodes: 999999\n", ":2:1: nodes:", "999999"),
    "ten megabytes of environment": ("run: [a]\nenv:\n  BIG: " + "x" * 10_000_000 + "\n", "1 MiB"),
    "half a megabyte in one variable": ("run: [a]\nenv:\n  BIG: " + "x" * 500_000 + "\n", ":3:3: env.BIG:"),
    "a NUL": ("run: [a]\nname: a\0b\n", ":2:8:", "U+0000"),
    "a NUL as YAML writes it": ('run: [a]\nname: "a\\0b"\n', ":2:1: name:", "NUL"),
    "the same field twice": ("run: [a]\nnodes: 1\nnodes: 2\n", ":3:1: nodes:", "twice"),
    "an alias": ("run: &a [a]\ncommand: *a\n", ":1:6:", "alias"),
    "nothing to run": ("nodes: 1\n", ":1:1", "run"),
    "a reserved variable": ("run: [a]\nenv: {RANK: '1'}\n", ":2:7: env.RANK:", "gpusched"),
    "no file at all": ("", "holds no job"),
    "the second of two jobs": ("run: [a]\n---\nrun: [a]\nqoss: x\n", ":4:1: qoss:", "did you mean qos?"),
}


@pytest.mark.parametrize("case", JOB_FILES)
def test_a_bad_job_file_is_refused_where_it_is_bad(case: str, head: Head, tmp_path: Path) -> None:
    text, *said = JOB_FILES[case]
    (tmp_path / "job.yaml").write_text(text, encoding="utf-8")
    ran = gpusched("submit", "job.yaml", home=head.home, cwd=tmp_path)
    assert_refused(ran, INVALID, "job.yaml", *said)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("job.yaml", b"run: [a]\nname: caf\xe9\n", "job.yaml:2: byte 0xe9 is not UTF-8"),
        ("job.sh", b"#!/bin/sh\necho \xff\n", "job.sh:2: byte 0xff is not UTF-8"),
        ("job.sh", b"#!/bin/sh\n#SBATCH --gpus-per-nod=4\n", "job.sh:2: #SBATCH --gpus-per-nod"),
        ("job.sh", b"#!/bin/sh\n#SBATCH --mem=4Q\n", "job.sh:2: #SBATCH --mem"),
        ("job.sh", b"echo no interpreter\n", "job.sh:1: does not start with #!"),
        ("job.sh", b"#!/bin/sh\n" + b"#" * (2 << 20), "job.sh: is larger than 1048576 bytes"),
        ("train.py", b"import torch\n", "train.py: is a Python file"),
    ],
)
def test_a_bad_script_is_refused_where_it_is_bad(
    name: str, data: bytes, said: str, head: Head, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    assert_refused(gpusched("submit", name, home=head.home, cwd=tmp_path), INVALID, said)


# ── jobs, as command lines ────────────────────────────────────────────────────────────


COMMAND_LINES: dict[str, tuple[tuple[str | bytes, ...], int, str]] = {
    "a negative count": (("--gpus-per-node", "-1"), INVALID, "--gpus-per-node: must be between"),
    "a wrong unit": (("--mem", "10 parsecs"), INVALID, "--mem: must be a size such as 80G"),
    "bytes that are not UTF-8": (("--job-name", b"caf\xe9"), INVALID, "--job-name: is not valid UTF-8"),
    "an unknown partition": (("-p", "mian"), INVALID, "partition: there is no 'mian'; did you mean main?"),
    "more GPUs than any node has": (("--gpus-per-node", "5"), INFEASIBLE, "the largest node"),
    "more nodes than there are": (("--nodes", "3"), INFEASIBLE, "partition main has 2: ask for nodes ≤ 2"),
    "a model that nobody has": (("--gpu-model", "TPU", "--gpus-per-node", "1"), INFEASIBLE, "TPU"),
    "more memory than any node has": (("--mem", "7T"), INFEASIBLE, "memory"),
    "a node that is not there": (("-w", "n9"), INFEASIBLE, "nodelist"),
    "a node's name that is none": (("-w", "n1;rm"), INVALID, "nodelist"),
    "ranks that share no GPU evenly": (("--gpus-per-node", "3", "--tasks-per-node", "2"), INVALID, "evenly"),
}  # fmt: skip


@pytest.mark.parametrize("case", COMMAND_LINES)
def test_a_bad_command_line_is_refused(case: str, head: Head) -> None:
    options, code, said = COMMAND_LINES[case]
    assert_refused(gpusched("submit", *options, "--", "true", home=head.home), code, said)


REQUESTS: dict[str, tuple[tuple[str | bytes, ...], int, str]] = {
    "a job id with ../": (("logs", "../1"), INVALID, "a job's id is a number such as 17, not '../1'"),
    "a job id below 1": (("job", "show", "0"), INVALID, "a job's id is a number"),
    "a job id beyond all integers": (("cancel", "9" * 30), INVALID, "a job's id is a number"),
    "a rank with ../": (("logs", "1", "--rank", "../0"), INVALID, "must be ranks such as 0 or 0,3-5"),
    "an attempt with ../": (("logs", "1", "--attempt", "../1"), INVALID, "--attempt"),
    "a job that is not there": (("cancel", "4711"), NOT_FOUND, "no job 4711"),
    "a node that is not there": (("node", "drain", "n9", "-m", "fan"), NOT_FOUND, "known nodes: n1, n2"),
    "a node with a NUL-like name": (("node", "show", "n1\x01"), NOT_FOUND, r"no node 'n1\x01'"),
    "a node that is not UTF-8": (("node", "show", b"n\xff"), INVALID, "node: is not valid UTF-8"),
    "a user that is not UTF-8": (("ps", "--user", b"\xff"), INVALID, "user: is not valid UTF-8"),
    "a reason that drives terminals": (("node", "cordon", "n1", "-m", "\x1b[2J"), INVALID, "printable"),
    "a window that is reversed": (("cost", "--from", "1h", "--to", "2h"), INVALID, "must be before --to"),
    "a time that is none": (("cost", "--from", "yesteryear"), INVALID, "--from"),
    "a window that has not been": (("cost", "--from", "2999-01-01"), INVALID, "--from is in the future"),
    "the health of a node that is not there": (("health", "list", "n9"), NOT_FOUND, "no node 'n9'"),
    "a node that was never let in": (("ca", "revoke", "n9"), NOT_FOUND, "n9 has no certificate"),
    "a directory": (("submit", "/tmp"), INVALID, "/tmp: no file, but a directory"),
    "an unknown command": (("sumbit",), INVALID, "no such command: sumbit; did you mean submit?"),
    "an unknown option": (("ps", "--jsn"), INVALID, "--jsn"),
    "a release of what is not held": (("job", "requeue", "1"), WRONG_STATE, "only a started job"),
    "an address that is none": (("--head", "nowhere", "ps"), BROKEN, "'nowhere' is not the address"),
}  # fmt: skip


@pytest.mark.parametrize("case", REQUESTS)
def test_a_bad_request_is_refused(case: str, head: Head) -> None:
    words, code, said = REQUESTS[case]
    assert_refused(gpusched(*words, home=head.home), code, said)


@pytest.mark.parametrize(
    ("settings", "code", "said"),
    [
        ({"GPUSCHED_TOKEN": "line\nbreak"}, ExitCode.NOT_PERMITTED, "GPUSCHED_TOKEN"),
        ({"GPUSCHED_TOKEN": "forged"}, ExitCode.NOT_PERMITTED, "`gpusched token`, on the head's machine"),
        ({"GPUSCHED_TOKEN_FILE": "/nowhere"}, BROKEN, "GPUSCHED_TOKEN_FILE=/nowhere cannot be read"),
        ({"GPUSCHED_CA_FILE": "/nowhere"}, BROKEN, "CA file /nowhere cannot be read"),
        ({"GPUSCHED_CA_FILE": "/etc/passwd"}, BROKEN, "/etc/passwd holds no certificate (PEM)"),
        ({"GPUSCHED_CA_FILE": sys.executable}, BROKEN, "holds no certificate (PEM)"),
        ({"GPUSCHED_ADDRESS": "10.0.0.1:7460"}, ExitCode.NOT_PERMITTED, "set GPUSCHED_TOKEN"),
        ({"GPUSCHED_HOME": "/tmp/" + "x" * 120}, BROKEN, "107 at most: choose a shorter GPUSCHED_HOME"),
    ],
)
def test_a_bad_environment_is_refused(settings: dict[str, str], code: int, said: str, head: Head) -> None:
    assert_refused(gpusched("ps", home=head.home, settings=settings), code, said)


# ── the same through the client, past every check of the command line ─────────────────


def test_the_head_checks_what_a_client_did_not(client: Client) -> None:
    good = shell("true")
    bad: list[tuple[object, type[GpuschedError], str]] = [
        (replace(good, env=(("BIG", "x" * 3_000_000),)), InvalidSpec, "env"),
        (replace(good, env=(("BIG", "x" * 20_000_000),)), OverLimit, "larger"),
        (replace(good, env=(("A", "a\0b"),)), InvalidSpec, "NUL"),
        (replace(good, name="a\0b"), InvalidSpec, "control character"),
        (replace(good, workdir="/tmp/\0"), InvalidSpec, "workdir"),
        (replace(good, command=("true", "\udcff")), InvalidSpec, "not valid UTF-8"),
        (replace(good, nodes=-1), InvalidSpec, "nodes: -1 is outside"),
        (replace(good, nodes=2**70), InvalidSpec, "nodes"),
        (replace(good, memory_bytes=2**62), InvalidSpec, "mem"),
        (replace(good, gpus_per_node=5), InfeasibleRequest, "has 4"),
        (replace(good, command=()), InvalidSpec, "command"),
    ]
    for spec, error, said in bad:
        with pytest.raises(error, match=said):
            client.jobs.submit(spec)  # type: ignore[arg-type]
        with pytest.raises(error, match=said):
            client.jobs.submit_many([good, spec])  # type: ignore[list-item]
    with pytest.raises(InvalidSpec, match="NUL"):
        list(client.jobs.list(where=JobFilter(user="a\0b")))
    with pytest.raises(InvalidSpec, match="page_token"):
        client.jobs._transport.unary(_list_from("../1"))
    with pytest.raises(NotFound, match="n9"):
        client.nodes.drain(NodeName("n9"), "fan")
    with pytest.raises(InvalidSpec, match="request_id"):
        client.jobs.cancel(JobId(1), request_id=RequestId("x" * 65))
    with pytest.raises(InvalidSpec, match="job_id"):
        client.jobs.get(JobId(2**64))


def _list_from(page_token: str):  # type: ignore[no-untyped-def]
    from gpusched.wire.calls import list_jobs

    return list_jobs(JobFilter(), 0, page_token)


def test_a_request_id_is_good_for_one_request(client: Client) -> None:
    same = RequestId("the-only-one")
    with pytest.raises(RequestIdReused, match="use a new id"):
        client.jobs.submit(shell("false", hold=True), request_id=same)
    with pytest.raises(RequestIdReused, match="use a new id"):
        client.nodes.cordon(NodeName("n1"), "fan", request_id=same)


# ── heads that cannot start ───────────────────────────────────────────────────────────


@pytest.fixture
def other_home() -> Iterator[Path]:
    with temporary_home() as path:
        yield path


def test_a_second_head_on_one_database_is_refused_and_names_the_first(head: Head, other_home: Path) -> None:
    said = f"in use by another head (pid {head.pid}"
    assert_refused(gpusched("head", "--home", str(head.home), "--tcp", ""), UNAVAILABLE, said)
    (other_home / "config.toml").write_text(f'[store]\nurl = "sqlite:///{head.home}/gpusched.db"\n')
    assert_refused(gpusched("head", "--home", str(other_home), "--tcp", ""), UNAVAILABLE, said)
    assert_refused(gpusched("up", "--home", str(head.home)), UNAVAILABLE, said)


def test_a_port_in_use_is_named(other_home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ran = gpusched("head", "--home", str(other_home), "--tcp", address)
    assert_refused(ran, BROKEN, f"cannot listen on {address}: Address already in use")
    assert ran.err.count("\n") == 1  # and gRPC's own log says nothing


CONFIGS = {
    "no TOML": ("[[[", "not TOML"),
    "no text": ("\xff", "not TOML"),
    "an unknown key": ("clustr = 'a'", "clustr: unknown key: see docs/reference/config.md"),
    "a wrong type": ("[engine]\nsilence_max_s = 'long'", "engine.silence_max_s"),
    "a number that is none": ("[engine]\nsilence_max_s = nan", "engine.silence_max_s"),
    "a price below zero": (
        "[[rates.price]]\nmodel='H100'\nper_gpu_hour=-1\neffective_from=2020-01-01",
        "rates.price.0.per_gpu_hour",
    ),
    "two partitions of one name": ("[[partition]]\nname='a'\n[[partition]]\nname='a'", "partition"),
    "a database of another kind": ("[store]\nurl='oracle://x'", "the store cannot be 'oracle://x'"),
    "a certificate without its key": ("[listen]\ntls_cert='/a'", "go together"),
    "a certificate that is not there": (
        "[listen]\ntcp='127.0.0.1:0'\ntls_cert='/a'\ntls_key='/a'",
        "a TLS file cannot be read",
    ),
    "a socket in too long a path": (f"[listen]\nunix='{'x' * 120}'", "107 at most"),
    "an open port without TLS": ("[listen]\ntcp='0.0.0.0:0'", "refusing to start"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_bad_configuration_is_refused(case: str, other_home: Path) -> None:
    text, said = CONFIGS[case]
    (other_home / "config.toml").write_bytes(text.encode("latin-1"))
    assert_refused(gpusched("head", "--home", str(other_home)), BROKEN, said)
    assert not (other_home / "head.sock").exists()


@pytest.mark.parametrize("command", ["head", "up"])
def test_a_configuration_that_is_not_there_is_refused(command: str, other_home: Path) -> None:
    ran = gpusched(command, "--home", str(other_home), "--config", "/nowhere.toml")
    assert_refused(ran, BROKEN, "/nowhere.toml: No such file or directory")


def test_a_damaged_database_is_refused_and_left_as_it_is(other_home: Path) -> None:
    database = other_home / "gpusched.db"
    for data in (b"no database, but long enough to be taken for one", b"SQLite format 3\0" + b"\xff" * 5000):
        database.write_bytes(data)
        ran = gpusched("head", "--home", str(other_home), "--tcp", "")
        assert_refused(ran, BROKEN, str(database), "restore a backup")
        assert database.read_bytes() == data


def test_a_damaged_key_is_refused_and_left_as_it_is(other_home: Path) -> None:
    key = other_home / "token.key"
    key.write_text("no key\n")
    key.chmod(0o644)
    assert_refused(gpusched("head", "--home", str(other_home), "--tcp", ""), BROKEN, f"chmod 600 {key}")
    key.chmod(0o600)
    assert_refused(gpusched("head", "--home", str(other_home), "--tcp", ""), BROKEN, "not a private key")
    assert key.read_text() == "no key\n"


def test_a_home_that_cannot_be_is_refused(other_home: Path) -> None:
    a_file = other_home / "file"
    a_file.touch()
    bad: list[tuple[str | bytes, str]] = [
        (str(a_file), "choose another GPUSCHED_HOME"),
        (f"{a_file}/deeper", "choose another GPUSCHED_HOME"),
        (str(other_home / ("x" * 120)), "107 at most: choose a shorter GPUSCHED_HOME"),
        (os.fsencode(other_home) + b"/\xff", "is not UTF-8"),
    ]
    for home, said in bad:
        assert_refused(gpusched("head", "--home", home, "--tcp", ""), BROKEN, said)


def test_a_home_that_may_not_be_written_is_refused(other_home: Path) -> None:
    # Imports come first: the interpreter may lie where only its owner may look.
    program = (
        "from gpusched.wire.tls_version import require_tls_1_3\n"
        "require_tls_1_3()\n"
        "import gpusched.daemon.commands, gpusched.daemon.head, gpusched.cli.screen, sys, os\n"
        "from gpusched.cli.main import main\n"
        f"os.getuid() or os.setuid({NOBODY})\n"
        f"sys.exit(main(['head', '--home', {str(other_home)!r}, '--tcp', '']))\n"
    )
    other_home.chmod(0o555)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    other_home.chmod(0o755)
    assert (done.returncode, done.stdout) == (BROKEN, "")
    assert done.stderr == f"gpusched: error: {other_home}: not writable: choose another GPUSCHED_HOME\n"


# ── agents that cannot start ──────────────────────────────────────────────────────────


AGENTS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "devices that are none": (("--name", "n3", "--devices", "4x"), INVALID, "'4x' is not <count>x<model>"),
    "too many devices": (("--name", "n3", "--devices", "65xH100"), INVALID, "more than 64 devices"),
    "absurd CPUs": (("--name", "n3", "--cpus", "9999999"), INVALID, "--cpus"),
    "absurd memory": (("--name", "n3", "--memory-gib", "99999999"), INVALID, "--memory-gib"),
    "a name that is a path": (("--name", "../../n3", "--devices", "none"), INVALID, "name: '../../n3'"),
    "a name with a line break": (("--name", "n\n3", "--devices", "none"), INVALID, r"name: 'n\n3'"),
    "no name": (("--name", "", "--devices", "none"), INVALID, "name: ''"),
    "an address that is none": (("--name", "n3", "--head", "x", "--devices", "none"), BROKEN, "not the addr"),
    "a home that is a file": (("--name", "n3", "--home", "/dev/null"), BROKEN, "/dev/null"),
}  # fmt: skip


@pytest.mark.parametrize("case", AGENTS)
def test_a_bad_agent_does_not_start(case: str, head: Head, other_home: Path) -> None:
    words, code, said = AGENTS[case]
    ran = gpusched("agent", "--home", str(other_home), "--head", head.address, *words)
    assert_refused(ran, code, said)


def test_two_agents_of_one_home_are_one_too_many(head: Head, client: Client) -> None:
    lock = head.home / "agents" / "n1" / "agent.lock"
    ran = gpusched("agent", "--home", str(head.home), "--name", "n1", "--head", head.address)
    assert_refused(ran, BROKEN, f"in use by another agent (pid {lock.read_text().strip()})", "stop that one")
    assert client.nodes.get(NodeName("n1")).node.reachable


def test_up_with_bad_devices_starts_nothing(other_home: Path) -> None:
    ran = gpusched("up", "--home", str(other_home), "--devices", "4x")
    assert_refused(ran, INVALID, "'4x' is not <count>x<model>")
    assert list(other_home.iterdir()) == []


def test_an_agent_without_a_head_says_so_and_finds_it_later(other_home: Path) -> None:
    head = Head(other_home)
    log = other_home / "agent.log"
    argv = [*COMMAND, "agent", "--home", str(other_home), "--name", "n1", "--devices", "none"]
    with log.open("wb") as stream:
        agent = subprocess.Popen([*argv, "--head", head.address], stdout=stream, stderr=stream)
    try:
        until(lambda: "no head gives out tokens" in tail(log), "the agent to miss its head")
        assert agent.poll() is None
        with running_head(head), head.client() as client:
            until(lambda: len(client.nodes.list()) == 1, "the agent to find its head")
        until(lambda: "stream to the head ended" in tail(log, 1), "the agent to miss its head again")
        assert agent.poll() is None
        assert "Traceback" not in log.read_text()
    finally:
        agent.terminate()
        agent.wait()


def test_a_token_is_given_by_a_head_only(other_home: Path) -> None:
    assert_refused(gpusched("token", "--home", str(other_home)), UNAVAILABLE, "no head gives out tokens")
    long = str(other_home / ("x" * 120))
    assert_refused(gpusched("token", "--home", long), BROKEN, "107 at most")
