"""Nowhere that others look is a secret found after a cluster's whole life (S8): joining, jobs, errors, kills,
renewal, rotation, revocation.

The secrets are those that the run itself made, read from where they belong when it is over.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpusched_cli import COMMAND, Ran, gpusched
from postgres import PostgresServer
from stranger import GID, UID, stranger_token
from torture.network import Host, network
from torture.remote import PORT, remote_agent, remote_head

from benchmarks.cluster import Head, temporary_home, until
from gpusched.agent.zygote import BOOTSTRAP, SOURCE_ROOT
from gpusched.cli.exit_codes import ExitCode
from gpusched.domain.ids import JobId
from gpusched.domain.job_state import JobState

PASSWORD = "of-the-database-4711"
TOLD_TO_JOB = "open-sesame-0815"
PUBLIC_NAME = "a-name-that-all-may-read"
OFFERED = "shown-to-prove-that-the-witness-sees"
JWT = re.compile(rb"eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,}")
SIGNS = {"a JWT": JWT, "a key": re.compile(rb"PRIVATE KEY-")}
CONFIG = """
[store]
url = "{url}"
[identity]
certificate_lifetime_s = 10
"""

# Another user, who reads all of /proc that he may until his input ends, and tells then what he saw.
WITNESS = f"""
import os, select, sys
if os.geteuid() == 0:
    os.setgroups([]); os.setgid({GID}); os.setuid({UID})
seen = set()
print("looks", flush=True)
while not select.select([0], [], [], 0.01)[0]:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ", "comm", "maps", "stack", "cgroup"):
            try:
                with open(f"/proc/{{pid}}/{{name}}", "rb") as file:
                    seen.add(file.read())
            except OSError:
                pass
sys.stdout.buffer.write(b"\\n".join(seen))
"""


@contextmanager
def witness() -> Iterator[Callable[[], bytes]]:
    """Somebody who looks on; to be asked once what was to be seen."""
    words = [sys.executable, "-I", "-S", "-c", WITNESS]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as looking:
        assert looking.stdout is not None
        assert looking.stdout.readline() == b"looks\n"
        try:
            yield lambda: looking.communicate()[0]
        finally:
            looking.kill()


@dataclass(frozen=True, slots=True)
class Remarks:
    """What commands printed; none of them is one that shows a secret to who may have it."""

    home: Path
    said: list[str] = field(default_factory=list)

    def of(self, *words: str, settings: dict[str, str] | None = None, home: Path | None = None) -> Ran:
        ran = gpusched(*words, home=home or self.home, settings=settings)
        self.said.extend((ran.out, ran.err))
        return ran


def job_file(folder: Path, **changes: object) -> str:
    """A job that is told a secret. JSON is YAML."""
    argv = ["/bin/sh", "-c", f"sleep 300; true {OFFERED}"]
    job = {"name": PUBLIC_NAME, "run": argv, "workdir": "/tmp"}
    path = folder / f"{len(list(folder.iterdir()))}.yaml"
    path.write_text(json.dumps(job | {"env": {"WORD": TOLD_TO_JOB}} | changes))
    return str(path)


def files_in(home: Path) -> dict[Path, bytes]:
    """What stands in each file; a living cluster may replace or remove one meanwhile."""
    found = {}
    for folder, _, names in os.walk(home):
        for path in (Path(folder, name) for name in names):
            with suppress(FileNotFoundError):
                if path.is_file():
                    found[path] = path.read_bytes()
    return found


def secrets_in(home: Path) -> dict[bytes, str]:
    """What nobody else may see, with the name of the file that it belongs in."""
    found = {PASSWORD.encode(): "config.toml", TOLD_TO_JOB.encode(): "the job's file"}
    for path, data in files_in(home).items():
        found |= dict.fromkeys((*private_lines(data), *JWT.findall(data)), path.name)
        if path.name == "launch.json":
            found[json.loads(data)["token"].encode()] = path.name
    return found


def private_lines(pem: bytes) -> list[bytes]:
    """Of the keys in a file."""
    bodies = re.findall(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n(.*?)-----END", pem, re.DOTALL)
    return [line for body in bodies for line in body.split()]


def named(told: bytes, secrets: dict[bytes, str]) -> list[str]:
    """The secrets in what somebody saw of a machine on which other clusters may live."""
    return [name for secret, name in secrets.items() if secret in told]


def leaks(told: bytes, secrets: dict[bytes, str]) -> list[str]:
    """The secrets in what this cluster told somebody, and whatever else looks like one."""
    return named(told, secrets) + [name for name, sign in SIGNS.items() if sign.search(told)]


def is_shown(path: Path) -> bool:
    """Whether others may read it, now or when somebody asks for the log."""
    return path.suffix == ".log" or bool(path.stat().st_mode & 0o077)


def test_no_secret_of_a_cluster_is_seen_where_others_look(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        url = stack.enter_context(postgres_server.fresh_database())
        home = stack.enter_context(temporary_home())
        home.chmod(0o711)  # as /home is: others pass through
        at_head, at_node = stack.enter_context(network(("head", "n1")))
        ask = stack.enter_context(witness())
        config = CONFIG.format(url=url.replace("postgres@", f"postgres:{PASSWORD}@"))
        head = stack.enter_context(remote_head(home, at_head, config))
        remarks = Remarks(home)
        with remote_agent(head, at_head, at_node, "--devices", "none", "--cpus", "4"):
            secrets = work(head, remarks, tmp_path)
            secrets |= show_wrong_things(remarks, at_head, tmp_path)
            assert remarks.of("ca", "revoke", "n1").code == ExitCode.OK
        head.stop()
        secrets |= secrets_in(home)
        witnessed, said, kept = ask(), "\n".join(remarks.said).encode(), postgres_server.dump(url)
        files = {str(path): data for path, data in files_in(home).items() if is_shown(path)}
    assert len(secrets) > 10, "there is nothing to look for"
    assert OFFERED.encode() in witnessed, "the witness is blind"
    assert named(witnessed, secrets) == []
    assert PUBLIC_NAME.encode() in said
    assert leaks(said, secrets) == []
    secrets.pop(TOLD_TO_JOB.encode())  # the database has to remember it, and no more
    assert PUBLIC_NAME.encode() in kept
    assert leaks(kept, secrets) == []
    assert files.keys() >= {f"{home}/head.log", f"{home}/n1/agent.log"}
    in_files = {name: leaks(data, secrets) for name, data in files.items()}
    assert {name: found for name, found in in_files.items() if found} == {}


def work(head: Head, remarks: Remarks, folder: Path) -> dict[bytes, str]:
    """A job, a head that dies under it, keys that change, jobs that fail. Returns the secrets on the way."""
    stranger = {"GPUSCHED_TOKEN": stranger_token(head.home)}
    with head.client() as client:
        ran = remarks.of("submit", "--parsable", job_file(folder))
        assert ran.code == ExitCode.OK, ran
        job = ran.out.strip()
        until(lambda: client.jobs.get(JobId(int(job))).job.state is JobState.RUNNING, "the job to run")
        secrets = secrets_in(head.home)
        for words in (("ps", "--json"), ("job", "show", job, "--json"), ("explain", job, "--json")):
            assert remarks.of(*words, settings=stranger).code == ExitCode.OK
        for words in (("job", "show", job), ("nodes", "--json"), ("top", "--once"), ("ca", "show", "--pem")):
            assert remarks.of(*words).code == ExitCode.OK
        head.kill()
        head.start()
        for words in (("ca", "rotate"), ("ca", "rotate-token-key"), ("cancel", job)):
            assert remarks.of(*words).code == ExitCode.OK
        client.jobs.wait(JobId(int(job)))
        for wrong in ({"run": ["/does/not/exist"]}, {"workdir": "/does/not/exist"}, {"run": "exit 3"}):
            failing = remarks.of("submit", "--parsable", job_file(folder, **wrong)).out.strip()
            client.jobs.wait(JobId(int(failing)))
            assert remarks.of("job", "show", failing, "--json", settings=stranger).code == ExitCode.OK
            remarks.of("logs", failing)
    return secrets | {stranger["GPUSCHED_TOKEN"].encode(): "a user's token"}


def show_wrong_things(remarks: Remarks, at_head: Host, folder: Path) -> dict[bytes, str]:
    """Secrets in places where they are wrong: what is said of them must not repeat them."""
    for env in (
        {"WORD": [TOLD_TO_JOB]},
        {"BAD NAME": TOLD_TO_JOB},
        {"WORD": f"{TOLD_TO_JOB}\0"},
        [TOLD_TO_JOB],
    ):
        assert remarks.of("submit", job_file(folder, env=env)).code != ExitCode.OK
    token = gpusched("token", home=remarks.home).out.strip()
    for wrong in (token[:-8], f"{token} {token}", f"{token}\n\x1b"):
        assert remarks.of("ps", settings={"GPUSCHED_TOKEN": wrong}).code != ExitCode.OK
    join_token = gpusched("node", "join-token", "--node", "n7", home=remarks.home).out.strip()
    fingerprint = gpusched("ca", "show", home=remarks.home).out.split()[0]
    (folder / "join").write_text(join_token)
    words = ("--home", folder, "--name", "n8", "--devices", "none", "--head", f"{at_head.address}:{PORT}")
    words += ("--join", folder / "join", "--ca-fingerprint", fingerprint)
    ran = subprocess.run((*at_head.prefix, *COMMAND, "agent", *words), capture_output=True, check=False)
    assert b"is not for node n8" in ran.stderr, ran
    remarks.said.append(ran.stderr.decode())
    for n, url in enumerate(("postgresql+psycopg://ada:{}@127.0.0.1:1/x", "mysql://ada:{}@h/x", "{}://h")):
        home = folder / f"home{n}"
        home.mkdir(mode=0o700)
        for mode in (0o644, 0o600):
            (home / "config.toml").write_text(f'[store]\nurl = "{url.format(PASSWORD)}"\n')
            (home / "config.toml").chmod(mode)
            assert remarks.of("head", "--tcp", "", home=home).code != ExitCode.OK
    return {join_token.encode(): "a join token", token.encode(): "an operator's token"}


# ── core dumps ────────────────────────────────────────────────────────────────────────


def leaves_core(process: subprocess.Popen[bytes]) -> bool:
    """Whether it is dumped when it crashes, though it may be."""
    resource.prlimit(process.pid, resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    process.send_signal(signal.SIGABRT)
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    return ended.si_code == os.CLD_DUMPED


@contextmanager
def crashing(folder: Path, *words: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_process_that_crashes_here_is_dumped(tmp_path: Path) -> None:
    """Else the tests below show nothing."""
    with crashing(tmp_path, "sleep", "300") as process:
        assert leaves_core(process)


def test_a_head_that_crashes_leaves_no_keys_in_a_core_dump(tmp_path: Path) -> None:
    with crashing(tmp_path, *COMMAND, "head", "--home", str(tmp_path), "--tcp", "") as head:
        assert head.stdout is not None
        assert head.stdout.readline()
        assert not leaves_core(head)


def test_an_agent_that_crashes_leaves_no_keys_in_a_core_dump(home: Path, head: Head, tmp_path: Path) -> None:
    words = (*COMMAND, "agent", "--home", str(home), "--name", "n1", "--devices", "none")
    with crashing(tmp_path, *words, "--head", head.address) as agent, head.client() as client:
        until(lambda: bool(client.nodes.list()), "the agent to be there")
        assert not leaves_core(agent)


def test_what_shims_are_forked_from_leaves_no_tokens_in_a_core_dump(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        words = (sys.executable, "-I", "-S", "-c", BOOTSTRAP, str(SOURCE_ROOT), str(theirs.fileno()))
        with crashing(tmp_path, *words, pass_fds=(theirs.fileno(),), stderr=subprocess.DEVNULL) as zygote:
            ours.send(os.fsencode(tmp_path / "no-attempt"))
            assert ours.recv(100).isdigit()
            assert not leaves_core(zygote)
