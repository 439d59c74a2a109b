"""What the runner's tests are written in: launches, a node, and waiting with a deadline."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from gpusched.agent.attempt_dir import attempt_dir, attempts_folder, read_order, read_record
from gpusched.agent.runner import Runner
from gpusched.agent.shim.containment import TOKEN_VARIABLE, Cgroup, kill_leftovers
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.notes import remove_notes
from gpusched.agent.shim.order import Order
from gpusched.agent.shim.proc import is_same_process, process_table
from gpusched.agent.shim.record import Record
from gpusched.domain.events import AgentReport, TasksEnded, TasksStarted
from gpusched.domain.identity import Identity
from gpusched.domain.ids import AttemptId, Epoch, JobId, NodeName
from gpusched.domain.job_spec import WarningSignal
from gpusched.domain.launch_plan import NodeLaunch, TaskLaunch
from gpusched.domain.logs import LogChunk, LogQuery

PATIENCE_S = 30.0
NODE = NodeName("n0")
JOB, FIRST = JobId(1), Epoch(1)
ME = Identity("me", os.getuid(), os.getgid())


def task(rank: int, *argv: str, **env: str) -> TaskLaunch:
    """A rank that runs ``argv``."""
    full = {"PATH": os.environ["PATH"], "RANK": str(rank), **env}
    return TaskLaunch(
        global_rank=rank, local_rank=rank, argv=argv, env=tuple(full.items()), cpu_ids=(), devices=()
    )


def shell(text: str, rank: int = 0) -> TaskLaunch:
    """A rank that is a shell."""
    return task(rank, "/bin/sh", "-c", text)


def python(code: str, rank: int = 0, **env: str) -> TaskLaunch:
    """A rank that is a Python program."""
    return task(rank, sys.executable, "-I", "-S", "-u", "-c", code, **env)


def launch_of(*tasks: TaskLaunch, job_id: int = 1, epoch: int = 1) -> NodeLaunch:
    """A launch of these ranks; change single fields with ``dataclasses.replace``."""
    return NodeLaunch(
        job_id=JobId(job_id),
        epoch=Epoch(epoch),
        node=NODE,
        node_rank=0,
        owner=ME,
        workdir="/",
        tasks=tasks,
        devices=(),
        script=None,
        time_limit_s=None,
        signal=WarningSignal(),
        kill_wait_s=5,
        log_cap_bytes=1 << 20,
    )


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition, with a deadline."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 (other processes bring it about)
            await asyncio.sleep(0.01)
    assert condition(), what


@dataclass
class Node:
    """A runner and what it reported."""

    home: Path
    cgroup_parent: Path | None = None
    seen: list[AgentReport] = field(default_factory=list)
    runner: Runner | None = None
    is_acknowledging: bool = True

    async def start(self, **options: object) -> Runner:
        self.runner = Runner(self.home, NODE, cgroup_parent=self.cgroup_parent, **options)  # type: ignore[arg-type]
        await self.runner.start()
        return self.runner

    async def stop(self) -> None:
        assert self.runner is not None
        await self.runner.close()
        self.runner = None

    async def next_report(self) -> AgentReport:
        assert self.runner is not None
        async with asyncio.timeout(PATIENCE_S):
            fact = await self.runner.reports.get()
        self.seen.append(fact)
        if self.is_acknowledging:
            self.runner.acknowledge(fact)
        return fact

    async def report(self, kind: type[AgentReport]) -> AgentReport:
        """The next report of that kind."""
        while True:
            fact = await self.next_report()
            if isinstance(fact, kind):
                return fact

    async def run(self, launch: NodeLaunch) -> TasksEnded:
        """Launch, and wait for the end."""
        assert self.runner is not None
        await self.runner.launch(launch)
        fact = await self.report(TasksEnded)
        assert isinstance(fact, TasksEnded)
        return fact

    def files(self, job_id: int = 1, epoch: int = 1) -> AttemptDir:
        return attempt_dir(self.home, AttemptId(JobId(job_id), Epoch(epoch)))

    def record(self, job_id: int = 1, epoch: int = 1) -> Record:
        record = read_record(self.files(job_id, epoch))
        assert record is not None
        return record

    def order(self, job_id: int = 1, epoch: int = 1) -> Order:
        order = read_order(self.files(job_id, epoch))
        assert order is not None
        return order

    def token(self) -> str:
        return self.order().token

    async def logs(self, **query: object) -> list[LogChunk]:
        assert self.runner is not None
        wanted = replace(LogQuery(job_id=JobId(1), epoch=Epoch(1)), **query)  # type: ignore[arg-type]
        async with asyncio.timeout(PATIENCE_S):
            return [chunk async for chunk in self.runner.read_logs(wanted)]

    async def output(self, **query: object) -> str:
        return b"".join(chunk.data for chunk in await self.logs(**query)).decode()


async def started(node: Node, launch: NodeLaunch, word: str = "ready") -> None:
    """Launch, and wait until the first rank has said ``word``."""
    assert node.runner is not None
    await node.runner.launch(launch)
    await node.report(TasksStarted)
    await said(node, launch, word)


async def said(node: Node, launch: NodeLaunch, word: str) -> None:
    """Wait until the first rank has written a line that ends with ``word``."""
    folder = node.files(launch.job_id, launch.epoch).rank_logs(launch.tasks[0].global_rank)
    await until(lambda: any(f"{word}\n".encode() in path.read_bytes() for path in folder.glob("*.log")), word)


def carriers(token: str) -> list[int]:
    """Every live process that carries an attempt's token."""
    marker = f"{TOKEN_VARIABLE}={token}".encode()
    found = []
    for process in process_table().values():
        try:
            environ = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if marker in environ and not process.is_zombie:
            found.append(process.pid)
    return found


def end_everything(home: Path) -> None:
    """Kill the shims and ranks of every attempt under ``home``."""
    for path in attempts_folder(home).glob("*"):
        order, record = read_order(AttemptDir(path)), read_record(AttemptDir(path))
        shim = None if record is None else record.shim_pid
        if record is not None and shim is not None and is_same_process(shim, record.shim_start_ticks or 0):
            os.kill(shim, signal.SIGKILL)
        if order is not None:
            parent = order.cgroup_parent
            cgroup = None if parent is None else Cgroup(Path(parent) / order.cgroup_name)
            while kill_leftovers(() if record is None else record.ranks, order.token, cgroup):
                pass
            if cgroup is not None:
                cgroup.remove()
            remove_notes(order.notes)
