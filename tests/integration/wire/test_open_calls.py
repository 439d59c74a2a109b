"""Nobody takes all of a head's calls: neither with calls that ask nothing, nor with streams of one user."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gpusched.wire import open_calls
from gpusched.wire.methods import METHODS

GET_TRUST = "/gpusched.v1.MemberService/GetTrust"
GET_JOB = "/gpusched.v1.JobService/GetJob"
CONNECT = "/gpusched.v1.AgentService/Connect"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@asynccontextmanager
async def connected(head) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(head.unix.replace("unix://", "unix:")) as channel:
        yield channel


async def code_of(call) -> grpc.StatusCode:
    try:
        await call.read()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (GET_TRUST, grpc.StatusCode.INVALID_ARGUMENT),
        ("/grpc.health.v1.Health/Check", grpc.StatusCode.INVALID_ARGUMENT),
        ("/grpc.health.v1.Health/Watch", grpc.StatusCode.INVALID_ARGUMENT),
        (GET_JOB, grpc.StatusCode.UNAUTHENTICATED),
        (CONNECT, grpc.StatusCode.UNAUTHENTICATED),
        (REFLECTION, grpc.StatusCode.UNAUTHENTICATED),
    ],
)
async def test_a_stranger_that_asks_nothing_is_not_waited_for(head, monkeypatch, path, code):
    monkeypatch.setattr(open_calls, "FIRST_MESSAGE_S", 0.05)
    async with connected(head) as channel, asyncio.timeout(20):
        assert await code_of(channel.stream_stream(path)()) is code


async def test_strangers_share_a_bounded_part_and_users_are_served_beside_them(head, monkeypatch):
    monkeypatch.setattr(open_calls, "STRANGERS_MAX", 8)
    async with connected(head) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch
        watching = [watch(health_pb2.HealthCheckRequest()) for _ in range(8)]
        for call in watching:
            await call.read()
        assert await code_of(watch(health_pb2.HealthCheckRequest())) is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await code_of(channel.stream_stream(GET_JOB)()) is grpc.StatusCode.RESOURCE_EXHAUSTED
        method = METHODS[GET_JOB]
        ask = channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.reply.FromString,
        )
        await ask(method.request(job_id=7), metadata=(("authorization", "Bearer user-token"),))
        for call in watching:
            call.cancel()
        async with asyncio.timeout(20):
            while await code_of(watch(health_pb2.HealthCheckRequest())) is not grpc.StatusCode.OK:
                pass  # the server has not seen yet that they are gone


async def test_one_users_streams_are_bounded(head, monkeypatch):
    monkeypatch.setattr(open_calls, "STREAMS_PER_USER_MAX", 0)
    method = METHODS["/gpusched.v1.JobService/WatchJob"]
    async with connected(head) as channel:
        watch = channel.unary_stream(method.path, request_serializer=method.request.SerializeToString)
        call = watch(method.request(), metadata=(("authorization", "Bearer user-token"),))
        assert await code_of(call) is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("path", [CONNECT, REFLECTION, GET_JOB])
async def test_who_is_refused_may_finish_writing_first(head, path):
    """A call that is ended while its caller writes is an internal error to gRPC for Python, now and then."""
    async with connected(head) as channel:
        call = channel.stream_stream(path)()
        answer = asyncio.ensure_future(code_of(call))
        done, _ = await asyncio.wait({answer}, timeout=0.3)
        assert not done
        await call.write(b"")
        assert await answer is grpc.StatusCode.UNAUTHENTICATED
