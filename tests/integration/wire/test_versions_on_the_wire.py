"""Peers one version apart: what one has no words for is named and answered, and the stream goes on."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import wire_head as fake
from fakes.wire_head import until

from gpusched.domain.errors import GpuschedError
from gpusched.domain.ids import NodeName
from gpusched.domain.link import CommandTaken, FromHead, Hello, ReportTaken, Unreadable, Welcome
from gpusched.v1 import agent_service_pb2 as pb
from gpusched.wire import convert
from gpusched.wire.address import parse_address
from gpusched.wire.agent_link import connect_agent

HELLO = Hello(fake.FACTS, ())
NEW_FIELD = b"\xfa\x01\x00"  # number 31, of no length: a message that nobody here has heard of


class NextVersion:
    """Writes ``bytes`` as they are, in place of messages that this version has."""

    def __init__(self, ours: Any, message: Any) -> None:
        self._ours, self._message = ours, message

    def to_proto(self, value: Any) -> Any:
        return self._message.FromString(value) if isinstance(value, bytes) else self._ours.to_proto(value)


def of_head(**fields: Any) -> bytes:
    return pb.ConnectResponse(**fields).SerializeToString()


def new_order(seq: int) -> bytes:
    """An order of a kind that comes with the next version."""
    return of_head(command=pb.Command.FromString(pb.Command(seq=seq).SerializeToString() + NEW_FIELD))


async def test_what_a_newer_head_sends_is_named_and_does_not_end_the_stream(
    head: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "FROM_HEAD", NextVersion(convert.FROM_HEAD, pb.ConnectResponse))
    source = pb.LogRequest(stream_id=4, source=77)  # type: ignore[arg-type]
    for order in (new_order(7), of_head(log_request=source), NEW_FIELD, ReportTaken(1), None):
        head.agents.orders.put_nowait(order)
    received: list[FromHead | Unreadable] = []
    async with connect_agent(parse_address(head.unix), NodeName("n1"), token="node-token") as link:
        await link.send(HELLO)
        async for message in link:
            received.append(message)
    welcome, order, logs, other, last = received
    assert (type(welcome), last) == (Welcome, ReportTaken(1))
    assert isinstance(order, Unreadable)
    assert order.command_seq == 7
    assert isinstance(logs, Unreadable)
    assert logs.stream_id == 4
    assert isinstance(other, Unreadable)
    assert (other.command_seq, other.stream_id) == (None, None)


@pytest.mark.parametrize(
    "new", [NEW_FIELD, pb.ConnectRequest(report=pb.Report.FromString(NEW_FIELD)).SerializeToString()]
)
async def test_what_a_newer_agent_says_is_named_once_and_does_not_end_the_stream(
    head: Any, new: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from gpusched.wire import agent_link

    monkeypatch.setattr(agent_link, "FROM_AGENT", NextVersion(agent_link.FROM_AGENT, pb.ConnectRequest))
    async with connect_agent(parse_address(head.unix), NodeName("n1"), token="node-token") as link:
        for message in (HELLO, new, new, CommandTaken(3)):
            await link.send(message)  # type: ignore[arg-type]
        await until(lambda: len(head.memory.greeted) == 2)
    assert head.memory.greeted == [HELLO, CommandTaken(3)]
    assert [record.message for record in caplog.records].count(
        "an agent says what this head does not know: upgrade the head "
        + caplog.records[0].message.partition("the head ")[2]
    ) == 1


async def test_a_message_that_is_merely_empty_is_refused(head: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from gpusched.wire import agent_link

    monkeypatch.setattr(agent_link, "FROM_AGENT", NextVersion(agent_link.FROM_AGENT, pb.ConnectRequest))
    async with connect_agent(parse_address(head.unix), NodeName("n1"), token="node-token") as link:
        for message in (HELLO, b""):
            await link.send(message)  # type: ignore[arg-type]
        with pytest.raises(GpuschedError, match="set one of its alternatives"):
            async for _ in link:
                pass
