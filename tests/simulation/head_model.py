"""A head: the real engine loop, agent sessions and channels, on a store that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import cast

from simulation.lead import Held
from simulation.network import Connection, Way
from simulation.virtual import Process

from gpusched.api.agents import AgentApi
from gpusched.backends.bare_metal import BareMetal
from gpusched.domain.errors import GpuschedError, NotLeading, NotPermitted, StoreUnavailable
from gpusched.domain.events import Recorded
from gpusched.domain.identity import Identity, Principal, Role
from gpusched.domain.ids import JobId
from gpusched.domain.link import FromHead
from gpusched.domain.membership import CertificateGiven
from gpusched.engine.inputs import Request
from gpusched.engine.loop import Loop, LoopSettings
from gpusched.engine.ports import Store
from gpusched.telemetry.latest import Latest

HEARTBEAT_S = 5.0
Reply = Callable[[tuple[JobId, ...] | GpuschedError], None]


class Everybody:
    """No agent here has a certificate: each is known by its token."""

    def require(self, who: Principal) -> None:
        assert who.certificate is None

    async def renew(self, who: Principal, signing_request: bytes) -> CertificateGiven:
        raise NotPermitted("no agent has a certificate here")


class HeadClock:
    """The head machine's clocks; the wall clock may be set."""

    def __init__(self) -> None:
        self.wall_offset_us = 1_700_000_000_000_000

    def now_us(self) -> int:
        return self.monotonic_us() + self.wall_offset_us

    def monotonic_us(self) -> int:
        return round(asyncio.get_running_loop().time() * 1e6)


class WatchedFeed:
    """Hears what watchers would: every event, once, in order."""

    def __init__(self) -> None:
        self.last_seq: int | None = None

    def publish(self, events: Sequence[Recorded]) -> None:
        for recorded in events:
            assert self.last_seq in (None, recorded.seq - 1), (
                f"published {recorded.seq} after {self.last_seq}"
            )
            self.last_seq = recorded.seq


class HeadModel:
    """One life of the head."""

    def __init__(
        self,
        store: Store,
        clock: HeadClock,
        blocking_s: Callable[[], tuple[float, float]],
        on_failure: Callable[[str, BaseException], None],
        held: Held | None,
    ) -> None:
        self.process = Process("head", blocking_s)
        self.held = held  # None: no other head can lead
        self.loop: Loop | None = None
        self._store, self._clock, self._on_failure = store, clock, on_failure
        self._agents: AgentApi | None = None
        self._connections: list[Connection] = []

    @property
    def is_serving(self) -> bool:
        return self.process.is_alive and self._agents is not None

    def start(self) -> None:
        self.process.spawn(self._main())
        if self.held is not None:
            self.process.spawn(self._keep(self.held))

    def die(self) -> None:
        """Kill -9: the kernel closes its connections."""
        self.process.kill()
        for connection in self._connections:
            connection.close(Way.TO_AGENT)

    def accept(self, connection: Connection) -> None:
        self._connections = [old for old in self._connections if old.is_open]
        self._connections.append(connection)
        self.process.spawn(self._serve(connection))

    def ask(self, request: Request, reply: Reply) -> asyncio.Task[None]:
        """Serve a call. Cancel the task where its client hangs up, as gRPC does."""
        return self.process.spawn(self._answer(request, reply))

    async def _main(self) -> None:
        try:
            channels = BareMetal()
            settings = LoopSettings()
            self.loop = Loop(self._store, channels, WatchedFeed(), self._clock, settings)
            self._agents = AgentApi(
                self.loop,
                channels,
                Latest(),
                Everybody(),
                issue=lambda node, attempt_id: None,
                cluster="simulated",
                heartbeat_interval_s=HEARTBEAT_S,
                lease_s=settings.silence_max_s,
                may_grant=lambda: self.held is None or self.held.may_grant(),
            )
            await self.loop.run()
        except StoreUnavailable:
            self.die()  # at the start: whoever supervises it tries again
        except NotLeading:
            self.die()
        except Exception as error:  # noqa: BLE001 (the engine must not end: the world wants to know of any)
            self._on_failure(self.process.name, error)
            self.die()

    async def _keep(self, held: Held) -> None:
        try:
            await held.keep()
        except NotLeading:
            self.die()

    async def _serve(self, connection: Connection) -> None:
        assert self._agents is not None
        who = Principal(Identity("agent", 0, 0), frozenset({Role.NODE}), connection.node)
        try:
            incoming = connection.head_end.receive()
            serving = cast(AsyncGenerator[FromHead, None], self._agents.connect(who, incoming))
            async with aclosing(serving) as outgoing:
                async for message in outgoing:
                    connection.send(Way.TO_AGENT, message)
        except GpuschedError:
            pass
        finally:
            connection.close(Way.TO_AGENT)

    async def _answer(self, request: Request, reply: Reply) -> None:
        assert self.loop is not None
        try:
            reply(await self.loop.ask(request))
        except GpuschedError as error:
            reply(error)
