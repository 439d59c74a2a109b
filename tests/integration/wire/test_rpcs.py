"""Every RPC, by both clients, over both transports: what goes in and comes out is what was meant."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from fakes import wire_head as fake
from fakes.wire_head import opened

from gpusched.domain.errors import InvalidSpec
from gpusched.domain.ids import Epoch, JobId, NodeName, RequestId
from gpusched.domain.job import JobFilter
from gpusched.domain.job_state import JobState
from gpusched.domain.logs import LogSource
from gpusched.domain.membership import JoinTokenMade
from gpusched.domain.usage import GroupBy
from gpusched.wire.methods import METHODS

J7, N1, R = JobId(7), NodeName("n1"), RequestId("r-1")
WHO = fake.PRINCIPALS["operator-token"]
WHERE = JobFilter(states=(JobState.PENDING, JobState.RUNNING), user="ada", node=N1)
NOTHING_ASKED = (None, None, None, None, False, None, ())

# (RPC, how a client calls it, what the handlers are asked, what the caller gets)
CALLS = [
    ("SubmitJob", lambda c: c.jobs.submit(fake.SPEC, request_id=R), ("submit", R, (fake.SPEC,)), JobId(1)),
    (
        "SubmitJobs",
        lambda c: c.jobs.submit_many([fake.SPEC] * 2, request_id=R),
        ("submit", R, (fake.SPEC, fake.SPEC)),
        (JobId(1), JobId(2)),
    ),
    ("PlanJob", lambda c: c.jobs.plan(fake.SPEC), ("plan", fake.SPEC), fake.PREVIEW),
    ("GetJob", lambda c: c.jobs.get(J7), ("get", J7), fake.JOB),
    ("ListJobs", lambda c: c.jobs.list(WHERE, page_size=2), ("list", WHERE, 2, "more"), [fake.JOB] * 3),
    ("CancelJob", lambda c: c.jobs.cancel(J7, request_id=R), ("cancel", R, J7), None),
    ("HoldJob", lambda c: c.jobs.hold(J7, request_id=R), ("hold", R, J7), None),
    ("ReleaseJob", lambda c: c.jobs.release(J7, request_id=R), ("release", R, J7), None),
    ("RequeueJob", lambda c: c.jobs.requeue(J7, request_id=R), ("requeue", R, J7, False), None),
    ("RequeueJob", lambda c: c.jobs.requeue(J7, hold=True, request_id=R), ("requeue", R, J7, True), None),
    ("WatchJob", lambda c: c.jobs.watch([J7], 2), ("watch", (J7,), 2), list(fake.EVENTS)),
    (
        "StreamLogs",
        lambda c: c.jobs.logs(J7, epoch=Epoch(2), ranks=(0, 3), since_us=0, tail_lines=0, follow=True),
        ("logs", J7, 2, (0, 3), 0, 0, True, None, ()),
        list(fake.CHUNKS),
    ),
    ("StreamLogs", lambda c: c.jobs.logs(J7), ("logs", J7, *NOTHING_ASKED), list(fake.CHUNKS)),
    (
        "StreamLogs",
        lambda c: c.jobs.stacks(J7, epoch=Epoch(2), ranks=(3,)),
        ("logs", J7, 2, (3,), None, None, False, LogSource.STACKS, ()),
        list(fake.CHUNKS),
    ),
    ("ExplainJob", lambda c: c.jobs.explain(J7), ("explain", J7), fake.DIAGNOSIS),
    (
        "CreateJoinToken",
        lambda c: c.members.create_join_token(b"d", N1, 60),
        ("create_token", b"d", N1, 60),
        JoinTokenMade("sha256:00", 1),
    ),
    ("RevokeNode", lambda c: c.members.revoke(N1), ("revoke", N1), 1),
    ("PlanDefrag", lambda c: c.jobs.plan_defrag(J7), ("plan_defrag", J7), fake.DEFRAG_PLAN),
    ("PlanDefrag", lambda c: c.jobs.plan_defrag(fake.SPEC), ("plan_defrag", fake.SPEC), fake.DEFRAG_PLAN),
    ("ListNodes", lambda c: c.nodes.list(), ("list_nodes",), (fake.NODE,)),
    ("GetNode", lambda c: c.nodes.get(N1), ("get_node", N1), fake.NODE),
    ("CordonNode", lambda c: c.nodes.cordon(N1, "fan", request_id=R), ("cordon", R, N1, "fan"), None),
    ("DrainNode", lambda c: c.nodes.drain(N1, "fan", request_id=R), ("drain", R, N1, "fan", None), None),
    ("DrainNode", lambda c: c.nodes.drain(N1, "fan", 0, request_id=R), ("drain", R, N1, "fan", 0), None),
    ("ResumeNode", lambda c: c.nodes.resume(N1, request_id=R), ("resume", R, N1), None),
    ("ResetBreaker", lambda c: c.nodes.reset_breaker(request_id=R), ("reset_breaker", R), None),
    ("ListNodeEvents", lambda c: c.nodes.events(N1, 9), ("node_events", N1, 9), fake.NODE_EVENTS),
    ("GetTopology", lambda c: c.nodes.topology(), ("list_nodes",), (fake.FACTS,)),
    ("GetTopology", lambda c: c.nodes.topology(N1), ("get_node", N1), (fake.FACTS,)),
    ("GetFabric", lambda c: c.nodes.fabric(), ("fabric",), fake.FABRIC),
    ("GetUsage", lambda c: c.reports.usage(), ("usage", None, None), (fake.INTERVAL,)),
    ("GetFailures", lambda c: c.reports.failures(), ("failures",), fake.FAILURES),
    ("GetCost", lambda c: c.reports.cost(GroupBy.USER, 0, 9), ("cost", GroupBy.USER, 0, 9), fake.REPORT),
]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("transport", ["unix", "tcp"])
@pytest.mark.parametrize(("rpc", "verb", "asked", "given"), CALLS, ids=[call[0] for call in CALLS])
async def test_an_rpc_carries_question_and_answer(head, kind, transport, rpc, verb, asked, given):
    async with opened(kind, getattr(head, transport)) as caller:
        answer = await caller.call(verb)
    assert answer == given
    verb_name, who, *arguments = head.memory.asked[-1]
    assert (verb_name, *arguments) == asked
    assert who == WHO


# The agent's: test_agent_link.py and the tests of membership on a real cluster.
NOT_OF_CLIENTS = {"Connect", "GetTrust", "JoinNode"}


def test_no_rpc_is_left_out():
    called = {call[0] for call in CALLS}
    assert {method.name for method in METHODS.values()} == called | NOT_OF_CLIENTS


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_waiting_for_a_job_ends_with_its_events(head, kind):
    async with opened(kind, head.unix) as caller:
        assert await caller.call(lambda client: client.jobs.wait(J7)) == fake.JOB
    assert [asked[0] for asked in head.memory.asked] == ["watch", "get"]


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_mutation_without_a_request_id_gets_a_new_one(head, kind):
    async with opened(kind, head.unix) as caller:
        await caller.call(lambda client: client.jobs.hold(J7))
        await caller.call(lambda client: client.jobs.hold(J7))
    first, second = (asked[2] for asked in head.memory.asked)
    assert first and second and first != second


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("verb", "field"),
    [
        (lambda client: client.jobs.get(2**63), "job_id"),
        (lambda client: client.jobs.get("7"), "job_id"),
        (lambda client: client.jobs.submit(replace(fake.SPEC, name="\udc80")), "name"),
        (lambda client: client.nodes.cordon(N1, "\udc80"), "reason"),
        (lambda client: client.jobs.list(page_size=2**31), "page_size"),
    ],
    ids=["large id", "text id", "name", "reason", "page size"],
)
async def test_what_cannot_be_sent_is_refused_before_it_is(head, kind, verb, field):
    async with opened(kind, head.unix) as caller:
        with pytest.raises(InvalidSpec) as raised:
            await caller.call(verb)
    assert [violation.field for violation in raised.value.violations] == [field]
    assert head.memory.asked == []


async def test_a_reader_that_goes_away_ends_the_stream_at_the_head(head):
    head.memory.streams_stay_open = True
    async with opened("async", head.unix) as caller:
        events = caller.client.jobs.watch([J7])
        assert await anext(events) == fake.EVENTS[0]
        await events.aclose()
        async with asyncio.timeout(10):
            await head.memory.stream_has_ended.wait()
    assert head.memory.stream_has_ended.is_set()
