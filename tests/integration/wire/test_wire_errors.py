"""An error raised at the head is raised again at the client: the same class, the same words."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from dataclasses import replace

import pytest
from fakes import wire_head as fake
from fakes.wire_head import opened

from gpusched.domain import errors
from gpusched.domain.errors import Broken, HeadUnavailable, InvalidSpec, OverLimit, Violation
from gpusched.domain.ids import JobId
from gpusched.wire.bounds import REQUEST_BYTES_MAX
from gpusched.wire.status import CODES

PLAIN = [kind for kind in CODES if kind is not InvalidSpec and kind is not HeadUnavailable]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("error", PLAIN, ids=lambda error: error.__name__)
async def test_an_error_keeps_its_class_and_its_words(head, kind, error):
    head.memory.failure = error("größer als 3: ask for less")
    async with opened(kind, head.unix, retry_s=0) as caller:
        with pytest.raises(errors.GpuschedError) as raised:
            await caller.call(lambda client: client.jobs.get(JobId(1)))
    assert type(raised.value) is error
    assert str(raised.value) == "größer als 3: ask for less"


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_stream_that_fails_raises_after_what_came_before(head, kind):
    head.memory.failure = errors.NodeUnavailable("node n1 is not connected")
    async with opened(kind, head.unix) as caller:
        with pytest.raises(errors.NodeUnavailable, match="n1"):
            await caller.call(lambda client: client.jobs.logs(JobId(1)))


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_bad_spec_names_every_field(head, kind):
    violations = (Violation("nodes", "-1: ask for 1 or more"), Violation("env.PATH", "holds a NUL byte"))
    head.memory.failure = InvalidSpec(violations)
    async with opened(kind, head.unix) as caller:
        with pytest.raises(InvalidSpec) as raised:
            await caller.call(lambda client: client.jobs.submit(fake.SPEC))
    assert raised.value.violations == violations


async def test_a_thousand_violations_still_arrive_as_a_bad_spec(head):
    head.memory.failure = InvalidSpec(tuple(Violation(f"env.V{i}", "ü" * 500) for i in range(1000)))
    async with opened("async", head.unix) as caller:
        with pytest.raises(InvalidSpec) as raised:
            await caller.call(lambda client: client.jobs.submit(fake.SPEC))
    first, *_, last = raised.value.violations
    assert first.field == "env.V0"
    assert last.message == f"and {1001 - len(raised.value.violations)} more"


async def test_a_very_long_message_is_cut_and_arrives(head):
    head.memory.failure = errors.NotFound("ü" * 100_000)
    async with opened("async", head.unix) as caller:
        with pytest.raises(errors.NotFound, match=r"üüü\.\.\."):
            await caller.call(lambda client: client.jobs.get(JobId(1)))


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_bug_at_the_head_shows_the_caller_an_incident_and_no_traceback(head, kind, caplog):
    head.memory.failure = KeyError("secret-detail")
    with caplog.at_level(logging.ERROR, logger="gpusched"):
        async with opened(kind, head.unix) as caller:
            with pytest.raises(Broken, match="incident") as raised:
                await caller.call(lambda client: client.jobs.get(JobId(1)))
    assert "secret-detail" not in str(raised.value)
    (record,) = [record for record in caplog.records if record.name.startswith("gpusched")]
    assert record.args[0] in str(raised.value)
    assert record.exc_info[1] is head.memory.failure


async def test_what_was_refused_is_not_kept_until_the_collector_comes_by(head):
    head.memory.failure = errors.NotFound("no such job")
    kept = weakref.ref(head.memory.failure)
    gc.disable()
    try:
        async with opened("async", head.unix) as caller:
            with pytest.raises(errors.NotFound):
                await caller.call(lambda client: client.jobs.get(JobId(1)))
        head.memory.failure = None
        assert kept() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("transport", ["unix", "tcp"])
async def test_a_request_over_4_mib_is_refused_unseen(head, kind, transport):
    large = replace(fake.SPEC, script="#" * REQUEST_BYTES_MAX)
    async with opened(kind, getattr(head, transport)) as caller:
        with pytest.raises(OverLimit, match="too large"):
            await caller.call(lambda client: client.jobs.submit(large))
        assert head.memory.asked == []
        await caller.call(lambda client: client.jobs.submit(fake.SPEC))  # the head goes on


async def test_a_request_just_below_4_mib_is_taken(head):
    large = replace(fake.SPEC, script="#" * (REQUEST_BYTES_MAX - 4096))
    async with opened("async", head.unix) as caller:
        assert await caller.call(lambda client: client.jobs.submit(large)) == JobId(1)


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_head_that_does_not_answer_in_time_is_unavailable_and_asked_once(head, kind):
    head.memory.before = asyncio.Event().wait()
    async with opened(kind, head.unix, timeout_s=0.2) as caller:
        with pytest.raises(HeadUnavailable, match="in time"):
            await caller.call(lambda client: client.jobs.get(JobId(1)))
    assert len(head.memory.asked) == 1
