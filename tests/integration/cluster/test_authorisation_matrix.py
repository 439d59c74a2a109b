"""S1: every RPC × every subject × an object of its own, of another, and none; from the descriptors.

What is expected is written here once more, by hand: the table in the source is what is on trial.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from live import shell
from stranger import GID, UID, stranger_token

from benchmarks.cluster import Head, running_agents, running_head, temporary_home, until
from gpusched.api.auth import TokenAuthority
from gpusched.api.token_keys import TokenKeys
from gpusched.daemon.clock import SystemClock
from gpusched.domain.identity import Identity, RankRef
from gpusched.domain.ids import Epoch, JobId, NodeName
from gpusched.domain.job_state import JobState
from gpusched.wire.address import parse_address
from gpusched.wire.client import Client
from gpusched.wire.methods import METHODS, Method

SUBJECTS = (
    "anonymous",
    "forged",
    "user",
    "other user",
    "operator",
    "node",
    "other node",
    "rank",
    "rank of another job",
    "rank of an attempt that is over",
)
OBJECTS = ("own", "foreign", "missing")

# Reads that show a foreign job without its secrets, and what everybody may know of the cluster.
OPEN_TO_USERS = {
    *("GetJob", "ListJobs", "WatchJob", "ExplainJob", "PlanJob", "SubmitJob", "SubmitJobs"),
    *("ListNodes", "GetNode", "GetTopology", "GetFabric", "GetUsage", "GetCost", "GetFailures"),
}
OF_ONES_OWN = {"CancelJob", "HoldJob", "ReleaseJob", "RequeueJob", "StreamLogs", "PlanDefrag"}
OF_OPERATORS = {
    "CordonNode",
    "DrainNode",
    "ResumeNode",
    "ResetBreaker",
    "ListNodeEvents",
    "CreateJoinToken",
    "RevokeNode",
}
PUBLIC = {"GetTrust", "JoinNode"}
REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}


def may(rpc: str, subject: str, target: str, *, names_job: bool) -> bool:
    """Whether the call may get past the question of who asks."""
    if rpc in PUBLIC:
        return True
    match subject:
        case "operator":
            return rpc != "Connect"
        case "user" | "other user":
            return rpc in OPEN_TO_USERS or (rpc in OF_ONES_OWN and not (names_job and target == "foreign"))
        case "node" | "other node":
            return rpc == "Connect"
        case "rank":
            return rpc == "GetJob" and target == "own"
        case _:
            return False


@dataclass(frozen=True)
class World:
    """A head with a job of each of two users, and everybody's token."""

    address: str
    tokens: dict[str, str | None]
    jobs: dict[tuple[str, str], int]  # (subject, object) to the job that is meant


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with temporary_home() as home:
        home.chmod(0o711)
        with (
            running_head(Head(home)) as head,
            running_agents(head, ("n1",), "--devices", "none", "--cpus", "8"),
            head.client() as owner,
        ):
            authority = TokenAuthority(
                TokenKeys(home / "token.key"), "gpusched", frozenset({"daemon"}), SystemClock()
            )
            with Client(head.address, token=stranger_token(home)) as stranger:
                yield made(home, head.address, authority, owner, stranger)


def made(home: Path, address: str, authority: TokenAuthority, owner: Client, stranger: Client) -> World:
    running, over = (owner.jobs.submit(shell(script)) for script in ("sleep 600", "true"))
    owner.jobs.wait(over)
    until(lambda: owner.jobs.get(running).job.state is JobState.RUNNING, "the job to run")
    foreign = stranger.jobs.submit(shell("true", hold=True))
    me = Identity("owner", os.geteuid(), os.getegid())

    def rank(job_id: JobId, epoch: int = 1) -> str:
        ref = RankRef(job_id, Epoch(epoch), NodeName("n1"), 0)
        return authority.issue_for_rank(me, ref).token

    tokens = {
        "anonymous": None,
        "forged": "eyJhbGciOiJub25lIn0.e30.",
        "user": authority.issue(UID, GID).token,
        "other user": authority.issue(UID - 1, GID).token,
        "operator": authority.issue(1, 1).token,  # uid 1 is daemon, on every Linux
        "node": authority.issue(0, 0, node=NodeName("n1")).token,
        "other node": authority.issue(0, 0, node=NodeName("n2")).token,
        "rank": rank(running),
        "rank of another job": rank(foreign),  # a job that holds no rank
        "rank of an attempt that is over": rank(over),
    }
    jobs: dict[tuple[str, str], int] = {}
    for subject in SUBJECTS:
        mine = {"user": foreign, "rank of an attempt that is over": over}.get(subject, running)
        others = running if subject == "user" else foreign
        jobs |= {(subject, "own"): mine, (subject, "foreign"): others, (subject, "missing"): 10**9}
    # What the other user and the operators own is nothing: for them "own" is a job that is not there.
    jobs |= {(subject, "own"): 10**9 for subject in ("other user",)}
    return World(address, tokens, jobs)


def request_for(method: Method, job_id: int) -> Any:
    """A request about a job, otherwise empty: what gets past authorisation is refused for its fields."""
    request = method.request()
    fields = method.request.DESCRIPTOR.fields_by_name
    if "job_id" in fields:
        request.job_id = job_id
    if "job_ids" in fields:
        request.job_ids.append(job_id)
    if "request_id" in fields:
        request.request_id = f"matrix-{job_id}"
    return request


def answer(world: World, method: Method, token: str | None, request: Any) -> grpc.StatusCode:
    metadata = () if token is None else (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(parse_address(world.address).target) as channel:
        call = channel.stream_stream(
            method.path, lambda message: message.SerializeToString(), method.reply.FromString
        )(iter([request]), metadata=metadata, timeout=20)
        try:
            next(call)
        except grpc.RpcError as error:
            return error.code()
        except StopIteration:
            pass
        finally:
            call.cancel()
        return grpc.StatusCode.OK


@pytest.mark.parametrize("target", OBJECTS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_exactly_what_is_meant_to_be_allowed_is(world: World, subject: str, target: str) -> None:
    unexpected = []
    for method in METHODS.values():
        names_job = not {"job_id", "job_ids"}.isdisjoint(method.request.DESCRIPTOR.fields_by_name)
        job_id = world.jobs[subject, target]
        if (subject, method.name) in {("operator", "CancelJob"), ("operator", "RequeueJob")}:
            job_id = 10**9  # an operator may: the world is to last
        if (subject, target, method.name) == ("user", "own", "CancelJob"):
            job_id = 10**9
        code = answer(world, method, world.tokens[subject], request_for(method, job_id))
        is_refused = code in REFUSED
        if is_refused == may(method.name, subject, target, names_job=names_job):
            unexpected.append((method.name, code.name))
        assert code is not grpc.StatusCode.INTERNAL, method.name
    assert unexpected == []


def test_every_rpc_is_expected_of_somebody() -> None:
    named = {method.name for method in METHODS.values()}
    assert named == OPEN_TO_USERS | OF_ONES_OWN | OF_OPERATORS | PUBLIC | {"Connect"}
