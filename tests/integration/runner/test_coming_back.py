"""The agent dies and comes back; orders come twice, late, or in the wrong order."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from integration.runner.rig import PATIENCE_S, Node, carriers, launch_of, python, shell, task, until

from gpusched.agent.archive import Retention
from gpusched.agent.attempt_dir import attempts_folder, read_order, write_order
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.proc import is_same_process
from gpusched.agent.shim.record import Phase, Record
from gpusched.domain.errors import NodeUnavailable
from gpusched.domain.events import TaskFailed, TasksEnded, TasksStarted
from gpusched.domain.ids import AttemptId, Epoch, JobId
from gpusched.domain.job_state import EndReason
from gpusched.domain.launch_plan import NodeLaunch

SOURCE = Path(__file__).parents[3] / "src"
AGENT = Path(__file__).parent / "agent_process.py"
WAIT_FOR_FILE = (
    "import os, time\nprint('begun', os.getpid(), flush=True)\n"
    "while not os.path.exists(os.environ['GO']): time.sleep(0.01)\nprint('done')"
)


def waiting(home: Path, job_id: int = 1) -> NodeLaunch:
    """A rank that ends, with code 5, once the file ``go`` is there."""
    return launch_of(python(WAIT_FOR_FILE + "\nraise SystemExit(5)", GO=str(home / "go")), job_id=job_id)


@asynccontextmanager
async def agent_running(home: Path, *launches: NodeLaunch) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that is the agent; killed on leaving."""
    order = home.with_suffix(".launches")
    order.write_bytes(msgspec.json.encode(launches))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(AGENT), str(home), str(order)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def said(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    async with asyncio.timeout(PATIENCE_S):
        return (await process.stdout.readline()).decode().strip()


async def test_a_shim_whose_folder_was_removed_ends_with_its_ranks(node: Node) -> None:
    assert node.runner is not None
    await node.runner.launch(waiting(node.home))
    await node.report(TasksStarted)
    record = node.record()
    shim, started_at = record.shim_pid, record.shim_start_ticks
    assert shim is not None and started_at is not None
    await node.stop()
    shutil.rmtree(node.files().path)
    (node.home / "go").touch()
    await until(lambda: not is_same_process(shim, started_at), "the shim to end")


async def test_an_attempt_whose_folder_was_removed_is_reported_as_over(node: Node) -> None:
    assert node.runner is not None
    await node.runner.launch(waiting(node.home))
    await node.report(TasksStarted)
    shutil.rmtree(node.files().path)
    (node.home / "go").touch()
    ended = await node.report(TasksEnded)
    assert isinstance(ended, TasksEnded)
    assert ended.cause is EndReason.SHIM_LOST and "was removed" in (ended.detail or "")
    await until(lambda: node.runner is not None and node.runner.attempts.unsettled() == (), "it to be let go")


async def test_ranks_do_not_outlive_a_record_that_cannot_be_read(node: Node) -> None:
    assert node.runner is not None
    await node.runner.launch(waiting(node.home))
    started = await node.report(TasksStarted)
    assert isinstance(started, TasksStarted)
    token = node.token()
    await node.stop()
    node.files().record.write_bytes(b"{")
    await node.start()
    await node.report(TasksEnded)
    assert carriers(token) == []


async def test_a_job_outlives_its_agent_and_its_end_is_reported_by_the_next_one(home: Path) -> None:
    async with agent_running(home, waiting(home)) as agent:
        assert await said(agent) == "TasksStarted 1"
        agent.kill()
    node = Node(home)
    await node.start()
    started = await node.report(TasksStarted)
    assert node.runner is not None
    assert node.runner.attempts.unsettled() == (AttemptId(JobId(1), Epoch(1)),)
    (home / "go").touch()
    ended = await node.report(TasksEnded)
    assert isinstance(ended, TasksEnded) and isinstance(started, TasksStarted)
    assert ended.exits[0].exit_code == 5
    assert await node.output() == f"begun {started.pids[0]}\ndone\n"
    await node.stop()


async def test_what_ended_while_no_agent_was_there_is_reported_until_acknowledged(home: Path) -> None:
    async with agent_running(home, waiting(home)) as agent:
        assert await said(agent) == "TasksStarted 1"
        agent.kill()
    (home / "go").touch()
    node = Node(home, is_acknowledging=False)
    await until(lambda: node.record().phase is Phase.ENDED, "the shim ends without an agent")
    for _ in range(2):
        node.seen.clear()
        await node.start()
        await node.report(TasksEnded)
        assert [type(fact) for fact in node.seen] == [TasksStarted, TaskFailed, TasksEnded]
        await node.stop()
    await node.start()
    for fact in node.seen:
        assert node.runner is not None
        node.runner.acknowledge(fact)
    await node.stop()
    runner = await node.start()
    assert runner.reports.empty()
    assert runner.attempts.unsettled() == ()
    await node.stop()


async def test_many_agent_deaths_lose_no_job_and_no_output(home: Path) -> None:
    count = "for i in $(seq 200); do echo $i; sleep 0.01; done"
    launches = [launch_of(shell(count), job_id=number) for number in range(1, 6)]
    for _ in range(5):
        async with agent_running(home, *launches) as agent:
            await said(agent)
            agent.kill()
    node = Node(home)
    await node.start()
    ended: list[TasksEnded] = []
    while len(ended) < len(launches):
        fact = await node.report(TasksEnded)
        assert isinstance(fact, TasksEnded)
        ended.append(fact)
    assert sorted(fact.job_id for fact in ended) == [1, 2, 3, 4, 5]
    for launch in launches:
        assert await node.output(job_id=launch.job_id) == "".join(f"{i}\n" for i in range(1, 201))
    await node.stop()


async def test_a_stop_order_that_was_written_but_not_told_is_told_by_the_next_agent(home: Path) -> None:
    node = Node(home)
    runner = await node.start()
    await runner.launch(waiting(home))
    await node.report(TasksStarted)
    await node.stop()
    node.files().stop_order.write_text('{"kill_wait_s": 5, "reason": "cancelled"}')
    await node.start()
    ended = await node.report(TasksEnded)
    assert isinstance(ended, TasksEnded) and ended.detail == "cancelled"
    await node.stop()


async def test_an_order_that_was_accepted_but_not_begun_is_begun_by_the_next_agent(home: Path) -> None:
    node = Node(home)
    await node.start()
    await node.run(launch_of(task(0, "true")))
    order = read_order(node.files())
    assert order is not None
    await node.stop()
    launch = launch_of(shell("echo begun"), job_id=2)
    write_order(node.files(2), replace(order, token="f00d", launch=launch))
    await node.start()
    ended = await node.report(TasksEnded)
    assert ended.job_id == 2
    assert await node.output(job_id=JobId(2)) == "begun\n"
    await node.stop()


async def test_after_a_reboot_what_ran_is_reported_as_lost_to_the_node(home: Path) -> None:
    node = Node(home)
    runner = await node.start()
    await runner.launch(waiting(home))
    await node.report(TasksStarted)
    shim, start_ticks = node.record().shim_pid, node.record().shim_start_ticks
    await node.stop()
    assert shim is not None and start_ticks is not None
    os.kill(shim, signal.SIGKILL)
    await until(lambda: not is_same_process(shim, start_ticks), "the shim to be gone")
    order = read_order(node.files())
    assert order is not None
    write_order(node.files(), replace(order, boot_id="another boot"))
    await node.start()
    ended = await node.report(TasksEnded)
    assert isinstance(ended, TasksEnded)
    assert ended.cause is EndReason.NODE_FAIL
    assert ended.detail is not None and "rebooted" in ended.detail
    await node.stop()


async def test_a_shim_that_died_while_no_agent_was_there_is_found_lost(home: Path) -> None:
    node = Node(home)
    runner = await node.start()
    await runner.launch(waiting(home))
    await node.report(TasksStarted)
    record = node.record()
    await node.stop()
    assert record.shim_pid is not None
    os.kill(record.shim_pid, signal.SIGKILL)
    await node.start()
    ended = await node.report(TasksEnded)
    assert isinstance(ended, TasksEnded) and ended.cause is EndReason.SHIM_LOST
    assert not is_same_process(record.ranks[0].pid, record.ranks[0].start_ticks)
    await node.stop()


async def test_a_damaged_record_ends_the_attempt_and_not_the_agent(home: Path) -> None:
    node = Node(home)
    await node.start()
    node.is_acknowledging = False
    await node.run(launch_of(task(0, "true")))
    await node.stop()
    node.files().record.write_bytes(b"{\x00")
    await node.start()
    ended = await node.report(TasksEnded)
    assert isinstance(ended, TasksEnded) and ended.cause is EndReason.NODE_FAIL
    await node.stop()


# ── orders that come twice, late, or in the wrong order ─────────────────────────────────────


async def test_the_same_launch_twice_starts_the_ranks_once(node: Node) -> None:
    assert node.runner is not None
    launch = waiting(node.home)
    await asyncio.gather(*(node.runner.launch(launch) for _ in range(5)))
    await node.report(TasksStarted)
    await node.runner.launch(launch)
    (node.home / "go").touch()
    await node.report(TasksEnded)
    assert (await node.output()).count("begun") == 1
    await node.runner.launch(launch)
    assert node.runner.reports.empty()


async def test_a_launch_of_a_passed_epoch_is_refused(node: Node) -> None:
    assert node.runner is not None
    await node.run(launch_of(task(0, "true"), epoch=3))
    for epoch in (1, 2, 3):
        await node.runner.launch(launch_of(task(0, "true"), epoch=epoch))
    assert node.runner.reports.empty()
    assert [path.name for path in attempts_folder(node.home).iterdir()] == ["1.3"]


async def test_a_newer_epoch_begins_only_when_the_older_one_is_dead(node: Node) -> None:
    assert node.runner is not None
    await node.runner.launch(launch_of(shell("trap '' TERM; while :; do sleep 0.05; done")))
    await node.report(TasksStarted)
    old = node.record(1, 1).ranks[0]
    await node.runner.launch(launch_of(task(0, "true"), epoch=2))
    ended = await node.report(TasksEnded)
    assert ended.epoch == 1
    assert not is_same_process(old.pid, old.start_ticks)
    second = await node.report(TasksEnded)
    assert second.epoch == 2


@asynccontextmanager
async def stuck(node: Node) -> AsyncIterator[Record]:
    """Attempt 1.1 runs, and its shim does nothing more until the block is left: no stop reaches its ranks."""
    assert node.runner is not None
    await node.runner.launch(launch_of(shell("while :; do sleep 0.05; done")))
    await node.report(TasksStarted)
    record = node.record()
    assert record.shim_pid is not None
    os.kill(record.shim_pid, signal.SIGSTOP)
    try:
        yield record
    finally:
        os.kill(record.shim_pid, signal.SIGCONT)


async def test_an_agent_that_died_while_the_older_attempt_was_ending_still_waits_for_its_end(
    home: Path,
) -> None:
    node = Node(home)
    runner = await node.start()
    async with stuck(node):
        launching = asyncio.create_task(runner.launch(launch_of(task(0, "true"), epoch=2)))
        await until(node.files().stop_order.exists, "the older attempt is told to end")
        await node.stop()
        await asyncio.wait({launching})
        await node.start()
        await node.run(launch_of(task(0, "true"), job_id=2))  # shims start one after the other
        assert not node.files(epoch=2).record.exists()
    assert (await node.report(TasksEnded)).epoch == 1
    assert (await node.report(TasksEnded)).epoch == 2
    await node.stop()


async def test_an_order_that_could_not_be_written_at_first_still_waits_for_the_older_attempt(
    node: Node,
) -> None:
    runner = node.runner
    assert runner is not None
    async with stuck(node):
        blocked = node.files(epoch=2).path
        blocked.symlink_to("/proc/nowhere")
        with pytest.raises(NodeUnavailable):
            await runner.launch(launch_of(task(0, "true"), epoch=2))
        blocked.unlink()
        launching = asyncio.create_task(runner.launch(launch_of(task(0, "true"), epoch=2)))
        await until(node.files(epoch=2).order.exists, "the order is durable")
        await node.run(launch_of(task(0, "true"), job_id=2))  # shims start one after the other
        assert not node.files(epoch=2).record.exists()
    assert (await node.report(TasksEnded)).epoch == 1
    assert (await node.report(TasksEnded)).epoch == 2
    await launching


async def test_a_stop_before_the_launch_is_answered_and_refuses_the_launch_for_good(home: Path) -> None:
    node = Node(home)
    runner = await node.start()
    await runner.stop(JobId(1), Epoch(1), 5, "cancelled")
    ended = await node.report(TasksEnded)
    assert isinstance(ended, TasksEnded) and ended.exits == () and ended.cause is None
    await runner.launch(launch_of(shell("echo never")))
    await node.stop()
    runner = await node.start()
    await runner.launch(launch_of(shell("echo never")))
    assert runner.reports.empty()
    assert not node.files().rank_logs(0).exists()
    await node.stop()


async def test_stopping_an_epoch_that_has_passed_is_answered(node: Node) -> None:
    assert node.runner is not None
    await node.run(launch_of(task(0, "true"), epoch=3))
    await node.runner.stop(JobId(1), Epoch(2), 5, "late")
    ended = await node.report(TasksEnded)
    assert ended.epoch == 2


async def test_a_removed_attempt_stays_refused_across_a_restart(home: Path) -> None:
    node = Node(home)
    runner = await node.start(retention=Retention(keep=2))
    for number in range(1, 6):
        await node.run(launch_of(task(0, "true"), job_id=number))
    folder = attempts_folder(home)
    await until(lambda: sorted(path.name for path in folder.iterdir()) == ["4.1", "5.1"], "only two are kept")
    await node.stop()
    runner = await node.start(retention=Retention(keep=2))
    await runner.launch(launch_of(shell("echo never"), job_id=1))
    assert runner.reports.empty()
    await node.stop()


async def test_unacknowledged_attempts_are_never_removed(home: Path) -> None:
    node = Node(home, is_acknowledging=False)
    await node.start(retention=Retention(keep=0))
    await node.run(launch_of(task(0, "true")))
    await node.run(launch_of(task(0, "true"), job_id=2))
    assert node.runner is not None
    assert len(node.runner.attempts.unsettled()) == 2
    assert all(AttemptDir(path).record.exists() for path in attempts_folder(home).iterdir())
    await node.stop()


async def test_an_order_that_cannot_be_made_durable_is_refused_and_can_be_repeated(node: Node) -> None:
    assert node.runner is not None
    blocked = node.files().path
    blocked.symlink_to("/proc/nowhere")
    with pytest.raises(NodeUnavailable, match=str(blocked)):
        await node.runner.launch(launch_of(shell("echo later")))
    assert node.runner.attempts.unsettled() == ()
    blocked.unlink()
    await node.run(launch_of(shell("echo later")))
    assert await node.output() == "later\n"


async def test_the_zygote_can_be_killed_and_is_replaced(node: Node) -> None:
    await node.run(launch_of(task(0, "true")))
    assert node.runner is not None
    process = node.runner._zygote._process
    assert process is not None
    process.kill()
    await process.wait()
    ended = await node.run(launch_of(task(0, "true"), job_id=2))
    assert ended.exits[0].is_success
