"""A machine that outlives its agent: a disk, shims that survive agents, and boots.

The shims are models of ``agent/shim/supervisor.py``: they claim, write and end records with its own
``RecordFile``, in real attempt folders, and what they start is an interval of virtual time. They
stand where the runner touches the operating system: fork, pidfd and fifo, the process table.
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from simulation.checkers import Execution
from simulation.options import Options
from simulation.virtual import WORLD, Process

from gpusched.agent import runner as runner_module
from gpusched.agent.attempt_dir import read_order
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.order import Order, StopOrder, read_stop_order
from gpusched.agent.shim.record import Phase, RankRecord, Record, RecordFile
from gpusched.domain.errors import NodeUnavailable
from gpusched.domain.ids import AttemptId, DeviceUuid, NodeName
from gpusched.domain.job_state import EndReason
from gpusched.domain.launch_plan import NodeLaunch
from gpusched.domain.node import Device, NodeFacts

MACHINE: ContextVar[Machine] = ContextVar("MACHINE")
KILLED = 137
PIDS = count(1000)


@dataclass(slots=True)
class Live:
    """What runs of an attempt on a machine, and for how long."""

    attempt_id: AttemptId
    token: str
    devices: tuple[DeviceUuid, ...]
    start_us: int
    end_us: int | None = None
    exit_code: int | None = None

    @property
    def start_s(self) -> float:
        return self.start_us / 1e6

    def end(self, exit_code: int) -> None:
        if self.end_us is None:
            self.end_us, self.exit_code = now_us(), exit_code

    def on(self, node: NodeName) -> Execution:
        return Execution(
            job_id=self.attempt_id.job_id,
            epoch=self.attempt_id.epoch,
            node=node,
            start_us=self.start_us,
            end_us=self.end_us,
            devices=self.devices,
            exit_code=self.exit_code,
        )


class Machine:
    """One node's hardware and disk."""

    def __init__(self, name: NodeName, home: Path, random: Random, options: Options) -> None:
        self.name, self.home, self.random, self.options = name, home, random, options
        self.has_faults = True
        self.boots = 1
        self.is_disk_full = False
        self.lives: list[Live] = []
        self.shims: dict[int, Shim] = {}
        self.watch: Watch | None = None
        self.acknowledged_s: dict[AttemptId, float] = {}

    @property
    def boot_id(self) -> str:
        return f"boot-{self.name}-{self.boots}"

    def facts(self) -> NodeFacts:
        devices = tuple(
            Device(uuid=DeviceUuid(f"GPU-{self.name}-{i}"), model="NVIDIA H100", memory_bytes=80 << 30)
            for i in range(self.options.gpus)
        )
        return NodeFacts(
            name=self.name,
            boot_id=self.boot_id,
            agent_version="simulated",
            address=f"host-{self.name}",
            interface="eth0",
            cpu_ids=tuple(range(8)),
            cpus_pinnable=True,
            memory_bytes=64 << 30,
            devices=devices,
        )

    def executions(self) -> Iterator[Execution]:
        return (live.on(self.name) for live in self.lives)

    def power_off(self) -> None:
        """Everything that ran is gone; the disk stays."""
        for shim in tuple(self.shims.values()):
            shim.process.kill()
        self.shims.clear()
        for live in self.lives:
            live.end(KILLED)
        self.boots += 1
        self.watch = None

    def kill_marked(self, token: str) -> bool:
        """SIGKILL whatever carries the token; whether there was anything."""
        found = [live for live in self.lives if live.token == token and live.end_us is None]
        for live in found:
            live.end(KILLED)
        return bool(found)

    def fork_shim(self, path: Path) -> int:
        shim = Shim(self, path)
        self.shims[shim.pid] = shim
        shim.process.spawn(shim.run())
        return shim.pid

    def check_space(self) -> None:
        if self.is_disk_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Shim:
    """Supervises one attempt. Its death leaves what it started running."""

    def __init__(self, machine: Machine, path: Path) -> None:
        self.pid = next(PIDS)
        self.process = Process(f"shim {path.name}")
        self._machine = machine
        self._files = AttemptDir(path)
        self._wake = asyncio.Event()

    def wake(self) -> None:
        self.process.call_later(0.0, self._wake.set)

    def die(self) -> None:
        """Killed: the ranks run on until they end by themselves or somebody sweeps them up."""
        self.process.kill()
        self._leave()

    async def run(self) -> None:
        random = self._machine.random
        await asyncio.sleep(random.expovariate(50))
        order = read_order(self._files)
        assert order is not None
        record = Record(
            phase=Phase.STARTING,
            boot_id=self._machine.boot_id,
            shim_pid=self.pid,
            shim_start_ticks=self.pid,
        )
        file = RecordFile(self._files)
        if file.claim(record):
            await asyncio.sleep(random.expovariate(20))
            record = await self._supervise(order, record, file)
            await asyncio.sleep(random.expovariate(50))
            self._save(file, replace(record, phase=Phase.ENDED))
        self._leave()

    async def _supervise(self, order: Order, record: Record, file: RecordFile) -> Record:
        launch = order.launch
        work = Work.of(launch)
        if read_stop_order(self._files.stop_order) is not None:
            return record
        live = Live(AttemptId(launch.job_id, launch.epoch), order.token, launch.devices, now_us())
        self._machine.lives.append(live)
        # What runs needs no supervisor to end by itself.
        asyncio.get_running_loop().call_later(work.lasts_s, live.end, work.exit_code, context=WORLD)
        ranks = tuple(
            RankRecord(global_rank=task.global_rank, pid=next(PIDS), start_ticks=1) for task in launch.tasks
        )
        record = replace(record, phase=Phase.RUNNING, ranks=ranks, started_at_us=now_us())
        self._save(file, record)
        stop = await self._stop_order(
            live.start_s + min(work.lasts_s + 1e-3, launch.time_limit_s or math.inf)
        )
        if live.end_us is None:
            if stop is None:
                record = replace(record, cause=EndReason.TIME_LIMIT, detail="time limit")
            await self._terminate(live, work, launch.kill_wait_s if stop is None else stop.kill_wait_s)
        return _ended(record, live, work)

    async def _stop_order(self, deadline_s: float) -> StopOrder | None:
        """Wait for one until then. An agent that comes back wakes us without."""
        while True:
            order = read_stop_order(self._files.stop_order)
            if order is not None:
                return order
            if not await self._woken(deadline_s):
                return None

    async def _woken(self, deadline_s: float) -> bool:
        self._wake.clear()
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def _terminate(self, live: Live, work: Work, kill_wait_s: float) -> None:
        """SIGTERM, the time the ranks take for it, SIGKILL; a second stop order shortens the wait."""
        loop = asyncio.get_running_loop()
        kill_at_s = loop.time() + min(work.term_s, kill_wait_s)
        while await self._woken(kill_at_s):
            order = read_stop_order(self._files.stop_order)
            if order is not None:
                kill_at_s = min(kill_at_s, loop.time() + order.kill_wait_s)
        live.end(KILLED)

    def _save(self, file: RecordFile, record: Record) -> None:
        # Room for the next record is set aside, so a full disk does not stop it.
        file.save(record)
        if self._machine.watch is not None:
            self._machine.watch.told(self._files.path.name)

    def _leave(self) -> None:
        self.process.kill()
        self._machine.shims.pop(self.pid, None)
        if self._machine.watch is not None:
            self._machine.watch.gone(self.pid)


def _ended(record: Record, live: Live, work: Work) -> Record:
    match live.exit_code:
        case 0:
            ranks = tuple(replace(rank, exit_code=0) for rank in record.ranks)
        case 1:
            ranks = tuple(
                replace(rank, exit_code=1)
                if rank.global_rank == work.failed_rank
                else replace(rank, signal=signal.SIGTERM)
                for rank in record.ranks
            )
            return replace(record, ranks=ranks, failed_rank=work.failed_rank)
        case _:
            ranks = tuple(replace(rank, signal=signal.SIGKILL) for rank in record.ranks)
    return replace(record, ranks=ranks)


@dataclass(frozen=True, slots=True)
class Work:
    """What a job's ranks do on one node, as its environment says."""

    lasts_s: float
    exit_code: int
    failed_rank: int | None
    term_s: float  # how long they take to end once asked

    @classmethod
    def of(cls, launch: NodeLaunch) -> Work:
        env = dict(launch.tasks[0].env)
        fails = env.get("SIM_FAILS_S")
        ranks = [task.global_rank for task in launch.tasks]
        failing = int(env["SIM_FAILED_RANK"]) if fails is not None else None
        if fails is not None and failing in ranks:
            return cls(float(fails), 1, failing, float(env["SIM_TERM_S"]))
        return cls(float(env["SIM_LASTS_S"]), 0, None, float(env["SIM_TERM_S"]))


class Zygote:
    """Stands for ``agent.zygote.Zygote``."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def fork_shim(self, path: Path) -> int:
        machine = self._machine
        await asyncio.sleep(machine.random.expovariate(100))
        dice = machine.random.random() if machine.has_faults else 1.0
        if dice < machine.options.fork_refused:
            raise NodeUnavailable("simulated: no process to be had")
        if dice < machine.options.fork_refused + machine.options.fork_twice:
            machine.fork_shim(path)
        return machine.fork_shim(path)

    async def close(self) -> None:
        pass


class Watch:
    """Stands for ``agent.watch.ShimWatch``, of one agent's life."""

    def __init__(
        self,
        machine: Machine,
        agent: Process,
        *,
        on_change: Callable[[AttemptId], None],
        on_exit: Callable[[AttemptId], None],
    ) -> None:
        self._machine, self._agent = machine, agent
        self._on_change, self._on_exit = on_change, on_exit
        self._watched: dict[AttemptId, int] = {}

    def open(self) -> None:
        self._machine.watch = self

    def close(self) -> None:
        self._machine.watch = None

    def watch(self, attempt_id: AttemptId, pid: int, start_ticks: int | None = None) -> bool:
        if pid not in self._machine.shims or start_ticks not in (None, pid):
            return False
        self._watched[attempt_id] = pid
        return True

    def wake(self, attempt_id: AttemptId) -> None:
        shim = self._machine.shims.get(self._watched.get(attempt_id, 0))
        if shim is not None:
            shim.wake()

    def told(self, name: str) -> None:
        attempt_id = runner_module.parse_attempt_id(name)
        assert attempt_id is not None
        self._agent.call_later(0.0, self._on_change, attempt_id)

    def gone(self, pid: int) -> None:
        for attempt_id, watched in tuple(self._watched.items()):
            if watched == pid:
                del self._watched[attempt_id]
                self._agent.call_later(0.0, self._on_exit, attempt_id)


class CarefulRecordFile(RecordFile):
    """The agent's record of an end: no room is set aside for it."""

    def _write_next(self, record: Record) -> None:
        MACHINE.get().check_space()
        super()._write_next(record)


def _is_same_process(pid: int, start_ticks: int) -> bool:
    return pid in MACHINE.get().shims and start_ticks == pid


def _kill_leftovers(_ranks: Iterable[RankRecord], token: str, _cgroup: object) -> bool:
    return MACHINE.get().kill_marked(token)


def _checked(write: Callable[..., None]) -> Callable[..., None]:
    def checked(*args: Any) -> None:
        MACHINE.get().check_space()
        write(*args)

    return checked


@contextmanager
def operating_system() -> Iterator[None]:
    """Put machines under the runner in place of this computer."""
    stands_for: dict[str, object] = {
        "is_same_process": _is_same_process,
        "kill_leftovers": _kill_leftovers,
        "boot_id": lambda: MACHINE.get().boot_id,
        "write_order": _checked(runner_module.write_order),
        "write_stop_order": _checked(runner_module.write_stop_order),
        "RecordFile": CarefulRecordFile,
    }
    real = {name: getattr(runner_module, name) for name in stands_for}
    for name, stand_in in stands_for.items():
        setattr(runner_module, name, stand_in)
    try:
        yield
    finally:
        for name, original in real.items():
            setattr(runner_module, name, original)


def now_us() -> int:
    """True time."""
    return round(asyncio.get_running_loop().time() * 1e6)
