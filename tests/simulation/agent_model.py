"""An agent: the real session, outbox, runner, archive and fence, on a machine of the simulation.

Only what touches the operating system is a model (``machine.py``), and the loop that dials the
head, which in the daemon speaks gRPC.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

from simulation.machine import MACHINE, Machine, Watch, Zygote
from simulation.network import Connection, Network, Way
from simulation.virtual import Process

from gpusched.agent.archive import Retention
from gpusched.agent.attempt_dir import attempt_dir, attempts_folder, parse_attempt_id
from gpusched.agent.health.picture import Picture
from gpusched.agent.metering import Meters
from gpusched.agent.outbox import Outbox
from gpusched.agent.runner import Runner
from gpusched.agent.seen import Seen
from gpusched.agent.session import Session
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.vitals import Looked, Vitals
from gpusched.domain.commands import RepairNode
from gpusched.domain.errors import GpuschedError, HeadUnavailable
from gpusched.domain.events import AgentReport, HealthReport, RepairEnded
from gpusched.domain.health import HealthObserved
from gpusched.domain.ids import AttemptId, DeviceUuid
from gpusched.domain.launch_plan import NodeLaunch
from gpusched.domain.link import FromAgent, FromHead
from gpusched.domain.telemetry import NodeSample

RECONNECT_FIRST_S = 0.1
RECONNECT_MAX_S = 5.0


class SimulatedRunner(Runner):
    """The runner, with a machine of the simulation under it."""

    def __init__(self, machine: Machine, process: Process) -> None:
        super().__init__(
            machine.home,
            machine.name,
            retention=Retention(keep=machine.options.kept_attempts, age_max_s=1e12),
        )
        self._machine = machine
        self._zygote = cast(Any, Zygote(machine))
        follower = self._follower
        follower._watch = cast(
            Any, Watch(machine, process, on_change=follower._changed, on_exit=follower._exited)
        )
        follower._zygote = self._zygote

    async def start(self) -> None:
        # The archive's order is that of these times, and this computer's clock is not the seed's.
        for path in attempts_folder(self._home).iterdir():
            attempt_id = parse_attempt_id(path.name)
            if attempt_id in self._machine.acknowledged_s:
                since_s = self._machine.acknowledged_s[attempt_id]
                os.utime(AttemptDir(path).acknowledged, (since_s, since_s))
        await super().start()

    def acknowledge(self, fact: AgentReport) -> None:
        super().acknowledge(fact)
        attempt_id = AttemptId(fact.job_id, fact.epoch)
        if attempt_dir(self._home, attempt_id).acknowledged.exists():
            self._machine.acknowledged_s.setdefault(attempt_id, asyncio.get_running_loop().time())


class NoMeters:
    """Measures nothing: samples are not events, and nothing depends on them."""

    def __init__(self, machine: Machine) -> None:
        self._sample = NodeSample(node=machine.name, sampled_at_us=0)

    async def sample(self) -> NodeSample:
        return self._sample

    async def start(self, attempt_id: AttemptId, devices: tuple[DeviceUuid, ...]) -> None:
        pass

    async def complete(self, fact: AgentReport) -> AgentReport:
        return fact


class SimulatedHealth:
    """The real picture of a machine that may be sick; what is ordered done about it works at once."""

    def __init__(self, machine: Machine, tell: Callable[[HealthReport], None]) -> None:
        self._machine, self._tell = machine, tell
        self._picture = Picture(
            machine.name,
            machine.boot_id,
            sources=("machine",),
            now_us=lambda: round(asyncio.get_running_loop().time() * 1e6),
            tell=tell,
        )

    def look(self) -> None:
        """See how the machine is."""
        self._picture.put("machine", self._machine.sick)

    def acknowledge(self, fact: HealthReport) -> None:
        if isinstance(fact, HealthObserved):
            self._picture.acknowledge(fact)

    def compare_clocks(self, head_us: int | None, sent_us: int, received_us: int) -> None:
        pass

    async def repair(self, order: RepairNode) -> None:
        kept = [c for c in self._machine.sick if not set(c.devices) & set(order.reset)]
        self._machine.sick[:] = kept
        self.look()
        failures = tuple(condition.detail for condition in self._picture.conditions)
        self._tell(RepairEnded(node=order.node, number=order.number, failures=failures))

    async def prolog(self, launch: NodeLaunch) -> str | None:
        return None

    def observe(self, sample: NodeSample) -> None:
        pass


class NoVitals:
    """Sees no ranks: what a rank does between two events is not simulated."""

    async def look(self, sample: NodeSample) -> Looked:
        return Looked()


class _Link:
    """The agent's end of a connection, as the session wants it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def send(self, message: FromAgent) -> None:
        self._connection.send(Way.TO_HEAD, message)

    async def __aiter__(self) -> AsyncIterator[FromHead]:
        async for message in self._connection.agent_end.receive():
            yield message
        raise HeadUnavailable("the stream broke")


class AgentModel:
    """One life of a node's agent."""

    def __init__(
        self,
        machine: Machine,
        network: Network,
        blocking_s: Callable[[], tuple[float, float]],
        on_failure: Callable[[str, BaseException], None],
    ) -> None:
        self.process = Process(f"agent {machine.name}", blocking_s)
        self.process.context.run(MACHINE.set, machine)
        self.runner: Runner | None = None
        self._machine, self._network = machine, network
        self._on_failure = on_failure
        self._outbox = Outbox()
        self.health = SimulatedHealth(machine, self._outbox.put)
        self._seen = Seen(machine.home / "seen.json")
        self.connection: Connection | None = None

    def start(self) -> None:
        self.process.spawn(self._main())

    def die(self) -> None:
        """Kill -9: the kernel closes its connection, its machine goes on."""
        self.let_files_go()
        self.process.kill()
        self._machine.watch = None
        if self.connection is not None:
            self.connection.close(Way.TO_HEAD)

    def lose_power(self) -> None:
        self.let_files_go()
        self.process.kill()
        self._machine.power_off()
        if self.connection is not None:
            self.connection.vanish(Way.TO_HEAD)

    def let_files_go(self) -> None:
        """The kernel closes what a dead process had open."""
        if self.runner is not None and self.process.is_alive:
            self.runner.lease.close()

    async def see_machine(self) -> None:
        """Notice at once how the machine is."""
        self.health.look()

    async def _main(self) -> None:
        try:
            runner = self.runner = SimulatedRunner(self._machine, self.process)
            await runner.start()
            self.health.look()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._collect_reports(runner))
                tasks.create_task(self._stay_connected(runner))
        except Exception as error:  # noqa: BLE001 (an agent must not end: the world wants to know of any)
            self._on_failure(self.process.name, error)

    async def _collect_reports(self, runner: Runner) -> None:
        while True:
            self._outbox.put(await runner.reports.get())

    async def _stay_connected(self, runner: Runner) -> None:
        loop = asyncio.get_running_loop()
        wait_s = RECONNECT_FIRST_S
        while True:
            began_s = loop.time()
            try:
                await self._serve_once(runner)
            except* GpuschedError:
                pass
            wait_s = RECONNECT_FIRST_S if loop.time() - began_s > RECONNECT_MAX_S else wait_s
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, RECONNECT_MAX_S)

    async def _serve_once(self, runner: Runner) -> None:
        connection = self.connection = await self._network.connect(self._machine.name)
        try:
            meters = cast(Meters, NoMeters(self._machine))
            vitals = cast(Vitals, NoVitals())
            session = Session(
                _Link(connection),
                self._machine.facts(),
                runner=runner,
                outbox=self._outbox,
                meters=meters,
                vitals=vitals,
                health=self.health,
                seen=self._seen,
            )
            await session.run()
        finally:
            connection.close(Way.TO_HEAD)
