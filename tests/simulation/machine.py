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
from types import ModuleType
from typing import Any

from simulation.checkers import Execution, Loss
from simulation.options import Options
from simulation.virtual import WORLD, Process

from gpusched.agent import follow as follow_module
from gpusched.agent import held as held_module
from gpusched.agent import runner as runner_module
from gpusched.agent import session as session_module
from gpusched.agent.attempt_dir import (
    attempt_dir,
    parse_attempt_id,
    read_order,
    write_order,
    write_stop_order,
)
from gpusched.agent.shim import lease as lease_module
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.lease import Lease, LeaseState, read_lease
from gpusched.agent.shim.order import Order, StopOrder, read_stop_order
from gpusched.agent.shim.record import Phase, RankRecord, Record, RecordFile
from gpusched.domain.errors import NodeUnavailable
from gpusched.domain.health import Condition
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
    term: tuple[str, int] | None  # boot and term of the lease that it runs under; None: it is not fenced
    start_us: int
    end_us: int | None = None
    exit_code: int | None = None

    @property
    def is_fenced(self) -> bool:
        return self.term is not None

    @property
    def start_s(self) -> float:
        return self.start_us / 1e6

    def end(self, exit_code: int) -> None:
        if self.end_us is None:
            self.end_us, self.exit_code = now_us(), exit_code

    def on(self, node: NodeName, leased_until_us: int | None) -> Execution:
        return Execution(
            job_id=self.attempt_id.job_id,
            epoch=self.attempt_id.epoch,
            node=node,
            start_us=self.start_us,
            end_us=self.end_us,
            devices=self.devices,
            exit_code=self.exit_code,
            leased_until_us=leased_until_us,
        )


CLOCK_DRIFT = 0.005
LATE_S = 2.0  # how long a busy machine may keep a shim from running; the grace for killing covers it
ESCAPES = 0.3


class Machine:
    """One node's hardware and disk."""

    def __init__(self, name: NodeName, home: Path, random: Random, options: Options) -> None:
        self.name, self.home, self.random, self.options = name, home, random, options
        self.has_faults = True
        self.boots = 1
        self.is_disk_full = False
        self.sick: list[Condition] = []
        self._clock_rate = 1 + random.uniform(-CLOCK_DRIFT, CLOCK_DRIFT)
        self._booted_s = asyncio.get_running_loop().time()
        self.lives: list[Live] = []
        self.shims: dict[int, Shim] = {}
        self.watch: Watch | None = None
        self.losses: list[Loss] = []
        self.acknowledged_s: dict[AttemptId, float] = {}
        self._leased_until_us: dict[tuple[str, int], int] = {}  # true time, by boot and term

    @property
    def boot_id(self) -> str:
        return f"boot-{self.name}-{self.boots}"

    def boot_time_us(self) -> int:
        """CLOCK_BOOTTIME: begins again with each boot, and is never quite right."""
        return round((asyncio.get_running_loop().time() - self._booted_s) * self._clock_rate * 1e6)

    def true_duration_s(self, boot_us: int) -> float:
        """How long the boot clock takes to advance by that much."""
        return boot_us / 1e6 / self._clock_rate

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
        until_us = self._leased_until_us
        return (live.on(self.name, None if live.term is None else until_us[live.term]) for live in self.lives)

    def note_lease(self, state: LeaseState) -> None:
        """Remember how long a term was made to last."""
        left_s = self.true_duration_s(state.deadline_us - self.boot_time_us())
        self._leased_until_us[self.boot_id, state.term] = now_us() + round(left_s * 1e6)

    def power_off(self) -> None:
        """Everything that ran is gone; the disk stays."""
        self._lose(EndReason.NODE_FAIL)
        for shim in tuple(self.shims.values()):
            shim.process.kill()
        self.shims.clear()
        for live in self.lives:
            live.end(KILLED)
        self.boots += 1
        self.sick.clear()
        self._booted_s = asyncio.get_running_loop().time()
        self.watch = None

    def kill_shim(self, shim: Shim) -> None:
        """Kill -9: its ranks die with it (PR_SET_PDEATHSIG), and what has left them may run on."""
        self._lose(EndReason.SHIM_LOST)
        shim.die()
        for live in self.lives:
            # Known gap: what escaped from a fenced attempt outlives the lease while the agent is dead too.
            if live.attempt_id == shim.attempt_id and (live.is_fenced or self.random.random() > ESCAPES):
                live.end(KILLED)

    def _lose(self, reason: EndReason) -> None:
        self.losses.append(Loss(node=self.name, at_us=now_us(), reason=reason))

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
        attempt_id = parse_attempt_id(path.name)
        assert attempt_id is not None
        self.attempt_id = attempt_id

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
        if self._lease_left_s(order) <= 0:
            return replace(record, cause=EndReason.NODE_FAIL, detail="the lease ran out")
        term = None if order.lease is None else (order.boot_id, order.lease.term)
        live = Live(self.attempt_id, order.token, launch.devices, term, now_us())
        self._machine.lives.append(live)
        # What runs needs no supervisor to end by itself.
        asyncio.get_running_loop().call_later(work.lasts_s, live.end, work.exit_code, context=WORLD)
        ranks = tuple(
            RankRecord(global_rank=task.global_rank, pid=next(PIDS), start_ticks=1) for task in launch.tasks
        )
        record = replace(record, phase=Phase.RUNNING, ranks=ranks, started_at_us=now_us())
        self._save(file, record)
        natural_s = live.start_s + work.lasts_s + 1e-3
        limit_s = live.start_s + (launch.time_limit_s or math.inf)
        stop = await self._stop_order(order, min(natural_s, limit_s))
        if live.end_us is None and self._lease_left_s(order) <= 0:
            live.end(KILLED)
            record = replace(record, cause=EndReason.NODE_FAIL, detail="the lease ran out")
        elif live.end_us is None:
            if stop is None:
                record = replace(record, cause=EndReason.TIME_LIMIT, detail="time limit")
            await self._terminate(live, order, work, launch.kill_wait_s if stop is None else stop.kill_wait_s)
        return _ended(record, live, work)

    async def _stop_order(self, order: Order, deadline_s: float) -> StopOrder | None:
        """Wait for one until then, or until the lease is over. An agent that comes back wakes us without."""
        loop = asyncio.get_running_loop()
        while True:
            stop = read_stop_order(self._files.stop_order)
            left_s = self._lease_left_s(order)
            if stop is not None or left_s <= 0 or loop.time() >= deadline_s:
                return stop
            await self._woken(min(deadline_s, loop.time() + left_s))
            if self._lease_left_s(order) <= 0:
                await asyncio.sleep(self._machine.random.uniform(0, LATE_S))

    def _lease_left_s(self, order: Order) -> float:
        if order.lease is None:
            return math.inf
        state = read_lease(Path(order.lease.path))
        return self._machine.true_duration_s(state.left_us(order.lease.term, self._machine.boot_time_us()))

    async def _woken(self, deadline_s: float) -> bool:
        self._wake.clear()
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def _terminate(self, live: Live, order: Order, work: Work, kill_wait_s: float) -> None:
        """SIGTERM, the time the ranks take for it, SIGKILL; a second stop order or the lease shortens it."""
        loop = asyncio.get_running_loop()
        kill_at_s = loop.time() + min(work.term_s, kill_wait_s)
        while (now_s := loop.time()) < kill_at_s and (left_s := self._lease_left_s(order)) > 0:
            if await self._woken(min(kill_at_s, now_s + left_s)):
                stop = read_stop_order(self._files.stop_order)
                if stop is not None:
                    kill_at_s = min(kill_at_s, loop.time() + stop.kill_wait_s)
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
        attempt_id = parse_attempt_id(name)
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


class WatchedLease(Lease):
    """The agent's lease; the machine remembers what it was."""

    def renew(self, deadline_us: int) -> None:
        super().renew(deadline_us)
        MACHINE.get().note_lease(read_lease(self.path))


class CarefulPath(type(Path())):  # type: ignore[misc]
    """A place on a disk that may be full."""

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        MACHINE.get().check_space()
        super().mkdir(mode, parents, exist_ok)

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        MACHINE.get().check_space()
        super().touch(mode, exist_ok)


def _attempt_dir(home: Path, attempt_id: AttemptId) -> AttemptDir:
    return AttemptDir(CarefulPath(attempt_dir(home, attempt_id).path))


def _boot_time_us() -> int:
    return MACHINE.get().boot_time_us()


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
    stands_for: dict[tuple[ModuleType, str], object] = {
        (follow_module, "is_same_process"): _is_same_process,
        (follow_module, "kill_leftovers"): _kill_leftovers,
        (held_module, "attempt_dir"): _attempt_dir,
        (runner_module, "boot_id"): lambda: MACHINE.get().boot_id,
        (follow_module, "boot_id"): lambda: MACHINE.get().boot_id,
        (runner_module, "Lease"): WatchedLease,
        (runner_module, "write_order"): _checked(write_order),
        (runner_module, "write_stop_order"): _checked(write_stop_order),
        (follow_module, "RecordFile"): CarefulRecordFile,
        (lease_module, "boot_time_us"): _boot_time_us,
        (session_module, "boot_time_us"): _boot_time_us,
    }
    real = {(module, name): getattr(module, name) for module, name in stands_for}
    for (module, name), stand_in in stands_for.items():
        setattr(module, name, stand_in)
    try:
        yield
    finally:
        for (module, name), original in real.items():
            setattr(module, name, original)


def now_us() -> int:
    """True time."""
    return round(asyncio.get_running_loop().time() * 1e6)
