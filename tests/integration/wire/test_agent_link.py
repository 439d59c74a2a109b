"""The agent's stream: both directions whole, and each side hears when the other goes."""

from __future__ import annotations

import asyncio
import os

import pytest
from fakes import wire_head as fake
from fakes.wire_head import until

from gpusched.domain.commands import LaunchTasks, Queued, StopTasks
from gpusched.domain.errors import GpuschedError, HeadUnavailable, NotPermitted, WrongState
from gpusched.domain.events import TasksEnded, TasksStarted
from gpusched.domain.identity import Identity
from gpusched.domain.ids import AttemptId, Epoch, JobId, NodeName
from gpusched.domain.job import TaskExit
from gpusched.domain.job_spec import WarningSignal
from gpusched.domain.launch_plan import NodeLaunch, TaskLaunch
from gpusched.domain.link import (
    CommandTaken,
    Heartbeat,
    Hello,
    LogCancel,
    LogCredit,
    LogData,
    LogRequest,
    Report,
    ReportTaken,
    Welcome,
)
from gpusched.domain.logs import LogChunk, LogQuery
from gpusched.domain.telemetry import DeviceSample, NodeSample, NodeUse
from gpusched.v1 import agent_service_pb2
from gpusched.wire.address import parse_address
from gpusched.wire.agent_link import connect_agent
from gpusched.wire.token_socket import serve_tokens

J, E, N1 = JobId(7), Epoch(1), NodeName("n1")
HELLO = Hello(fake.FACTS, (AttemptId(J, E),))
UP = (
    HELLO,
    Heartbeat(
        1,
        NodeSample(node=N1, sampled_at_us=1, cpu_percent=0.0, devices=(DeviceSample(uuid="G", power_w=0.0),)),
    ),
    Report(1, TasksStarted(job_id=J, epoch=E, node=N1, pids=(11, 12))),
    Report(
        2,
        TasksEnded(
            job_id=J,
            epoch=E,
            node=N1,
            exits=(TaskExit(0, 0, None), TaskExit(1, None, 9)),
            cause=None,
            detail=None,
            use=NodeUse(wall_s=1.5),
        ),
    ),
    CommandTaken(3),
    LogData(4, LogChunk(global_rank=0, node=N1, offset=0, data=b"\xff")),
    LogData(4, None, "the file is gone"),
)
DOWN = (
    Queued(
        1,
        LaunchTasks(
            job_id=J,
            epoch=E,
            node=N1,
            launch=NodeLaunch(
                job_id=J,
                epoch=E,
                node=N1,
                node_rank=0,
                owner=Identity("ada", 1000, 1000),
                workdir="/",
                tasks=(
                    TaskLaunch(
                        global_rank=0, local_rank=0, argv=("true",), env=(("A", ""),), cpu_ids=(), devices=()
                    ),
                ),
                devices=(),
                script=None,
                time_limit_s=None,
                signal=WarningSignal(),
                kill_wait_s=30,
                log_cap_bytes=1,
            ),
        ),
    ),
    Queued(2, StopTasks(job_id=J, epoch=E, node=N1, kill_wait_s=0, reason="cancelled")),
    ReportTaken(1),
    LogRequest(4, LogQuery(job_id=J, epoch=E, ranks=(0,), follow=True), 32),
    LogCredit(4, 1),
    LogCancel(4),
)


def connected(head, transport: str = "unix", token: str = "node-token"):
    return connect_agent(parse_address(getattr(head, transport)), N1, token=token)


@pytest.mark.parametrize("transport", ["unix", "tcp"])
async def test_everything_arrives_in_order_both_ways(head, transport):
    for order in DOWN:
        head.agents.orders.put_nowait(order)
    async with connected(head, transport) as link:
        for message in UP:
            await link.send(message)
        await until(lambda: len(head.memory.greeted) == len(UP))
        head.agents.orders.put_nowait(None)
        received = [message async for message in link]
    assert received == [Welcome("test", 1.0, 15.0), *DOWN]
    assert head.memory.greeted == list(UP)
    assert head.memory.asked == [("connect", fake.PRINCIPALS["node-token"])]


async def test_many_tasks_may_send_at_once(head):
    async with connected(head) as link:
        await asyncio.gather(*(link.send(CommandTaken(seq)) for seq in range(200)))
        await until(lambda: len(head.memory.greeted) == 200)
    assert {message.seq for message in head.memory.greeted} == set(range(200))


async def test_an_agent_that_leaves_ends_its_session_at_the_head(head):
    async with connected(head) as link:
        await link.send(HELLO)
        async with asyncio.timeout(10):
            await head.memory.stream_is_open.wait()
    async with asyncio.timeout(10):
        await head.memory.stream_has_ended.wait()
    assert head.memory.greeted == [HELLO]


async def test_a_head_that_stops_is_heard_by_reader_and_sender(head):
    async with connected(head) as link:
        await link.send(HELLO)
        async with asyncio.timeout(10):
            await head.memory.stream_is_open.wait()
            await head.stop()
            with pytest.raises(HeadUnavailable):
                async for _ in link:
                    pass
            with pytest.raises(HeadUnavailable):
                await link.send(CommandTaken(1))


async def test_a_session_that_the_head_refuses_says_why(head):
    head.memory.failure = WrongState("node n1 is connected already")
    async with connected(head) as link, asyncio.timeout(10):
        with pytest.raises(WrongState, match="connected already"):
            async for _ in link:
                pass


async def test_a_user_may_not_be_an_agent(head):
    async with connected(head, token="operator-token") as link, asyncio.timeout(10):
        with pytest.raises(NotPermitted, match="node"):
            async for _ in link:
                pass


async def test_a_message_that_makes_no_sense_ends_the_session_with_its_reason(head):
    async with connected(head) as link, asyncio.timeout(10):
        await link.send(HELLO)
        await link._call.write(agent_service_pb2.ConnectRequest())
        with pytest.raises(GpuschedError, match="message: is required"):
            async for _ in link:
                await asyncio.sleep(0)


async def test_no_head_is_said_to_be_none(home):
    with pytest.raises(HeadUnavailable, match="gpusched up"):
        async with connect_agent(parse_address(f"unix://{home}/head.sock"), N1):
            pass


async def test_the_agents_token_is_asked_for_its_node(head, home, monkeypatch):
    class Issued:
        token, expires_at_us = "fresh", 0

    asked = []

    def issue(uid, gid, *, node):
        asked.append((uid, node))
        return Issued()

    monkeypatch.setitem(fake.PRINCIPALS, "fresh", fake.PRINCIPALS["node-token"])
    server = await serve_tokens(home / "token.sock", issue)
    head.agents.orders.put_nowait(None)
    async with connect_agent(parse_address(head.unix), N1) as link:
        assert [message async for message in link] == [Welcome("test", 1.0, 15.0)]
    server.close()
    assert asked == [(os.getuid(), "n1")]


async def test_a_sender_that_is_cancelled_leaves_the_stream_to_the_others(head):
    async with connected(head) as link:
        await link.send(HELLO)
        for seq in range(50):
            sending = asyncio.create_task(link.send(CommandTaken(seq)))
            await asyncio.sleep(0)
            sending.cancel()
            await asyncio.wait({sending})
        await link.send(CommandTaken(1_000))
        await until(lambda: CommandTaken(1_000) in head.memory.greeted)
        head.agents.orders.put_nowait(None)
        assert [message async for message in link] == [Welcome("test", 1.0, 15.0)]
