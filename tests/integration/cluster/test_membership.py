"""Agents of other machines join with a token, are known by a certificate, renew it, and are thrown out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import facts
from gpusched_cli import COMMAND, Ran, gpusched
from live import output, shell

import gpusched as gpusched_package
from benchmarks.cluster import tail, temporary_home, until
from gpusched.agent.membership import IdentityFolder, Wish
from gpusched.cli.exit_codes import ExitCode
from gpusched.domain.errors import HeadUnavailable, NotPermitted
from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.job_state import JobState
from gpusched.domain.link import Hello
from gpusched.domain.membership import CertificateGiven
from gpusched.wire.address import parse_address
from gpusched.wire.agent_link import connect_member
from gpusched.wire.client import Client
from gpusched.wire.joining import ask_trust

SOURCE = Path(gpusched_package.__file__).parents[1]
CONFIG = """
cluster = "lab"
[listen]
tcp = "127.0.0.1:0"
agents = "127.0.0.1:0"
[identity]
certificate_lifetime_s = {lifetime_s}
"""


# A rank looks at its own job over TLS, at another one, and tries to act as its owner.
CALLS_BACK = f"""
PYTHONPATH={SOURCE} exec {sys.executable} - <<'END'
import os
from pathlib import Path
from gpusched.domain.errors import NotPermitted
from gpusched.wire.client import Client
token = Path(os.environ["GPUSCHED_RANK_TOKEN_FILE"]).read_text()
own = int(os.environ["GPUSCHED_JOB_ID"])
with Client(token=token) as client:
    for call in (lambda: client.jobs.get(own).job.state.value, lambda: client.jobs.get(own + 1),
                 lambda: client.jobs.cancel(own)):
        try:
            print(call())
        except NotPermitted as refused:
            print(type(refused).__name__)
END
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A head that hears agents of other machines, as far as it can tell."""

    home: Path
    tcp: str
    fingerprint: str

    def join_token(self, *words: str) -> str:
        ran = gpusched("node", "join-token", *words, home=self.home)
        assert ran.code == ExitCode.OK, ran
        return ran.out.strip()

    def client(self) -> Client:
        return Client(f"unix://{self.home}/head.sock")


@contextmanager
def running_cluster(lifetime_s: int = 86_400) -> Iterator[Cluster]:
    with temporary_home() as home:
        (home / "config.toml").write_text(CONFIG.format(lifetime_s=lifetime_s))
        made = gpusched("ca", "init", home=home)
        assert made.code == ExitCode.OK, made
        with (home / "head.log").open("wb") as log:
            head = subprocess.Popen(
                [*COMMAND, "head", "--home", str(home)], stdout=subprocess.PIPE, stderr=log
            )
        assert head.stdout is not None
        try:
            words = head.stdout.readline().decode().split()
            assert words, tail(home / "head.log")
            yield Cluster(home, words[-1], made.out.split()[-1])
        finally:
            head.terminate()
            head.wait()
            head.stdout.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


def agent_words(cluster: Cluster, home: Path, name: str, *more: str) -> list[str]:
    given = ("--home", str(home), "--name", name, "--head", cluster.tcp, "--devices", "4xH100", "--cpus", "8")
    return ["agent", *given, *more]


@contextmanager
def member(
    cluster: Cluster, home: Path, name: str, *more: str, token: str | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A running agent that knows of the cluster what its command line says, and nothing of its home."""
    words = agent_words(cluster, home, name, *more)
    if token is not None:
        words += ["--join", "env", "--ca-fingerprint", cluster.fingerprint]
    environment = {**os.environ, "GPUSCHED_JOIN_TOKEN": token or "", "GPUSCHED_HOME": str(home)}
    home.mkdir(exist_ok=True)
    with (home / "agent.log").open("ab") as log:
        agent = subprocess.Popen([*COMMAND, *words], env=environment, stderr=log, stdout=log)
    try:
        yield agent
    finally:
        agent.terminate()
        agent.wait()


def tried(cluster: Cluster, home: Path, name: str, token: str, fingerprint: str | None = None) -> Ran:
    """An agent that is expected to be refused."""
    file = home / "token"
    file.write_text(token)
    words = ("--join", str(file), "--ca-fingerprint", fingerprint or cluster.fingerprint)
    return gpusched(*agent_words(cluster, home, name, *words), home=home)


def until_up(client: Client, *names: str) -> None:
    def is_up() -> bool:
        return set(names) <= {view.node.name for view in client.nodes.list() if view.node.reachable}

    until(is_up, f"{names} to be up")


def test_a_node_joins_runs_a_job_and_comes_back_without_a_token(cluster: Cluster, tmp_path: Path) -> None:
    token = cluster.join_token("--node", "n1")
    with cluster.client() as client:
        with member(cluster, tmp_path, "n1", token=token):
            until_up(client, "n1")
            assert output(client, client.jobs.submit(shell("echo hello"))) == "hello\n"
            assert (
                output(client, client.jobs.submit(shell(CALLS_BACK)))
                == "RUNNING\nNotPermitted\nNotPermitted\n"
            )
        with member(cluster, tmp_path, "n1"):
            job_id = client.jobs.submit(shell("echo again"))
            assert client.jobs.wait(job_id).job.state is JobState.COMPLETED
    identity = tmp_path / "agents" / "n1" / "identity"
    assert identity.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o777 for path in identity.iterdir()} == {
        "node.pem": 0o600,
        "trusted.pem": 0o600,
    }


def test_a_token_is_good_once_and_for_its_node(cluster: Cluster, tmp_path: Path) -> None:
    token = cluster.join_token("--node", "n2")
    for name, home in (("n3", tmp_path / "n3"), ("n1", tmp_path / "n1")):
        home.mkdir()
        ran = tried(cluster, home, name, token)
        assert (ran.code, f"not for node {name}" in ran.err) == (ExitCode.NOT_PERMITTED, True), ran
    with cluster.client() as client, member(cluster, tmp_path / "n2", "n2", token=token):
        until_up(client, "n2")
        (tmp_path / "thief").mkdir()
        ran = tried(cluster, tmp_path / "thief", "n2", token)
    assert (ran.code, "used before" in ran.err) == (ExitCode.NOT_PERMITTED, True), ran
    assert not (tmp_path / "thief" / "agents" / "n2" / "identity").exists()


def test_a_token_for_any_node_lets_nobody_take_a_members_name(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.client() as client:
        with member(cluster, tmp_path / "a", "n4", token=cluster.join_token()):
            until_up(client, "n4")
        (tmp_path / "b").mkdir()
        ran = tried(cluster, tmp_path / "b", "n4", cluster.join_token())
        assert (ran.code, "n4 is a member already" in ran.err) == (ExitCode.NOT_PERMITTED, True), ran
        assert gpusched("ca", "revoke", "n4", home=cluster.home).code == ExitCode.OK
        with member(cluster, tmp_path / "b", "n4", token=cluster.join_token()):
            until_up(client, "n4")


@pytest.mark.parametrize(
    ("token", "said"), [("gpj-guessed", "none of this cluster's"), ("x" * 300, "none of this cluster's")]
)
def test_a_guessed_token_lets_nobody_in(cluster: Cluster, tmp_path: Path, token: str, said: str) -> None:
    ran = tried(cluster, tmp_path, "n5", token)
    assert (ran.code, said in ran.err) == (ExitCode.NOT_PERMITTED, True), ran


def test_a_join_token_that_cannot_be_read_ends_the_agent_at_once(cluster: Cluster, tmp_path: Path) -> None:
    pinned = ("--join", "/nowhere", "--ca-fingerprint", "sha256:" + "0" * 64)
    ran = gpusched(*agent_words(cluster, tmp_path, "n5"), *pinned, home=tmp_path)
    said = ran.err.splitlines()
    assert (ran.code, len(said)) == (ExitCode.BROKEN, 1), ran
    assert "the join token in /nowhere cannot be read" in said[0]


def test_a_head_whose_ca_is_another_gets_no_token(cluster: Cluster, tmp_path: Path) -> None:
    token = cluster.join_token("--node", "n6")
    ran = tried(cluster, tmp_path, "n6", token, fingerprint="sha256:" + "0" * 64)
    assert (ran.code, "somebody else may answer" in ran.err) == (ExitCode.NOT_PERMITTED, True), ran
    with cluster.client() as client, member(cluster, tmp_path, "n6", token=token):
        until_up(client, "n6")  # it was not spent


def test_a_revoked_node_is_cut_off_and_does_not_come_back(cluster: Cluster, tmp_path: Path) -> None:
    with (
        cluster.client() as client,
        member(cluster, tmp_path, "n7", token=cluster.join_token("--node", "n7")) as agent,
    ):
        until_up(client, "n7")
        ran = gpusched("ca", "revoke", "n7", home=cluster.home)
        assert ran.out == "Node n7: 1 certificate revoked\n"
        agent.wait(timeout=30)
    assert "was revoked" in (tmp_path / "agent.log").read_text().splitlines()[-1]
    ran = gpusched(*agent_words(cluster, tmp_path, "n7"), home=tmp_path)
    assert (ran.code, "was revoked" in ran.err) == (ExitCode.NOT_PERMITTED, True), ran


def test_certificates_change_many_times_under_a_job_that_notices_nothing(tmp_path: Path) -> None:
    with (
        running_cluster(lifetime_s=12) as cluster,
        cluster.client() as client,
        member(cluster, tmp_path, "n1", token=cluster.join_token()),
    ):
        until_up(client, "n1")
        job_id = client.jobs.submit(shell("for i in $(seq 120); do echo $i; sleep 0.1; done"))
        log = tmp_path / "agent.log"
        until(lambda: "certificate renewed" in log.read_text(), "a new certificate")
        rotated = gpusched("ca", "rotate", home=cluster.home)
        assert rotated.code == ExitCode.OK, rotated
        assert client.jobs.wait(JobId(job_id)).job.state is JobState.COMPLETED
        assert output(client, job_id) == "".join(f"{n}\n" for n in range(1, 121))
        view = client.jobs.get(job_id)
        assert view.job.attempt is not None and view.job.attempt.epoch == 1
        assert "trying again" not in log.read_text(), "each renewal waited longer than the one before"


def test_a_node_that_is_no_member_is_told_how_to_become_one(cluster: Cluster, tmp_path: Path) -> None:
    words = (
        "agent",
        "--home",
        str(tmp_path),
        "--name",
        "n9",
        "--devices",
        "none",
        "--head",
        "192.0.2.1:7460",
    )
    ran = gpusched(*words, home=tmp_path)
    assert (ran.code, "--join" in ran.err) == (ExitCode.NOT_PERMITTED, True), ran


@pytest.mark.parametrize(("version", "is_served"), [("-tls1_2", False), ("-tls1_3", True)])
def test_tls_1_3_is_spoken_and_no_older(cluster: Cluster, version: str, is_served: bool) -> None:
    words = ("openssl", "s_client", "-connect", cluster.tcp, "-alpn", "h2", version)
    said = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, check=False).stdout
    assert (b"Cipher is TLS_" in said, b"Cipher is (NONE)" in said) == (is_served, not is_served), said


async def test_where_agents_are_heard_nobody_is_without_a_certificate(cluster: Cluster) -> None:
    tcp = parse_address(cluster.tcp)
    trust = await ask_trust(tcp, None)
    assert trust.agents_port is not None
    door = tcp.with_port(trust.agents_port)
    token = gpusched("token", home=cluster.home).out.strip()
    ca = cluster.home / "ca" / "trusted.pem"
    for shown in (token, "forged"):
        with Client(door.text, token=shown, ca_file=ca, retry_s=0) as client, pytest.raises(HeadUnavailable):
            client.nodes.list()
    with Client(cluster.tcp, token=token, ca_file=ca) as client:
        client.nodes.list()


async def test_a_certificate_opens_the_stream_of_its_own_node_alone(cluster: Cluster, tmp_path: Path) -> None:
    with cluster.client() as client, member(cluster, tmp_path, "n8", token=cluster.join_token()):
        until_up(client, "n8")
    held = IdentityFolder(tmp_path / "agents" / "n8").read()
    assert held is not None
    tcp = parse_address(cluster.tcp)
    trust = await ask_trust(tcp, held.trusted)
    assert trust.agents_port is not None
    door = tcp.with_port(trust.agents_port)
    async with connect_member(door, trusted=held.trusted, key=held.key, chain=held.chain) as link:
        await link.send(Hello(facts("n1"), ()))
        with pytest.raises(NotPermitted, match="for node 'n8', not for 'n1'"):
            await anext(aiter(link))
    stranger = Wish(NodeName("n8")).granted(CertificateGiven(held.chain, held.trusted))  # another's key
    with pytest.raises(HeadUnavailable):
        async with connect_member(door, trusted=held.trusted, key=stranger.key, chain=held.chain) as link:
            await link.send(Hello(facts("n8"), ()))
            await anext(aiter(link))
