"""A head that goes away and comes back is hardly noticed; one that stays away is said to be."""

from __future__ import annotations

import asyncio
from itertools import count

import pytest
from fakes import wire_head as fake
from fakes.cutting_proxy import CuttingProxy
from fakes.wire_head import Head, opened, until

from gpusched.domain.errors import HeadUnavailable, StoreUnavailable, Unauthenticated
from gpusched.domain.ids import JobId
from gpusched.domain.logs import LogPosition
from gpusched.wire.credentials import SocketToken
from gpusched.wire.token_socket import serve_tokens

J7 = JobId(7)
KINDS = pytest.mark.parametrize("kind", ["sync", "async"])


@pytest.fixture
async def proxy(head, home):
    """A way to the head that can be cut."""
    async with CuttingProxy(home / "proxy.sock", home / "head.sock") as proxy:
        yield proxy


@KINDS
@pytest.mark.parametrize(
    "verb",
    [
        lambda c: c.jobs.submit(fake.SPEC),
        lambda c: c.jobs.submit_many([fake.SPEC]),
        lambda c: c.jobs.hold(J7),
    ],
    ids=["submit", "submit_many", "hold"],
)
async def test_a_mutation_whose_reply_was_lost_is_repeated_with_its_request_id(head, proxy, kind, verb):
    async def cut():
        proxy.cut()

    head.memory.before = cut()
    async with opened(kind, proxy.address) as caller:
        await caller.call(verb)
    first, second = head.memory.asked
    assert first == second  # request id and all


@KINDS
async def test_a_store_that_does_not_answer_is_asked_again(head, kind):
    head.memory.failure = StoreUnavailable("the database is locked")

    async with opened(kind, head.unix, retry_s=10) as caller:
        calling = asyncio.create_task(caller.call(lambda client: client.jobs.submit(fake.SPEC)))
        await until(lambda: head.memory.asked)
        head.memory.failure = None
        assert await calling == JobId(1)
    assert len({asked[2] for asked in head.memory.asked}) == 1


@KINDS
@pytest.mark.parametrize("transport", ["unix", "tcp"])
async def test_nobody_there_is_said_with_address_and_remedy(home, kind, transport):
    absent = Head(home)
    absent.tcp = f"127.0.0.1:{fake.free_port()}"
    address = getattr(absent, transport)
    async with opened(kind, address, retry_s=0.1) as caller:
        with pytest.raises(HeadUnavailable, match=r"gpusched up") as raised:
            await caller.call(lambda client: client.jobs.get(J7))
    assert address in str(raised.value)


@KINDS
async def test_a_head_that_comes_late_still_answers(home, kind):
    head = Head(home)
    async with opened(kind, head.unix, retry_s=30) as caller:
        calling = asyncio.create_task(caller.call(lambda client: client.jobs.get(J7)))
        await asyncio.sleep(0)
        assert not calling.done()
        await head.start()
        assert await calling == fake.JOB
        await head.stop()


class CutAfterFirst:
    """Reads a stream of either client; the connection is cut when the first item has come."""

    def __init__(self, proxy: CuttingProxy) -> None:
        self._cut = proxy.cut
        self._loop = asyncio.get_running_loop()

    def __call__(self, items):
        return self._read_async(items) if hasattr(items, "__aiter__") else self._read(items)

    def _read(self, items):
        yield next(items)
        self._loop.call_soon_threadsafe(self._cut)
        yield from items

    async def _read_async(self, items):
        yield await anext(items)
        self._cut()
        async for item in items:
            yield item


@KINDS
async def test_watching_goes_on_after_the_last_event_seen(head, proxy, kind):
    head.memory.streams_stay_open = True
    cut_after_first = CutAfterFirst(proxy)
    async with opened(kind, proxy.address) as caller:
        watching = asyncio.create_task(caller.call(lambda client: cut_after_first(client.jobs.watch([J7]))))
        await head.memory.stream_has_ended.wait()
        head.memory.streams_stay_open = False
        events = await watching
    assert events == list(fake.EVENTS)  # each once
    asked_after = [asked[3] for asked in head.memory.asked]
    assert asked_after[0] == 0
    assert all(seq in {3, 4} for seq in asked_after[1:])  # what was seen when the connection broke


@KINDS
async def test_watching_goes_on_over_a_restart_of_the_head(head, kind):
    head.memory.streams_stay_open = True

    async def restart():
        await head.memory.stream_is_open.wait()
        head.memory.streams_stay_open = False
        await head.stop()
        await head.start()

    async with opened(kind, head.unix) as caller:
        restarting = asyncio.create_task(restart())
        assert await caller.call(lambda client: client.jobs.watch([J7])) == list(fake.EVENTS)
        await restarting


@KINDS
async def test_logs_that_break_off_go_on_at_the_byte_and_attempt_where_they_were(head, proxy, kind):
    head.memory.streams_stay_open = True
    cut_after_first = CutAfterFirst(proxy)
    async with opened(kind, proxy.address) as caller:
        reading = asyncio.create_task(
            caller.call(lambda client: cut_after_first(client.jobs.logs(J7, tail_lines=1)))
        )
        await head.memory.stream_has_ended.wait()
        head.memory.streams_stay_open = False
        chunks = await reading
    assert b"".join(chunk.data for chunk in chunks) == b"".join(chunk.data for chunk in fake.CHUNKS)
    first, again = head.memory.asked[0], head.memory.asked[-1]
    assert (first[3], first[-1]) == (None, ())
    assert (again[3], again[-1]) == (3, (LogPosition(0, len(fake.CHUNKS[0].data)),))


class Issuing:
    """Issues t1, t2, ...: all of them hold until they are refused."""

    def __init__(self, prefix: str, monkeypatch) -> None:
        self.numbers = count(1)
        self.issued: list[str] = []
        self._prefix, self._patch = prefix, monkeypatch
        self.expires_at_us = 0
        self.token = ""

    def __call__(self, uid, gid, *, node):
        self.token = f"{self._prefix}{next(self.numbers)}"
        self.issued.append(self.token)
        self._patch.setitem(fake.PRINCIPALS, self.token, fake.PRINCIPALS["operator-token"])
        return self


@KINDS
async def test_the_client_fetches_its_token_and_another_when_it_has_ended(head, home, kind, monkeypatch):
    issuing = Issuing("t", monkeypatch)
    server = await serve_tokens(home / "token.sock", issuing)
    async with opened(kind, head.unix, token=None) as caller:
        await caller.call(lambda client: client.jobs.get(J7))
        await caller.call(lambda client: client.jobs.get(J7))
        assert issuing.issued == ["t1"]
        head.refused.add("t1")
        await caller.call(lambda client: client.jobs.get(J7))
        assert await caller.call(lambda client: client.jobs.watch([J7])) == list(fake.EVENTS)
        assert issuing.issued == ["t1", "t2"]
        head.refused.add("t2")
        assert await caller.call(lambda client: client.jobs.watch([J7])) == list(fake.EVENTS)
    server.close()
    assert issuing.issued == ["t1", "t2", "t3"]


@KINDS
async def test_a_fresh_token_that_does_not_hold_either_is_a_refusal(head, home, kind, monkeypatch):
    issuing = Issuing("bad", monkeypatch)
    head.refused |= {f"bad{number}" for number in range(1, 10)}
    server = await serve_tokens(home / "token.sock", issuing)
    async with opened(kind, head.unix, token=None) as caller:
        with pytest.raises(Unauthenticated, match="expired"):
            await caller.call(lambda client: client.jobs.get(J7))
    server.close()
    assert issuing.issued == ["bad1", "bad2"]


async def test_a_token_renewed_by_somebody_else_is_not_thrown_away(home, monkeypatch):
    issuing = Issuing("t", monkeypatch)
    server = await serve_tokens(home / "token.sock", issuing)
    source = SocketToken(home / "token.sock")
    old = await asyncio.to_thread(source.token)
    source.renew(old)
    new = await asyncio.to_thread(source.token)
    source.renew(old)  # a second call that had used the old one
    assert await asyncio.to_thread(source.token) == new
    server.close()
