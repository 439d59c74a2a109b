"""Cycles rest; nothing else waits for them."""

from __future__ import annotations

import asyncio

import pytest
from cluster import ALICE, facts, spec
from unit.engine.still_world import SetClock, World

from gpusched.domain.ids import JobId, RequestId
from gpusched.domain.job_state import JobState
from gpusched.engine.inputs import NodeConnected, Submit
from gpusched.engine.loop import Loop, LoopSettings
from gpusched.engine.pace import CyclePace


def test_after_a_cycle_the_next_rests_twice_as_long() -> None:
    pace = CyclePace()
    pace.note_cycle(1_000, 1_400)
    assert pace.rest_left_us(1_400) == 800
    assert pace.rest_left_us(2_100) == 100
    assert pace.rest_left_us(2_200) == 0


def test_the_first_cycle_and_one_after_an_idle_time_never_wait() -> None:
    pace = CyclePace()
    assert pace.rest_left_us(0) == 0
    pace.note_cycle(0, 10)
    assert pace.rest_left_us(1_000) == 0


def test_back_to_back_cycles_get_a_third_of_the_time() -> None:
    pace, now_us, spent_us = CyclePace(), 0, 0
    for took_us in (100, 700, 50, 400):
        now_us += pace.rest_left_us(now_us)
        pace.note_cycle(now_us, now_us + took_us)
        now_us, spent_us = now_us + took_us, spent_us + took_us
    now_us += pace.rest_left_us(now_us)
    assert spent_us * 3 == now_us


@pytest.fixture
async def head():
    clock, world = SetClock(), World()
    loop = Loop(world, world, world, clock, LoopSettings())
    running = asyncio.create_task(loop.run())
    yield loop, clock, world
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def submit(loop: Loop, number: int) -> JobId:
    (job_id,) = await loop.ask(Submit(who=ALICE, request_id=RequestId(f"r{number}"), specs=(spec(),)))
    return job_id


async def until_started(loop: Loop, world: World, job_id: JobId) -> None:
    while loop.engine.state.jobs[job_id].state is JobState.PENDING:
        world.changed.clear()
        await asyncio.wait_for(world.changed.wait(), 10)


async def test_a_submission_is_answered_while_the_cycle_rests_and_started_after_the_rest(head) -> None:
    loop, clock, world = head
    connected = asyncio.Event()
    loop.tell(NodeConnected(facts=facts("n1"), attempts=()), connected.set)
    await connected.wait()
    clock.step_us = 10_000
    first = await submit(loop, 1)
    await until_started(loop, world, first)
    clock.step_us = 0  # time stands still in the middle of the rest
    second = await submit(loop, 2)
    third = await submit(loop, 3)
    assert loop.engine.state.jobs[second].state is JobState.PENDING
    assert loop.engine.state.jobs[third].state is JobState.PENDING
    clock.at_us += 1_000_000
    await until_started(loop, world, third)
    assert loop.engine.state.jobs[second].state is not JobState.PENDING
