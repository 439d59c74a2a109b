"""How many requests share a transaction: the leader's row is held for as long as that takes."""

from __future__ import annotations

import asyncio

import pytest
from cluster import ALICE, spec
from unit.engine.still_world import SetClock, World

from gpusched.domain.ids import RequestId
from gpusched.engine.inputs import Submit
from gpusched.engine.loop import Loop, LoopSettings


@pytest.mark.parametrize(
    ("asked", "committed"),
    [
        ([1, 1, 1], [3]),
        ([4, 4, 4, 4], [8, 8]),
        ([10, 1, 9, 1], [10, 10, 1]),
        ([25, 1, 25], [25, 1, 25]),  # one request is never divided
    ],
)
async def test_requests_share_a_transaction_as_long_as_it_stays_short(
    asked: list[int], committed: list[int]
) -> None:
    world = World()
    loop = Loop(world, world, world, SetClock(), LoopSettings(batch_max=10))
    answers = [
        asyncio.ensure_future(
            loop.ask(Submit(who=ALICE, request_id=RequestId(f"r{number}"), specs=(spec(hold=True),) * jobs))
        )
        for number, jobs in enumerate(asked)
    ]
    running = asyncio.create_task(loop.run())
    assert [len(await answer) for answer in answers] == asked
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert world.committed == committed
