"""Stories that the simulation found: the loop when its store fails, the runner when its disk is full."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from cluster import ALICE, facts, spec
from simulation.agent_model import SimulatedRunner
from simulation.disk import ModelStore
from simulation.head_model import HeadClock
from simulation.machine import MACHINE, Machine, operating_system
from simulation.options import Options
from simulation.virtual import PROCESS, Process, VirtualLoop

from gpusched.domain.commands import LaunchTasks, Queued
from gpusched.domain.errors import NodeUnavailable, StoreUnavailable
from gpusched.domain.events import Recorded, TasksEnded
from gpusched.domain.ids import Epoch, JobId, NodeName, RequestId
from gpusched.domain.job_spec import JobSpec
from gpusched.engine.inputs import CommandAcknowledged, LeaseEnded, NodeConnected, NodeSilent, Submit
from gpusched.engine.loop import Loop, LoopSettings
from gpusched.engine.ports import Batch, Loaded

N1 = NodeName("n1")


class Store(ModelStore):
    """Fails once, or for as long as it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.is_down = False
        self.is_full = False
        self.loads = 0
        self.loses_an_answer = False

    def load(self) -> Loaded:
        self._answer()
        self.loads += 1
        return super().load()

    def commit(self, batch: Batch) -> None:
        self._answer()
        if self.is_full:
            raise StoreUnavailable("the disk is full")
        super().commit(batch)
        if self.loses_an_answer:
            self.loses_an_answer = False
            raise StoreUnavailable("the answer was lost")

    def _answer(self) -> None:
        if self.is_down:
            raise StoreUnavailable("no answer")


class Head:
    """A loop on that store; what it sends and publishes is kept."""

    def __init__(self) -> None:
        self.store = Store()
        self.sent: list[Queued] = []
        self.published: list[int] = []
        self.loop = Loop(self.store, self, self, HeadClock(), LoopSettings())
        self.running = asyncio.get_running_loop().create_task(self.loop.run())
        self._requests = 0

    def deliver(self, queued: Queued) -> bool:
        self.sent.append(queued)
        return True

    def publish(self, events: Sequence[Recorded]) -> None:
        self.published += [recorded.seq for recorded in events]

    async def submit(self, wanted: JobSpec) -> JobId:
        self._requests += 1
        request = Submit(who=ALICE, request_id=RequestId(f"r{self._requests}"), specs=(wanted,))
        (job_id,) = await self.loop.ask(request)
        await asyncio.sleep(0.1)
        return job_id

    async def hear(self, *told: object) -> None:
        for fact in told:
            self.loop.tell(fact)  # type: ignore[arg-type]
        await asyncio.sleep(0.1)


def in_virtual_time(story: Callable[[], Coroutine[object, object, None]]) -> None:
    loop = VirtualLoop()
    try:
        loop.run_until_complete(story())
    finally:
        loop.bury()


def test_a_caller_that_leaves_during_an_outage_does_not_end_the_engine():
    async def story() -> None:
        head = Head()
        await head.hear(NodeConnected(facts("n1"), ()))
        head.store.is_down = True
        head.loop.tell(NodeConnected(facts("n2"), ()))  # its commit finds the store down
        asked = asyncio.create_task(head.submit(spec()))
        await asyncio.sleep(0)
        asked.cancel()
        await asyncio.sleep(5)
        head.store.is_down = False
        await asyncio.sleep(5)
        assert not head.running.done()
        assert await head.submit(spec()) == 1

    in_virtual_time(story)


def test_a_store_that_is_read_and_takes_no_commit_is_tried_at_leisure_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        head = Head()
        await head.hear(NodeConnected(facts("n1"), ()))
        head.store.is_full = True
        await head.hear(NodeConnected(facts("n2"), ()))  # kept, and tried again and again
        loads = head.store.loads
        await asyncio.sleep(30)
        assert head.store.loads - loads <= 30 / LoopSettings().store_retry_s + 1
        assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
        with pytest.raises(StoreUnavailable):
            await head.submit(spec())
        head.store.is_full = False
        await asyncio.sleep(1)
        assert set(head.loop.engine.state.nodes) == {"n1", "n2"}

    in_virtual_time(story)


def test_watchers_hear_of_a_commit_whose_answer_was_lost():
    async def story() -> None:
        head = Head()
        head.store.loses_an_answer = True
        await head.hear(NodeConnected(facts("n1"), ()))
        await asyncio.sleep(5)
        assert head.published == [recorded.seq for recorded in head.store.events] != []

    in_virtual_time(story)


def test_a_hello_taken_twice_does_not_deny_the_launch_that_its_node_took_between():
    async def story() -> None:
        head = Head()
        await head.hear(NodeConnected(facts("n1"), ()))
        job_id = await head.submit(spec())
        (launch,) = head.sent
        assert isinstance(launch.command, LaunchTasks)
        # The node said hello before the launch reached it. Both facts are written; the answer is lost.
        head.store.loses_an_answer = True
        await head.hear(NodeConnected(facts("n1"), ()), CommandAcknowledged(launch.command.node, launch.seq))
        await asyncio.sleep(5)
        assert job_id in head.loop.engine.state.running

    in_virtual_time(story)


def test_an_outage_sends_no_launch_that_a_lease_ended_under_it():
    async def story() -> None:
        head = Head()
        await head.hear(NodeConnected(facts("n1"), ()))
        await head.submit(spec(requeue=True))
        await head.hear(NodeSilent(N1, 16.0))
        before = len(head.sent)
        head.store.is_down = True
        await head.hear(LeaseEnded(N1, 20.0))
        head.store.is_down = False
        await asyncio.sleep(5)
        launches = [queued for queued in head.sent[before:] if isinstance(queued.command, LaunchTasks)]
        assert all(queued.command.epoch > 1 for queued in launches)

    in_virtual_time(story)


CALM = Options.draw(Random(0), sqlite_share=0.0)


def test_a_tombstone_that_found_no_room_is_made_when_there_is_room(tmp_path: Path):
    async def story() -> None:
        machine = Machine(N1, tmp_path / "n1", Random(0), CALM)
        MACHINE.set(machine)
        runner = SimulatedRunner(machine, Process("agent"))
        await runner.start()
        machine.is_disk_full = True
        for _ in range(2):
            with pytest.raises(NodeUnavailable):
                await runner.stop(JobId(1), Epoch(1), 0, "cancelled")
        assert runner.attempts.unsettled() == ()
        machine.is_disk_full = False
        await runner.stop(JobId(1), Epoch(1), 0, "cancelled")
        assert isinstance(runner.reports.get_nowait(), TasksEnded)
        await runner.close()

    with operating_system():
        in_virtual_time(story)


def test_the_death_of_one_of_two_forked_shims_leaves_the_other_its_attempt(tmp_path: Path):
    async def story() -> None:
        head = Head()
        await head.hear(NodeConnected(facts("n1"), ()))
        await head.submit(spec(env=(("SIM_LASTS_S", "5"), ("SIM_TERM_S", "0"))))
        machine = Machine(N1, tmp_path / "n1", Random(0), replace(CALM, fork_twice=1.0, fork_refused=0.0))
        MACHINE.set(machine)
        # The sweep for leftovers takes long enough for the other shim to claim the attempt under it.
        process = Process("agent", lambda: (0.0, 0.5))
        PROCESS.set(process)
        runner = SimulatedRunner(machine, process)
        await runner.start()
        command = head.sent[0].command
        assert isinstance(command, LaunchTasks)
        await runner.launch(command.launch)
        _, watched = machine.shims.values()
        machine.kill_shim(watched)
        await asyncio.sleep(20)
        reports = [runner.reports.get_nowait() for _ in range(runner.reports.qsize())]
        ended = [fact for fact in reports if isinstance(fact, TasksEnded)]
        assert [fact.cause for fact in ended] == [None]
        assert [live.exit_code for live in machine.lives] == [0]
        await runner.close()

    with operating_system():
        in_virtual_time(story)
