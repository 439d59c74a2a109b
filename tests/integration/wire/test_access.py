"""A call without credentials reaches nothing but health; a role reaches what its table says."""

from __future__ import annotations

import grpc
import grpc.aio
import pytest
from fakes.wire_head import Head, opened
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gpusched.domain.errors import ConfigInvalid, NotPermitted, Unauthenticated
from gpusched.domain.identity import Role
from gpusched.domain.ids import JobId, NodeName
from gpusched.wire.methods import METHODS, PUBLIC, ROLES, SERVICES, is_of_one_job

OTHERS = [health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR]
EVERY_RPC = sorted(
    (f"/{service.full_name}/{method.name}", method)
    for service in (*SERVICES, *(s for file in OTHERS for s in file.services_by_name.values()))
    for method in service.methods
)
TOKENS = {
    Role.USER: "user-token",
    Role.OPERATOR: "operator-token",
    Role.NODE: "node-token",
    Role.RANK: "rank-token",
}


async def call(address: str, path: str, method, metadata=()) -> grpc.StatusCode:
    """Send one empty request; the status of the answer. OK as soon as a stream is taken."""
    while (code := await call_once(address, path, method, metadata)) is None:
        pass
    return code


async def call_once(address: str, path: str, method, metadata=()) -> grpc.StatusCode | None:
    """None: grpc.aio tripped over an answer that came before the request was written, and lost it."""
    async with grpc.aio.insecure_channel(address.replace("unix://", "unix:")) as channel:
        rpc = channel.stream_stream(
            path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        call = rpc(iter([GetMessageClass(method.input_type)()]), metadata=metadata)
        try:
            await call.read()
        except grpc.RpcError as error:
            return None if "SendMessageOperation" in str(error.details()) else error.code()
        return grpc.StatusCode.OK


@pytest.mark.parametrize(("path", "method"), EVERY_RPC, ids=[path for path, _ in EVERY_RPC])
@pytest.mark.parametrize(
    "metadata",
    [(), (("authorization", "Bearer forged"),), (("authorization", "Basic b3A6b3A="),)],
    ids=["none", "forged", "basic"],
)
@pytest.mark.parametrize("transport", ["unix", "tcp"])
async def test_without_credentials_that_hold_only_health_answers(head, transport, metadata, path, method):
    code = await call(getattr(head, transport), path, method, metadata)
    assert code is (grpc.StatusCode.OK if path in PUBLIC else grpc.StatusCode.UNAUTHENTICATED)
    assert path in PUBLIC or head.memory.asked == []


@pytest.mark.parametrize(("path", "method"), EVERY_RPC, ids=[path for path, _ in EVERY_RPC])
@pytest.mark.parametrize("role", [Role.USER, Role.NODE, Role.RANK])
async def test_a_role_reaches_exactly_what_its_table_says(head, role, path, method):
    code = await call(head.unix, path, method, (("authorization", f"Bearer {TOKENS[role]}"),))
    # An empty request names no job, so none that a rank may ask about.
    allowed = path in PUBLIC or (role in ROLES[path] and role is not Role.RANK)
    assert (code is not grpc.StatusCode.PERMISSION_DENIED) == allowed


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_rank_sees_its_own_job_and_no_other(head, kind):
    async with opened(kind, head.unix, token="rank-token") as caller:
        assert (await caller.call(lambda client: client.jobs.get(JobId(7)))).job.job_id == 7
        with pytest.raises(NotPermitted, match="a rank of job 7 and for no other job"):
            await caller.call(lambda client: client.jobs.get(JobId(8)))
    assert [asked[2] for asked in head.memory.asked] == [7]


@pytest.mark.parametrize(
    "path", sorted(path for path, method in METHODS.items() if not is_of_one_job(method))
)
async def test_a_server_refuses_to_exist_where_a_rank_could_ask_about_any_job(home, path):
    with pytest.raises(ConfigInvalid, match=path):
        await Head(home).start(roles={**ROLES, path: frozenset({Role.RANK})})


async def test_an_unknown_rpc_tells_nothing_to_a_stranger(head):
    method = METHODS["/gpusched.v1.JobService/GetJob"]
    shape = next(found for path, found in EVERY_RPC if path == method.path)
    path = "/gpusched.v1.JobService/NoSuch"
    assert await call(head.unix, path, shape) is grpc.StatusCode.UNAUTHENTICATED
    known = (("authorization", "Bearer user-token"),)
    assert await call(head.unix, path, shape, known) is grpc.StatusCode.UNIMPLEMENTED


async def test_two_tokens_are_no_token(head):
    path, method = next(rpc for rpc in EVERY_RPC if rpc[0].endswith("/GetJob"))
    twice = (("authorization", "Bearer forged"), ("authorization", "Bearer user-token"))
    assert await call(head.unix, path, method, twice) is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_the_client_says_what_role_is_needed(head, kind):
    async with opened(kind, head.unix, token="user-token") as caller:
        with pytest.raises(NotPermitted, match="CordonNode needs the role operator; ada has user"):
            await caller.call(lambda client: client.nodes.cordon(NodeName("n1"), "fan"))


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_the_client_raises_unauthenticated_for_a_given_token_that_does_not_hold(head, kind):
    async with opened(kind, head.unix, token="forged") as caller:
        with pytest.raises(Unauthenticated, match="forged"):
            await caller.call(lambda client: client.jobs.get(JobId(1)))


def test_what_is_public_is_what_people_expect():
    assert {path.rpartition("/")[2] for path in PUBLIC} == {"Check", "Watch", "GetTrust", "JoinNode"}


@pytest.mark.parametrize("path", sorted(METHODS.keys() - PUBLIC))
async def test_a_server_refuses_to_exist_while_nobody_said_who_may_call_an_rpc(home, path):
    roles = {known: allowed for known, allowed in ROLES.items() if known != path}
    with pytest.raises(ConfigInvalid, match=path):
        await Head(home).start(roles=roles)


async def test_health_says_serving_without_credentials(head):
    async with grpc.aio.insecure_channel(head.tcp) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for service in ("", "gpusched.v1.JobService"):
            reply = await stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services_to_whoever_shows_a_token(head):
    async with grpc.aio.insecure_channel(head.tcp) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asking = reflection_pb2.ServerReflectionRequest(list_services="")
        answers = stub.ServerReflectionInfo(
            iter([asking]), metadata=(("authorization", "Bearer user-token"),)
        )
        names = {
            service.name async for answer in answers for service in answer.list_services_response.service
        }
    assert {service.full_name for service in SERVICES} <= names
