"""Many agents in one process: real streams to the head, and jobs that only seem to run.

    python -m benchmarks.simulated_agents ADDRESS --first 0 --count 250 --seed 7

Each answers a launch at once with ``TasksStarted`` and after a drawn time with ``TasksEnded``. The process
prints ``joined`` once all its streams are welcome, and runs until SIGTERM; a stream that breaks ends it
with an error.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import signal
import sys
import time
from collections.abc import Callable

from gpusched.agent.declared import declare_devices
from gpusched.domain.commands import LaunchTasks, Queued, StopTasks
from gpusched.domain.errors import HeadUnavailable
from gpusched.domain.events import AgentReport, TasksEnded, TasksStarted
from gpusched.domain.ids import AttemptId, NodeName
from gpusched.domain.job import TaskExit
from gpusched.domain.job_state import EndReason
from gpusched.domain.link import CommandTaken, Heartbeat, Hello, Report, Welcome
from gpusched.domain.node import NodeFacts
from gpusched.domain.telemetry import DeviceSample, NodeSample, NodeUse
from gpusched.wire.address import Address, parse_address
from gpusched.wire.agent_link import AgentLink, connect_agent

RUN_S = (60.0, 180.0)  # how long a job seems to run
DEVICES = "8xH100"
JOINING_AT_ONCE = 25
JOIN_AGAIN_S = 0.2
JOIN_TIMEOUT_S = 60.0


def node_name(number: int) -> NodeName:
    """Of the agent with this number."""
    return NodeName(f"sim{number:04}")


class SimulatedAgent:
    """One node's stream.

    Args:
        name: Of the node.
        seed: Of the times that its jobs run.
    """

    def __init__(self, name: NodeName, seed: int) -> None:
        self._facts = NodeFacts(
            name=name,
            boot_id="simulated",
            agent_version="simulated",
            address="127.0.0.1",
            interface="lo",
            cpu_ids=tuple(range(96)),
            cpus_pinnable=False,
            memory_bytes=1 << 40,
            devices=declare_devices(DEVICES, name),
        )
        self._beats = itertools.count(1)
        self._dice = random.Random(f"{seed} {name}")
        self._timers: dict[AttemptId, asyncio.TimerHandle] = {}
        self._reports = 0

    async def serve(self, address: Address, gate: asyncio.Semaphore, joined: Callable[[], None]) -> None:
        """Join, as often as it takes, then work until cancelled.

        Raises:
            GpuschedError: The stream broke after it was welcome.
            RuntimeError: The head ended it.
        """
        while True:
            try:
                async with gate, asyncio.timeout(JOIN_TIMEOUT_S):
                    connection = connect_agent(address, self._facts.name)
                    link = await connection.__aenter__()
                    await link.send(Hello(self._facts, ()))
                break
            except HeadUnavailable:
                await asyncio.sleep(JOIN_AGAIN_S)  # as a real agent does
        try:
            async with asyncio.TaskGroup() as tasks:
                async for message in link:
                    match message:
                        case Welcome():
                            joined()
                            tasks.create_task(self._beat(link, message.heartbeat_interval_s))
                        case Queued():
                            await link.send(CommandTaken(message.seq))
                            await self._carry_out(message.command, link, tasks)
                raise RuntimeError(f"the head ended the stream of {self._facts.name}")
        finally:
            await connection.__aexit__(None, None, None)

    async def _carry_out(
        self, command: LaunchTasks | StopTasks, link: AgentLink, tasks: asyncio.TaskGroup
    ) -> None:
        attempt = AttemptId(command.job_id, command.epoch)
        match command:
            case LaunchTasks() if attempt not in self._timers:
                ranks = tuple(task.global_rank for task in command.launch.tasks)
                ended = self._ended(attempt, ranks, exit_code=0, cause=None)
                self._timers[attempt] = asyncio.get_running_loop().call_later(
                    self._dice.uniform(*RUN_S), lambda: tasks.create_task(self._report(link, ended))
                )
                pids = tuple(1_000 + rank for rank in ranks)
                await self._report(
                    link,
                    TasksStarted(
                        job_id=attempt.job_id, epoch=attempt.epoch, node=self._facts.name, pids=pids
                    ),
                )
            case StopTasks():
                if attempt in self._timers:
                    self._timers[attempt].cancel()
                await self._report(link, self._ended(attempt, (), exit_code=143, cause=EndReason.CANCELLED))

    def _ended(
        self, attempt: AttemptId, ranks: tuple[int, ...], *, exit_code: int, cause: EndReason | None
    ) -> TasksEnded:
        return TasksEnded(
            job_id=attempt.job_id,
            epoch=attempt.epoch,
            node=self._facts.name,
            exits=tuple(TaskExit(rank, exit_code, None) for rank in ranks),
            cause=cause,
            detail=None,
            use=NodeUse(wall_s=60.0),
        )

    async def _report(self, link: AgentLink, fact: AgentReport) -> None:
        self._reports += 1
        await link.send(Report(self._reports, fact))

    async def _beat(self, link: AgentLink, interval_s: float) -> None:
        # Agents that were started together must not beat together for ever.
        await asyncio.sleep(self._dice.uniform(0, interval_s))
        while True:
            await link.send(Heartbeat(next(self._beats), self._sample()))
            await asyncio.sleep(interval_s)

    def _sample(self) -> NodeSample:
        return NodeSample(
            node=self._facts.name,
            sampled_at_us=time.time_ns() // 1_000,
            cpu_percent=50.0,
            memory_used_bytes=1 << 36,
            load_1m=8.0,
            devices=tuple(
                DeviceSample(
                    uuid=device.uuid,
                    busy_percent=self._dice.uniform(80, 100),
                    memory_used_bytes=60 << 30,
                    power_w=self._dice.uniform(400, 700),
                    energy_j=1e6,
                    temperature_c=60.0,
                    ecc_uncorrected=0,
                    process_pids=(1_000,),
                )
                for device in self._facts.devices
            ),
        )


async def _serve_all(address: Address, first: int, count: int, seed: int) -> None:
    waiting = set(range(first, first + count))
    gate = asyncio.Semaphore(JOINING_AT_ONCE)

    def joined(number: int) -> None:
        waiting.discard(number)
        if not waiting:
            print("joined", flush=True)

    async with asyncio.TaskGroup() as tasks:
        serving = [
            tasks.create_task(
                SimulatedAgent(node_name(number), seed).serve(
                    address,
                    gate,
                    lambda number=number: joined(number),  # type: ignore[misc]
                )
            )
            for number in range(first, first + count)
        ]
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(
                number, lambda: [task.cancel() for task in serving] and None
            )


def main() -> int:
    """Run until asked to end."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulated_agents")
    parser.add_argument("address")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=250)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    asyncio.run(_serve_all(parse_address(options.address), options.first, options.count, options.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
