"""Who may do what, on real processes: strangers, forged tokens, other users' jobs, agents that lie."""

from __future__ import annotations

import datetime
import json
import math
import os
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import grpc
import jwt
import pytest
from cluster import facts
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from gpusched_cli import COMMAND, gpusched, state_of
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from live import output, shell
from stranger import GID, UID, stranger_token

from benchmarks.cluster import Head, running_agents, tail, temporary_home, until
from gpusched.api.auth import AUDIENCE, RANK_AUDIENCE
from gpusched.api.token_keys import key_id, load_or_create_key
from gpusched.cli.exit_codes import ExitCode
from gpusched.domain.errors import (
    GpuschedError,
    HeadUnavailable,
    InvalidSpec,
    NotPermitted,
    Unauthenticated,
    WrongState,
)
from gpusched.domain.events import JobEnded, JobSubmitted, TaskFailed, TasksEnded, TasksStarted
from gpusched.domain.history import Mark
from gpusched.domain.identity import Role
from gpusched.domain.ids import DeviceUuid, JobId, NodeName
from gpusched.domain.job import TaskExit
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.link import Heartbeat, Hello, LeaseRenewed, Report, ReportTaken, Welcome
from gpusched.domain.node import NodeFacts, PeerLink
from gpusched.domain.telemetry import DeviceSample, DeviceUse, NodeSample, NodeUse
from gpusched.wire.address import parse_address
from gpusched.wire.agent_link import connect_agent
from gpusched.wire.client import Client
from gpusched.wire.methods import METHODS, PUBLIC

Key = ec.EllipticCurvePrivateKey
IS_ROOT = os.geteuid() == 0
N1 = NodeName("n1")


@dataclass(frozen=True, slots=True)
class Serving:
    """A head that listens on a unix socket and on TCP."""

    home: Path
    unix: str
    tcp: str
    process: subprocess.Popen[bytes]


@contextmanager
def serving(home: Path, config: str = "") -> Iterator[Serving]:
    """A head with a home that it makes itself, on a free TCP port."""
    config_file = home.with_name("config.toml")
    config_file.write_text(config)
    argv = [*COMMAND, "head", "--home", str(home), "--config", str(config_file), "--tcp", "localhost:0"]
    log = home.with_name("head.log")
    with log.open("wb") as stream:
        head = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=stream)
    assert head.stdout is not None
    try:
        words = head.stdout.readline().decode().split()
        assert words, f"the head did not start: {tail(log)}"
        yield Serving(home, words[-2], words[-1], head)
    finally:
        head.terminate()
        head.wait()
        head.stdout.close()


@pytest.fixture(scope="module")
def head() -> Iterator[Serving]:
    with temporary_home() as above:
        above.chmod(0o711)  # as /home is: others pass through
        with serving(above / "h") as running:
            yield running


@pytest.fixture(scope="module")
def owner(head: Serving) -> Iterator[Client]:
    """The head's own user, with one node that runs jobs."""
    options = ("--devices", "4xH100", "--cpus", "16")
    with running_agents(Head(head.home), ("n1",), *options), Client(head.unix) as client:
        yield client


@pytest.fixture(scope="module")
def stranger(head: Serving, owner: Client) -> Iterator[Client]:
    with Client(head.unix, token=stranger_token(head.home)) as client:
        yield client


# ── without credentials, and with false ones ──────────────────────────────────────────


def status_of(address: str, path: str, request: type, reply: type, token: str | None) -> grpc.StatusCode:
    """What an empty request is answered with. OK as soon as there is any reply."""
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(parse_address(address).target) as channel:
        call = channel.stream_stream(path, lambda message: message.SerializeToString(), reply.FromString)
        try:
            next(call(iter([request()]), metadata=metadata, timeout=30))
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK


REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
EVERY_RPC = {path: (method.request, method.reply) for path, method in METHODS.items()} | {
    REFLECTION: (reflection_pb2.ServerReflectionRequest, reflection_pb2.ServerReflectionResponse)
}


@pytest.mark.parametrize("transport", ["unix", "tcp"])
def test_without_credentials_nothing_but_health_answers(head: Serving, transport: str) -> None:
    address = getattr(head, transport)
    closed = {path: shape for path, shape in EVERY_RPC.items() if path not in PUBLIC}
    codes = {path: status_of(address, path, *shape, None) for path, shape in closed.items()}
    assert set(codes.values()) == {grpc.StatusCode.UNAUTHENTICATED}, codes
    with grpc.insecure_channel(parse_address(address).target) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def forgeries(head: Serving) -> dict[str, str]:
    """Tokens that must not hold, each wrong in one way."""
    key = load_or_create_key(head.home / "token.key")
    now_s = int(time.time())
    good = {
        "iss": "gpusched",
        "aud": AUDIENCE,
        "sub": str(os.geteuid()),
        "gid": 0,
        "roles": [Role.USER],
        "iat": now_s,
        "exp": now_s + 900,
    }
    named = {"kid": key_id(key)}

    def signed_by(signer: object, claims: dict[str, object], algorithm: str = "EdDSA") -> str:
        return jwt.encode(claims, signer, algorithm=algorithm, headers=named)  # type: ignore[arg-type]

    assert status_with(head, signed_by(key, good)) is grpc.StatusCode.OK
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    head_, body, signature = stranger_token(head.home).split(".")
    other_key = Ed25519PrivateKey.generate()
    other = signed_by(other_key, {**good, "roles": [Role.OPERATOR]})
    rank_claims = {**good, "job": 1, "epoch": 1, "node": "n1", "rank": 0}
    secret = {"a public key as a secret": public, "a guess as a secret": b"x" * 32}
    return {
        "expired": signed_by(key, {**good, "exp": now_s - 1}),
        "that ended long ago": signed_by(key, {**good, "exp": 0}),
        "without an end": signed_by(key, {k: v for k, v in good.items() if k != "exp"}),
        "without a subject": signed_by(key, {k: v for k, v in good.items() if k != "sub"}),
        "unsigned": signed_by(None, good, "none"),
        "by another key under our name": signed_by(other_key, good),
        "without a key's name": jwt.encode(good, key, algorithm="EdDSA"),
        "of a key nobody knows": jwt.encode(good, key, algorithm="EdDSA", headers={"kid": "../token.key"}),
        **{f"by {name}": signed_by(value, good, "HS256") for name, value in secret.items()},
        "for another audience": signed_by(key, {**good, "aud": "others"}),
        "without an audience": signed_by(key, {k: v for k, v in good.items() if k != "aud"}),
        "of another cluster": signed_by(key, {**good, "iss": "others"}),
        "with an unknown role": signed_by(key, {**good, "roles": ["god"]}),
        "of a rank for the people's audience": signed_by(key, {**rank_claims, "roles": [Role.RANK]}),
        "of a person for the ranks' audience": signed_by(key, {**rank_claims, "aud": RANK_AUDIENCE}),
        "of a person and a rank": signed_by(
            key, {**rank_claims, "aud": RANK_AUDIENCE, "roles": [Role.RANK, Role.USER]}
        ),
        "of a rank of a job that never was": signed_by(
            key, {**rank_claims, "job": 10**9, "aud": RANK_AUDIENCE, "roles": [Role.RANK]}
        ),
        "of a node without its name": signed_by(key, {**good, "roles": [Role.NODE]}),
        "with another's body": f"{head_}.{other.split('.')[1]}.{signature}",
        "with a signature cut": f"{head_}.{body}.{signature[:-4]}",
        "without a signature": f"{head_}.{body}.",
        "not a token": "x",
    }


def status_with(head: Serving, token: str) -> grpc.StatusCode:
    path = "/gpusched.v1.NodeService/ListNodes"
    return status_of(head.tcp, path, *EVERY_RPC[path], token)


def test_tokens_that_do_not_hold_reach_nothing(head: Serving) -> None:
    codes = {name: status_with(head, token) for name, token in forgeries(head).items()}
    assert set(codes.values()) == {grpc.StatusCode.UNAUTHENTICATED}, codes


def test_reflection_answers_who_has_a_token(head: Serving) -> None:
    token = gpusched("token", home=head.home).out.strip()
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    for address in (head.unix, head.tcp):
        with grpc.insecure_channel(parse_address(address).target) as channel:
            ask = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo
            (answer,) = ask(iter([request]), metadata=(("authorization", f"Bearer {token}"),))
        names = {service.name for service in answer.list_services_response.service}
        assert {path.split("/")[1] for path in METHODS} < names


# ── another user ──────────────────────────────────────────────────────────────────────


def test_a_stranger_sees_that_a_job_is_and_not_what_it_is_told(owner: Client, stranger: Client) -> None:
    secret = "sesame-4711"
    script = f"#!/bin/sh\n# {secret}\necho {secret} says $WORD; exit 3\n"
    spec = replace(shell("true"), command=(), script=script, env=(("WORD", secret),), comment=secret)
    job_id = owner.jobs.submit(replace(spec, setup=(f"true {secret}",)))
    assert owner.jobs.wait(job_id).job.state is JobState.FAILED
    assert secret in output(owner, job_id)

    view = stranger.jobs.get(job_id)
    listed = next(each for each in stranger.jobs.list() if each.job.job_id == job_id)
    events = list(stranger.jobs.watch((job_id,)))
    told = repr((view, listed, events, stranger.jobs.explain(job_id), stranger.nodes.list()))
    assert secret not in told
    assert view.plan is None
    assert (view.job.state, view.job.owner, view.job.spec.nodes) == (JobState.FAILED, listed.job.owner, 1)
    assert {JobSubmitted, TaskFailed, JobEnded} <= {type(recorded.event) for recorded in events}
    with pytest.raises(NotPermitted, match="only its owner or an operator"):
        list(stranger.jobs.logs(job_id))


def test_a_stranger_changes_nothing_that_is_not_its_own(owner: Client, stranger: Client) -> None:
    held = owner.jobs.submit(shell("true", hold=True))
    running = owner.jobs.submit(shell("sleep 300"))
    until(lambda: owner.jobs.get(running).job.state is JobState.RUNNING, "the job to run")
    before = state_of(owner)
    for refused in (
        lambda: stranger.jobs.cancel(running),
        lambda: stranger.jobs.requeue(running),
        lambda: stranger.jobs.hold(held),
        lambda: stranger.jobs.release(held),
        lambda: stranger.nodes.cordon(N1, "mine"),
        lambda: stranger.nodes.drain(N1, "mine"),
        lambda: stranger.nodes.resume(N1),
    ):
        with pytest.raises(NotPermitted):
            refused()
    assert state_of(owner) == before
    owner.jobs.cancel(held)
    owner.jobs.cancel(running)
    owner.jobs.wait(running)


def test_a_stranger_plans_to_move_no_job_of_others(owner: Client, stranger: Client) -> None:
    gpus = max(len(view.node.facts.devices) for view in owner.nodes.list())
    whole = shell("sleep 300", gpus_per_node=gpus, nodes=len(owner.nodes.list()), requeue=True)
    running = owner.jobs.submit(whole)
    until(lambda: owner.jobs.get(running).job.state is JobState.RUNNING, "the job to run")
    wanted = replace(whole, gpus_per_node=1, nodes=1)
    assert stranger.jobs.plan_defrag(wanted).message.startswith("no plan found: moving 0 jobs")
    waiting = owner.jobs.submit(wanted)
    with pytest.raises(NotPermitted, match="only its owner or an operator"):
        stranger.jobs.plan_defrag(waiting)
    for job_id in (waiting, running):
        owner.jobs.cancel(job_id)
        owner.jobs.wait(job_id)


def test_a_stranger_on_the_command_line_is_told_no(head: Serving, owner: Client) -> None:
    job_id = owner.jobs.submit(shell("true", hold=True))
    settings = {"GPUSCHED_TOKEN": stranger_token(head.home)}
    for words in (("cancel", str(job_id)), ("logs", str(job_id)), ("node", "drain", "n1", "-m", "x")):
        ran = gpusched(*words, home=head.home, settings=settings)
        assert ran.code == ExitCode.NOT_PERMITTED, ran
        assert ran.err.startswith("gpusched: error: "), ran
    owner.jobs.cancel(job_id)


def test_a_stranger_gets_no_token_for_a_node(head: Serving) -> None:
    with pytest.raises(NotPermitted, match="may not run an agent"):
        stranger_token(head.home, N1)


async def test_nobody_serves_a_node_with_a_users_token(head: Serving) -> None:
    async with connect_agent(parse_address(head.unix), N1, token=stranger_token(head.home)) as link:
        with pytest.raises(NotPermitted):
            await anext(aiter(link))


def test_an_agent_that_the_head_does_not_take_ends_and_says_why(head: Serving, tmp_path: Path) -> None:
    settings = {"GPUSCHED_TOKEN": stranger_token(head.home)}
    words = ("agent", "--home", str(tmp_path), "--name", "n9", "--devices", "none", "--head", head.unix)
    ran = gpusched(*words, settings=settings)
    assert ran.code == ExitCode.NOT_PERMITTED
    assert ran.err.splitlines()[-1].startswith("gpusched: error: Connect needs the role")


def test_what_the_head_keeps_is_its_users_alone(head: Serving, owner: Client) -> None:
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in head.home.iterdir()}
    assert stat.S_IMODE(head.home.stat().st_mode) == 0o711
    assert modes["token.key"] == 0o600
    assert {modes[name] for name in modes if name.startswith("gpusched.db")} == {0o600}
    assert stat.S_IMODE((head.home / "agents" / "n1").stat().st_mode) == 0o700


# ── jobs of another user ──────────────────────────────────────────────────────────────


def test_a_job_runs_as_its_owner_or_not_at_all(head: Serving, stranger: Client, tmp_path: Path) -> None:
    keys = f"{head.home}/token.key {head.home}/gpusched.db"
    script = f"id -u; id -g; id -G; cat {keys} && echo read; ls {head.home}/agents/n1 && echo listed; sudo id"
    job_id = stranger.jobs.submit(shell(script))
    job = stranger.jobs.wait(job_id).job
    if not IS_ROOT:  # an agent that is not root serves its own user alone, and says so
        assert (job.state, job.end_reason) == (JobState.FAILED, EndReason.LAUNCH_FAILED)
        assert "run the agent as root" in (job.end_detail or "")
        return
    said = output(stranger, job_id).splitlines()
    assert said[:3] == [str(UID), str(GID), str(GID)]
    assert sum("Permission denied" in line for line in said) == 3
    assert not {"read", "listed"} & set(said)
    # A script is read through an open file: its owner cannot walk into the agent's folder.
    scripted = stranger.jobs.submit(replace(shell("x"), command=(), script="#!/bin/bash\nid -u; id -G\n"))
    assert output(stranger, scripted) == f"{UID}\n{GID}\n"
    assert owner_of_files_in(head.home / "agents/n1/attempts" / f"{scripted}.1" / "logs") == {0}


def owner_of_files_in(folder: Path) -> set[int]:
    return {path.stat().st_uid for path in folder.rglob("*")}


def test_a_folder_that_the_owner_may_not_enter_fails_the_launch(
    head: Serving, owner: Client, stranger: Client
) -> None:
    client, forbidden = (stranger, head.home / "agents" / "n1") if IS_ROOT else (owner, Path("/root"))
    job = client.jobs.wait(client.jobs.submit(shell("true", workdir=str(forbidden)))).job
    assert (job.state, job.end_reason) == (JobState.FAILED, EndReason.LAUNCH_FAILED)
    detail = job.end_detail or ""
    assert f"workdir {forbidden} on node n1: Permission denied" in detail
    assert "may enter" in detail


# ── beyond this machine ───────────────────────────────────────────────────────────────


def signed(subject: str, issuer: str, key: Key, by: Key, extension: x509.ExtensionType) -> bytes:
    """A certificate of an hour, PEM."""
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]) for name in (subject, issuer)]
    certificate = (
        x509.CertificateBuilder(*reversed(names), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(extension, critical=False)
        .sign(by, hashes.SHA256())
    )
    return certificate.public_bytes(Encoding.PEM)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A CA, a certificate that it signed for localhost, that one's key; another CA and another key."""
    ca_key, key, other_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    is_ca = x509.BasicConstraints(ca=True, path_length=0)
    here = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    files = {
        "ca.pem": signed("our CA", "our CA", ca_key, ca_key, is_ca),
        "other-ca.pem": signed("other CA", "other CA", other_key, other_key, is_ca),
        "cert.pem": signed("localhost", "our CA", key, ca_key, here),
        "key.pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "other-key.pem": other_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def test_tls_serves_who_trusts_its_ca_and_nobody_in_the_clear(certificates: Path) -> None:
    config = f'[listen]\ntls_cert = "{certificates}/cert.pem"\ntls_key = "{certificates}/key.pem"\n'
    with temporary_home() as above, serving(above / "h", config) as head:
        token = gpusched("token", home=head.home).out.strip()
        settings = {"GPUSCHED_ADDRESS": head.tcp, "GPUSCHED_TOKEN": token}
        trusting = {**settings, "GPUSCHED_CA_FILE": str(certificates / "ca.pem")}
        ran = gpusched("nodes", "--json", settings=trusting)
        assert (ran.code, json.loads(ran.out)) == (ExitCode.OK, []), ran
        with Client(head.tcp, token=token, retry_s=0.1) as clear, pytest.raises(GpuschedError):
            clear.nodes.list()
        other_ca = certificates / "other-ca.pem"
        with (
            Client(head.tcp, token=token, ca_file=other_ca, retry_s=0.1) as wrong,
            pytest.raises(HeadUnavailable, match="a certificate of no CA that is trusted here"),
        ):
            wrong.nodes.list()
        ran = gpusched("nodes", settings={**settings, "GPUSCHED_CA_FILE": str(other_ca)})
        assert (ran.code, len(ran.err.splitlines())) == (ExitCode.UNAVAILABLE, 1), ran  # none of gRPC's words


def test_tls_files_that_do_not_belong_together_are_refused(certificates: Path) -> None:
    config = f'[listen]\ntls_cert = "{certificates}/cert.pem"\ntls_key = "{certificates}/other-key.pem"\n'
    with temporary_home() as home:
        (home / "config.toml").write_text(config)
        ran = gpusched("head", "--home", str(home), "--tcp", "localhost:0")
    assert ran.code == ExitCode.BROKEN
    assert "certificate and its key" in ran.err.splitlines()[-1]


# ── agents that lie ───────────────────────────────────────────────────────────────────


LIES: dict[str, NodeFacts] = {
    "no memory": replace(facts("n7"), memory_bytes=-1),
    "a CPU beyond all bounds": replace(facts("n7"), cpu_ids=(0, 2**62)),
    "a CPU below zero": replace(facts("n7"), cpu_ids=(-1,)),
    "a device twice": replace(facts("n7"), devices=facts("n7").devices[:1] * 2),
    "a NUL in a model": replace(facts("n7", model="H100\0")),
    "a label that steers a terminal": replace(facts("n7"), labels=(("rack", "\x1b[2J"),)),
    "an address on two lines": replace(facts("n7"), address="a\nb"),
    "too many devices": facts("n7", gpus=5000),
    "too many labels": replace(facts("n7"), labels=tuple((f"l{n}", "x") for n in range(300))),
    "too many neighbours of a device": replace(
        facts("n7"),
        devices=(
            replace(facts("n7").devices[0], peers=(PeerLink(DeviceUuid("GPU-x"), 0, 0, None),) * 1_025),
        ),
    ),
}


@pytest.mark.parametrize("lie", LIES)
async def test_facts_that_no_machine_has_are_refused(lie: str, head: Serving, owner: Client) -> None:
    async with connect_agent(parse_address(head.unix), NodeName("n7")) as link:
        await link.send(Hello(LIES[lie], ()))
        with pytest.raises(InvalidSpec):
            await anext(aiter(link))
    assert [view.node.name for view in owner.nodes.list()] == ["n1"]


@pytest.mark.parametrize("name", ["n\0", "../n7", "n 7", "", "n" * 300, "\udcff"])
async def test_a_name_that_is_none_gets_no_token(name: str, head: Serving) -> None:
    with pytest.raises((NotPermitted, Unauthenticated)):
        async with connect_agent(parse_address(head.unix), NodeName(name)):
            pass


async def test_numbers_that_are_none_are_taken_out_and_the_stream_goes_on(head: Serving) -> None:
    nan, inf = math.nan, math.inf
    with temporary_home() as above, serving(above / "h") as quiet, Client(quiet.unix) as client:
        async with connect_agent(parse_address(quiet.unix), NodeName("n7")) as link:
            await link.send(Hello(facts("n7"), ()))
            replies = aiter(link)
            await anext(replies)
            until(lambda: len(client.nodes.list()) == 1, "the node")
            job_id = client.jobs.submit(shell("true", gpus_per_node=1))
            until(lambda: client.jobs.get(job_id).job.attempt is not None, "the grant")
            gpu = DeviceUuid("GPU-n7-0")
            cards = (DeviceSample(uuid=gpu, busy_percent=nan, power_w=-inf, temperature_c=inf, energy_j=5.0),)
            sample = NodeSample(
                node=NodeName("n7"), sampled_at_us=1, load_1m=nan, cpu_percent=inf, devices=cards
            )
            await link.send(Heartbeat(1, sample))
            uses = (DeviceUse(uuid=gpu, busy_s=nan, energy_j=-inf),)
            of = {"job_id": job_id, "epoch": 1, "node": NodeName("n7")}
            exited = TaskExit(0, 3, None)
            lines = ("a\0b", b"\xff\xfe".decode(errors="replace"), "x" * 100_000)
            reports = (
                TasksStarted(**of, pids=(1,)),
                TaskFailed(**of, exit=exited, last_lines=lines),
                TasksEnded(
                    **of,
                    exits=(exited,),
                    cause=None,
                    detail="a\0" + "b" * 100_000,
                    use=NodeUse(wall_s=nan, cpu_s=inf, devices=uses),
                ),
            )
            for number, report in enumerate(reports, 1):
                await link.send(Report(number, report))
            taken = []
            while len(taken) < len(reports):
                if isinstance(reply := await anext(replies), ReportTaken):
                    taken.append(reply.report_id)
            seen = client.nodes.list()[0].sample
            view = client.jobs.get(job_id)
            assert client.jobs.submit(shell("true", hold=True)) == JobId(job_id + 1)
        assert seen is not None
        assert (seen.load_1m, seen.cpu_percent) == (None, None)
        assert seen.devices[0] == DeviceSample(uuid=gpu, energy_j=5.0)
        assert view.job.state is JobState.FAILED
        assert view.uses == (("n7", NodeUse(wall_s=0.0, devices=(DeviceUse(uuid=gpu),))),)
        assert len(view.job.end_detail or "") < 50_000
        assert client.reports.usage()
        assert gpusched("cost", "--json", home=quiet.home).code == ExitCode.OK
        assert gpusched("nodes", "--json", home=quiet.home).code == ExitCode.OK


@pytest.mark.parametrize("token", ["made-up", "made-up.c2VhbA=="])
async def test_a_node_that_makes_up_what_it_has_seen_stops_nobody(token: str) -> None:
    """A mark that the database does not know suspends the cluster, so it must be one that a head gave."""
    options = ("--devices", "none", "--cpus", "2")
    with (
        temporary_home() as above,
        serving(above / "h") as quiet,
        Client(quiet.unix) as client,
        running_agents(Head(quiet.home), ("n1",), *options),
    ):
        async with connect_agent(parse_address(quiet.unix), NodeName("n7")) as link:
            await link.send(Hello(facts("n7"), (), Mark(9, token, 10**6, JobId(10**6))))
            assert isinstance(await anext(aiter(link)), Welcome)
            job_id = client.jobs.submit(shell("true", nodelist=(N1,)))
            assert client.jobs.wait(job_id).job.state is JobState.COMPLETED
    assert job_id == 1


def test_a_home_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """Who can write a head's home can answer in its place; an agent's, have it run what they like."""
    home = tmp_path / "h"
    home.mkdir()
    home.chmod(0o777)
    agent = ("agent", "--name", "n7", "--devices", "none", "--head", f"unix://{home}/head.sock")
    (home / "agents" / "n7").mkdir(parents=True)
    (home / "agents" / "n7").chmod(0o770)
    for words in (("head", "--home", str(home)), (*agent, "--home", str(home))):
        ran = gpusched(*words)
        assert (ran.code, "may be written by others" in ran.err) == (ExitCode.BROKEN, True), ran
    if not IS_ROOT:
        return
    home.chmod(0o755)
    os.chown(home, UID, GID)
    os.chown(home / "agents" / "n7", UID, GID)
    (home / "agents" / "n7").chmod(0o700)
    os.chown(home, 0, 0)
    ran = gpusched(*agent, "--home", str(home))
    assert (ran.code, f"belongs to uid {UID}" in ran.err) == (ExitCode.BROKEN, True), ran


async def test_of_two_agents_of_one_name_the_older_is_told_why_it_is_cut_off() -> None:
    with temporary_home() as above, serving(above / "h") as quiet:
        address, node = parse_address(quiet.unix), NodeName("n7")
        async with connect_agent(address, node) as older, connect_agent(address, node) as newer:
            hears = {}
            for link in (older, newer):
                await link.send(Hello(facts("n7"), ()))
                hears[link] = aiter(link)
                assert isinstance(await anext(hears[link]), Welcome)
            with pytest.raises(WrongState, match="another agent has connected as node n7"):
                await anext(hears[older])
            await newer.send(Heartbeat(5, NodeSample(node=node, sampled_at_us=1)))
            renewed = await anext(hears[newer])
            assert isinstance(renewed, LeaseRenewed) and renewed.seq == 5
