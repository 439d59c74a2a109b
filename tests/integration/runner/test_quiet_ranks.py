"""What a node sees of ranks that work, wait, are stopped: real processes, looked at from outside."""

from __future__ import annotations

import asyncio
import os
import signal

from integration.runner.rig import NODE, PATIENCE_S, Node, launch_of, python, shell

from gpusched.agent.vitals import Vitals
from gpusched.domain.events import TasksStarted
from gpusched.domain.pulse import QuietRank
from gpusched.domain.telemetry import NodeSample

NOTHING_MEASURED = NodeSample(node=NODE, sampled_at_us=0)
SLEEP = "import time; time.sleep(600)"


class Watch:
    """Looks again and again, as heartbeats do, only faster."""

    def __init__(self, node: Node) -> None:
        assert node.runner is not None
        self.vitals = Vitals(node.runner.attempts, frozenset())

    async def look(self, quiet_s: float) -> dict[int, QuietRank]:
        """The quiet ranks, by rank, once one of them has been quiet for so long."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                quiet = (await self.vitals.look(NOTHING_MEASURED)).quiet
                if any(rank.quiet_s >= quiet_s for rank in quiet):
                    return {rank.global_rank: rank for rank in quiet}
                await asyncio.sleep(0.25)


async def test_ranks_that_compute_write_or_read_are_never_quiet_while_a_sleeping_one_is(node: Node) -> None:
    assert node.runner is not None
    writes = "while :; do echo step; sleep 0.05; done"
    reads = "import time\nwhile True: open('/bin/sh', 'rb').read(65536); time.sleep(0.05)"
    await node.runner.launch(
        launch_of(python("while True: pass", 0), shell(writes, 1), python(reads, 2), python(SLEEP, 3))
    )
    await node.report(TasksStarted)
    seen = await Watch(node).look(2.0)
    assert set(seen) == {3}
    assert seen[3].state == "S"


async def test_a_stopped_rank_is_quiet_and_says_that_it_is_stopped(node: Node) -> None:
    assert node.runner is not None
    await node.runner.launch(launch_of(python("while True: pass", 0), python("while True: pass", 1)))
    started = await node.report(TasksStarted)
    assert isinstance(started, TasksStarted)
    watch = Watch(node)
    await watch.vitals.look(NOTHING_MEASURED)
    os.kill(started.pids[1], signal.SIGSTOP)
    seen = await watch.look(1.0)
    assert set(seen) == {1}
    assert seen[1].is_stopped
    os.kill(started.pids[1], signal.SIGCONT)
    async with asyncio.timeout(PATIENCE_S):
        while (await watch.vitals.look(NOTHING_MEASURED)).quiet:  # noqa: ASYNC110 (the kernel brings it about)
            await asyncio.sleep(0.25)


async def test_a_stopped_program_behind_a_shell_is_seen(node: Node) -> None:
    assert node.runner is not None
    behind = "sh -c 'while :; do :; done' & sleep 0.5; kill -STOP $!; wait"
    await node.runner.launch(launch_of(shell(behind)))
    await node.report(TasksStarted)
    seen = await Watch(node).look(1.0)
    assert seen[0].is_stopped


async def test_an_attempt_that_ended_is_not_looked_at_any_more(node: Node) -> None:
    assert node.runner is not None
    await node.run(launch_of(shell("true")))
    assert await Vitals(node.runner.attempts, frozenset()).look(NOTHING_MEASURED) == ((), ())


async def test_the_stacks_of_a_rank_name_its_processes_and_its_python_frames(node: Node) -> None:
    assert node.runner is not None
    code = "import time\ndef stuck_here():\n    print('up')\n    time.sleep(600)\nstuck_here()"
    launch = launch_of(python(code, 0), shell("echo up; sleep 600", 1))
    await node.runner.launch(launch)
    await node.report(TasksStarted)
    async with asyncio.timeout(PATIENCE_S):
        while await node.output() != "up\nup\n":  # noqa: ASYNC110 (the ranks write it)
            await asyncio.sleep(0.02)
    (attempt_id,) = node.runner.attempts.unsettled()
    await node.runner.dump_stacks(attempt_id)
    by_rank = {rank: node.files().rank_stacks(rank).read_text() for rank in (0, 1)}
    assert by_rank[0].startswith(f"rank 0 on {NODE}, attempt 1.1, at ")
    assert "stuck_here (<string>:4)" in by_rank[0]
    assert "(sleep 600), state S, waits in hrtimer_nanosleep" in by_rank[1]
