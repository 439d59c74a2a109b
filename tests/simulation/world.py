"""One seed: a cluster with its clients, some minutes of faults, then none, then the verdict."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import shutil
import tempfile
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from simulation.agent_model import AgentModel
from simulation.checkers import Acknowledged, History, Violation, check
from simulation.clients import OPERATOR, Client, Operator, user
from simulation.disk import Disk, FaultyStore, ModelStore, SqliteDisk
from simulation.head_model import HeadClock, HeadModel
from simulation.lead import DRIFT, LEASE_S, LedStore, Row
from simulation.machine import Machine, operating_system
from simulation.network import Connection, Network, Way
from simulation.options import Options
from simulation.virtual import VirtualLoop

from gpusched.domain.commands import Command
from gpusched.domain.errors import Broken
from gpusched.domain.events import Event, Recorded
from gpusched.domain.health import Condition, Signal
from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.partition import Partitions
from gpusched.engine.core import Engine, EngineSettings
from gpusched.engine.fold import fold

SETTLE_MAX_S = 3600.0
SQLITE_SHARE = 0.06
FAST_FOLDERS = Path("/dev/shm")  # memory: what is proven here is not that fsync works


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a seed."""

    seed: int
    options: Options
    problems: tuple[str, ...]  # empty: every promise was kept
    jobs: int
    events: int
    executions: int
    faults: int
    steps: int  # callbacks of the loop
    virtual_s: float
    fingerprint: str  # of everything that happened: the same seed gives the same one
    trace: tuple[str, ...]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {self.options}", *(f"  {line}" for line in self.trace)]
        return "\n".join([*lines, *(f"  !! {problem}" for problem in self.problems)])


SICKNESSES = (Signal.ECC_UNCORRECTED, Signal.REMAP_PENDING, Signal.DISK_FULL, Signal.MOUNT_MISSING)


class World:
    """Everything that a seed brings to life. Use it from inside its loop."""

    def __init__(self, seed: int, options: Options, folder: Path) -> None:
        self.options = options
        self.has_faults = True
        self.problems: list[str] = []
        self.trace: list[tuple[float, str]] = []
        self.faults = 0
        self.acknowledged: list[Acknowledged] = []
        self.log: list[Recorded] = []  # stamped with true time
        self.written: list[Recorded] = []
        # A stream for each part: what one draws does not move the dice of another.
        self._seed = seed
        self._dice = self._stream("world")
        self._failover_dice = self._stream("failover")
        self._health_dice = self._stream("health")
        self.network = Network(self._stream("network"), options.latency_s)
        self.clock = HeadClock()
        self.disk: Disk = SqliteDisk(folder / "head.db") if options.is_sqlite else ModelStore()
        self.store: FaultyStore | None = None
        self.serving: HeadModel | None = None
        self._is_store_down = False
        self._is_head_due = False  # it died, and will be started again
        self.row = Row() if options.has_standby and not options.is_sqlite else None
        self.machines = {
            name: Machine(name, folder / name, self._stream(name), options)
            for name in (NodeName(f"n{i}") for i in range(1, options.nodes + 1))
        }
        self.agents: dict[NodeName, AgentModel] = {}

    def _stream(self, name: str) -> Random:
        return Random(f"{self._seed}/{name}")

    def tell(self, words: str) -> None:
        """Add a line to the trace."""
        self.trace.append((asyncio.get_running_loop().time(), words))

    # ── the course of things ─────────────────────────────────────────────────────────────

    async def run(self) -> None:
        self.start_head()
        for name in self.machines:
            self.start_agent(name)
        clients = [self._client(number) for number in range(self.options.clients)]
        operator = Operator(
            OPERATOR,
            reach=self,
            random=self._stream("operator"),
            options=self.options,
            note=self.note,
        )
        standing_by = None if self.row is None else asyncio.create_task(self._stand_by(self.row))
        working = [asyncio.create_task(client.run()) for client in clients]
        disturbing = [asyncio.create_task(fault) for fault in self._faults()]
        maintaining = asyncio.create_task(operator.run())
        await asyncio.sleep(self.options.faults_s)
        for task in (*disturbing, maintaining):
            task.cancel()
        self.heal()
        try:
            async with asyncio.timeout(SETTLE_MAX_S):
                await asyncio.gather(*working)
                for name in self.machines:
                    await operator.resume(name)
                await self._until_settled(operator)
        except TimeoutError:
            waiting = self._unfinished() or self._unsettled()
            self.problems.append(f"not settled {SETTLE_MAX_S:.0f} s after the last fault: {waiting}")
        if standing_by is not None:
            standing_by.cancel()
        self.tell("the end")

    def _client(self, number: int) -> Client:
        return Client(
            user(number),
            reach=self,
            random=self._stream(f"client {number}"),
            options=self.options,
            note=self.note,
        )

    def note(self, ack: Acknowledged) -> None:
        self.tell(f"{ack.subject} heard: {ack.request} {ack.request_id} {ack.job_ids} {ack.refused or ''}")
        self.acknowledged.append(ack)

    async def _until_settled(self, operator: Operator) -> None:
        while (waiting := self._unfinished()) is not None:
            self.tell(f"waiting: {waiting}")
            for job_id in self._held():
                await operator.let_go(job_id)
            await asyncio.sleep(10)
        # What an agent could not note on a full disk it settles with the head on its next stream.
        while any(machine.is_disk_full for machine in self.machines.values()):  # noqa: ASYNC110
            await asyncio.sleep(1)
        for name in self.machines:
            for connection in self.network.of(name):
                connection.reset()
        while (waiting := self._unsettled()) is not None:
            self.tell(f"waiting: {waiting}")
            await asyncio.sleep(10)

    def _engine(self) -> Engine | None:
        head = self.serving
        return None if head is None or head.loop is None else head.loop.engine

    def _held(self) -> list[JobId]:
        engine = self._engine()
        return [] if engine is None else [j.job_id for j in engine.state.jobs.values() if j.is_held]

    def _unfinished(self) -> str | None:
        """Jobs that are still to end; None: there are none."""
        engine = self._engine()
        if engine is None:
            return "no head"
        if engine.state.jobs:
            return "jobs " + ", ".join(f"{j.job_id} {j.state}" for j in engine.state.jobs.values())
        return None

    def _unsettled(self) -> str | None:
        """What heads and agents have still to tell each other; None: nothing."""
        engine = self._engine()
        if engine is None:
            return "no head"
        for name, agent in self.agents.items():
            if agent.runner is None or agent.runner.attempts.unsettled():
                return f"{name} holds attempts"
            if engine.outbox_of(name):
                return f"{name} has not taken its orders"
        # Memory is ahead of the log while a commit is under way: the verdict compares the two.
        return None if engine.state.last_seq == len(self.written) else "the head has not committed all"

    # ── heads and agents ─────────────────────────────────────────────────────────────────

    def _blocking_s(self) -> tuple[float, float]:
        mean_s = self.options.fsync_s
        if self.has_faults and self._dice.random() < self.options.slow_fsync:
            mean_s = 5.0
        return self._dice.expovariate(1 / mean_s), self._dice.expovariate(1 / mean_s)

    def _failed(self, who: str, error: BaseException) -> None:
        self.problems.append(f"{who} ended by itself: " + "".join(traceback.format_exception(error)))

    async def _stand_by(self, row: Row) -> None:
        """Another head: it takes over from one that it has not seen renew its lead for a lease."""
        seen, since_s = (0, 0), 0.0
        while True:
            await asyncio.sleep(1)
            now_s = asyncio.get_running_loop().time()
            if row.is_down or seen != (row.epoch, row.beats):
                seen, since_s = (row.epoch, row.beats), now_s
            elif now_s - since_s > LEASE_S * (1 + DRIFT):
                self.tell("the other head takes over")
                if self._head.process.is_paused:
                    self._lose_connections()
                self.start_head()

    def _lose_connections(self) -> None:
        """Those of a head that says nothing any more, as keepalive finds out."""
        for name in self.machines:
            for connection in self.network.of(name):
                noticed_s = self._failover_dice.uniform(5, 20)
                asyncio.get_running_loop().call_later(noticed_s, connection.reset)

    def _restart_head(self) -> None:
        if self._is_head_due:  # else the other one leads by now
            self.start_head()

    def start_head(self) -> None:
        self.tell("the head starts")
        self._is_head_due = False
        held = None if self.row is None else self.row.take()
        store = self.disk.open()
        self.store = FaultyStore(
            store if held is None else LedStore(store, held),
            self._stream(f"store {self.faults}"),
            self.options,
            self._wrote,
        )
        self.store.is_down, self.store.has_faults = self._is_store_down, self.has_faults
        head = HeadModel(self.store, self.clock, self._blocking_s, self._failed, held)
        head.start()
        self._head = head
        asyncio.get_running_loop().call_later(0.01, self._open_door, head)

    def _open_door(self, head: HeadModel) -> None:
        if head is not self._head:
            return
        if head.is_serving:
            self.serving = head
            self.network.listener = self
        elif not head.process.is_alive:
            self.kill_head()
        else:
            asyncio.get_running_loop().call_later(0.1, self._open_door, head)

    def accept(self, connection: Connection) -> None:
        assert self.serving is not None
        self.serving.accept(connection)

    def kill_head(self) -> None:
        """Kill -9; it is started again some time later."""
        if self._is_head_due:
            return
        self._is_head_due = True
        self.tell("the head dies")
        self._head.die()
        self.disk.close()
        self.serving = self.network.listener = None
        asyncio.get_running_loop().call_later(self._dice.uniform(0.1, 20), self._restart_head)

    def _wrote(self, recorded: Recorded, at_us: int) -> None:
        self.tell(f"{recorded.seq}: {_brief(recorded.event)}")
        self.written.append(recorded)
        self.log.append(replace(recorded, at_us=at_us))

    def start_agent(self, name: NodeName) -> None:
        self.tell(f"the agent of {name} starts")
        agent = self.agents[name] = AgentModel(
            self.machines[name], self.network, self._blocking_s, self._failed
        )
        agent.start()

    def kill_agent(self, name: NodeName, *, back_s: float) -> None:
        """Kill -9; it is started again then."""
        if self.agents[name].process.is_alive:
            self.tell(f"the agent of {name} dies")
            self.agents[name].die()
            asyncio.get_running_loop().call_later(back_s, self.start_agent, name)

    def power_off(self, name: NodeName, *, back_s: float) -> None:
        """The machine reboots."""
        if self.agents[name].process.is_alive:
            self.tell(f"{name} loses power")
            self.agents[name].lose_power()
            asyncio.get_running_loop().call_later(back_s, self.start_agent, name)

    # ── faults ───────────────────────────────────────────────────────────────────────────

    def _faults(self) -> Iterator[Coroutine[Any, Any, None]]:
        given, dice = self.options, self._dice
        kinds: tuple[tuple[float | None, Callable[[], None]], ...] = (
            (given.head_crash_s, self._crash_head),
            (given.head_pause_s, self._pause_head),
            (given.agent_crash_s, lambda: self.kill_agent(self._some(), back_s=dice.uniform(0.1, 30))),
            (given.agent_pause_s, self._pause_agent),
            (given.reboot_s, lambda: self.power_off(self._some(), back_s=dice.uniform(5, 60))),
            (given.shim_death_s, self._kill_shim),
            (given.reset_s, self._reset),
            (given.partition_s, self._cut),
            (given.outage_s, self._store_outage),
            (given.disk_full_s, self._fill_disk),
            (given.clock_jump_s, self._set_clock),
            (given.replay_s, self._replay),
            (given.sick_s, self._sicken),
            (given.head_cut_s, self._cut_head_off),
        )
        for mean_s, fault in kinds:
            if mean_s is not None:
                yield self._disturb(mean_s, fault)

    async def _disturb(self, mean_s: float, fault: Callable[[], None]) -> None:
        while True:
            await asyncio.sleep(self._dice.expovariate(1 / mean_s))
            self.faults += 1
            fault()

    def _some(self) -> NodeName:
        return self._dice.choice(list(self.machines))

    def _crash_head(self) -> None:
        if self._head.process.is_alive:
            self.kill_head()

    def _pause_head(self) -> None:
        head, lasts_s = self._head, self._dice.uniform(0.1, 40)
        self.tell(f"the head stalls for {lasts_s:.1f} s")
        head.process.pause()
        asyncio.get_running_loop().call_later(lasts_s, head.process.resume)

    def _pause_agent(self) -> None:
        name, lasts_s = self._some(), self._dice.uniform(0.1, 40)
        self.tell(f"the agent of {name} stalls for {lasts_s:.1f} s")
        process = self.agents[name].process
        process.pause()
        asyncio.get_running_loop().call_later(lasts_s, process.resume)

    def _cut_head_off(self) -> None:
        """The leader loses its database, and nobody else does: agents and clients still reach it."""
        held, lasts_s = self._head.held, self._failover_dice.uniform(0.1, 60)
        if held is not None and not held.is_cut:
            self.tell(f"the head is cut off from the store for {lasts_s:.1f} s")
            held.is_cut = True
            asyncio.get_running_loop().call_later(lasts_s, setattr, held, "is_cut", False)

    def _kill_shim(self) -> None:
        shims = [(name, shim) for name, machine in self.machines.items() for shim in machine.shims.values()]
        if shims:
            name, shim = self._dice.choice(shims)
            self.tell(f"{shim.process.name} on {name} is killed")
            self.machines[name].kill_shim(shim)

    def _reset(self) -> None:
        name = self._some()
        self.tell(f"connections of {name} break")
        for connection in self.network.of(name):
            connection.reset()

    def _cut(self) -> None:
        name, lasts_s = self._some(), self._dice.expovariate(1 / 20)
        ways = self._dice.choice(((Way.TO_HEAD,), (Way.TO_AGENT,), tuple(Way), tuple(Way)))
        self.tell(f"{name} is cut off ({', '.join(ways)}) for {lasts_s:.1f} s")
        self.network.block(name, ways, lasts_s)

    def _store_outage(self) -> None:
        lasts_s = self._dice.uniform(0.1, 30)
        self.tell(f"the store is down for {lasts_s:.1f} s")
        self._set_store(is_down=True)
        asyncio.get_running_loop().call_later(lasts_s, lambda: self._set_store(is_down=False))

    def _set_store(self, *, is_down: bool) -> None:
        self._is_store_down = is_down
        if self.row is not None:
            self.row.is_down = is_down
        if self.store is not None:
            self.store.is_down = is_down

    def _fill_disk(self) -> None:
        machine, lasts_s = self.machines[self._some()], self._dice.uniform(0.1, 30)
        self.tell(f"the disk of {machine.name} is full for {lasts_s:.1f} s")
        machine.is_disk_full = True
        asyncio.get_running_loop().call_later(lasts_s, setattr, machine, "is_disk_full", False)

    def _set_clock(self) -> None:
        by_s = self._dice.choice((-86400, -3600, -1, 1, 3600, 86400))
        self.tell(f"the head's wall clock jumps by {by_s} s")
        self.clock.wall_offset_us += by_s * 1_000_000

    def _replay(self) -> None:
        name = self._some()
        connections, commands = self.network.of(name), self.network.taken.get(name)
        if connections and commands:
            queued = self._dice.choice(commands)
            self.tell(f"{name} is sent command {queued.seq} again: {_brief(queued.command)}")
            connections[-1].replay(queued)

    def _sicken(self) -> None:
        """A device or the whole node is not well for a time; a reset or a reboot may cure it before."""
        dice, machine = self._health_dice, self.machines[self._some()]
        signal = dice.choice(SICKNESSES)
        is_device = signal in (Signal.ECC_UNCORRECTED, Signal.REMAP_PENDING)
        devices = (dice.choice(machine.facts().devices).uuid,) if is_device else ()
        self.tell(f"{machine.name} is sick: {signal} {' '.join(devices)}")
        machine.sick.append(Condition(signal=signal, detail="simulated", devices=devices))
        self._look_at(machine)
        asyncio.get_running_loop().call_later(dice.uniform(1, 60), self._cure, machine)

    def _cure(self, machine: Machine) -> None:
        machine.sick.clear()
        self._look_at(machine)

    def _look_at(self, machine: Machine) -> None:
        agent = self.agents.get(machine.name)
        if agent is not None and agent.process.is_alive:
            agent.process.spawn(agent.see_machine())

    def heal(self) -> None:
        """No more faults; what is broken stays so for as long as was drawn."""
        self.tell("no more faults")
        self.has_faults = False
        for machine in self.machines.values():
            machine.has_faults = False
            self._cure(machine)
        if self.store is not None:
            self.store.has_faults = False

    def end(self) -> None:
        """Give back what this computer has lent: open files."""
        for agent in self.agents.values():
            agent.let_files_go()
        self.disk.close()

    # ── the verdict ──────────────────────────────────────────────────────────────────────

    def judge(self) -> tuple[str, ...]:
        """Everything that was not as promised."""
        machines = self.machines.values()
        history = History(
            acknowledged=self.acknowledged,
            log=self.log,
            executions=[e for machine in machines for e in machine.executions()],
            losses=[loss for machine in machines for loss in machine.losses],
            is_settled=not self.problems,
        )
        found: list[Violation | str] = [*self.problems, *check(history)]
        try:
            found += self._bookkeeping()
        except Broken as error:
            found.append(f"the log contradicts itself: {error}")
        return tuple(map(str, found))

    def _bookkeeping(self) -> Iterator[str]:
        """Store, log and memory tell one story."""
        self.disk.close()
        if self.disk.log() != tuple(self.written):
            yield "the log in the store is not what was committed"
        engine = self._engine()
        if engine is None or self.problems:
            return
        folded = fold(self.written, Partitions())
        stored = Engine(self.disk.open().load(), EngineSettings()).state
        self.disk.close()
        for name, state in (("the log folded", folded), ("the store loaded", stored)):
            for part in ("jobs", "nodes", "next_job_id", "last_seq", "running", "leased_ports"):
                if getattr(state, part) != getattr(engine.state, part):
                    yield f"{name} gives other {part} than the engine has"

    def fingerprint(self) -> str:
        story = "\n".join(f"{at_s:.6f} {words}" for at_s, words in self.trace)
        return hashlib.sha256(story.encode()).hexdigest()[:16]


def _brief(message: Event | Command) -> str:
    about = {
        name: getattr(message, name)
        for name in ("job_id", "epoch", "node", "reason", "cause", "state")
        if getattr(message, name, None) is not None
    }
    return f"{type(message).__name__} " + " ".join(f"{name}={value}" for name, value in about.items())


def run_seed(seed: int, *, options: Options | None = None) -> Outcome:
    """Run one seed from its birth to its verdict. The same seed always does the same."""
    given = options or Options.draw(Random(f"{seed}/options"), sqlite_share=SQLITE_SHARE)
    folder = Path(
        tempfile.mkdtemp(prefix="gpusched-sim-", dir=FAST_FOLDERS if FAST_FOLDERS.is_dir() else None)
    )
    loop = VirtualLoop()
    try:
        with _quiet(), operating_system():
            return _live(seed, given, folder, loop)
    finally:
        loop.bury()
        shutil.rmtree(folder)


def _live(seed: int, options: Options, folder: Path, loop: VirtualLoop) -> Outcome:
    failures: list[str] = []
    loop.set_exception_handler(lambda _, context: failures.append(_of(context)))
    world = loop.run_until_complete(_run(seed, options, folder))
    try:
        return _outcome(seed, world, loop, failures)
    finally:
        world.end()


async def _run(seed: int, options: Options, folder: Path) -> World:
    world = World(seed, options, folder)
    await world.run()
    return world


def _outcome(seed: int, world: World, loop: VirtualLoop, failures: list[str]) -> Outcome:
    problems = world.judge() + tuple(failures)
    return Outcome(
        seed=seed,
        options=world.options,
        problems=problems,
        jobs=sum(len(ack.job_ids) for ack in world.acknowledged if ack.request == "Submit"),
        events=len(world.log),
        executions=sum(len(machine.lives) for machine in world.machines.values()),
        faults=world.faults,
        steps=loop.steps,
        virtual_s=loop.time(),
        fingerprint=world.fingerprint(),
        trace=tuple(f"{at_s:10.3f} {words}" for at_s, words in world.trace),
    )


def _of(context: dict[str, object]) -> str:
    error = context.get("exception")
    told = "".join(traceback.format_exception(error)) if isinstance(error, BaseException) else ""
    return f"{context.get('message')}: {told}"


@contextmanager
def _quiet() -> Iterator[None]:
    """No logs, and no collection in the middle of a seed: it would run ``finally`` blocks of the dead."""
    was_on = gc.isenabled()
    gc.disable()
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        if was_on:
            gc.enable()
