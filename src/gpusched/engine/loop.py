"""The tick: collect what came in, step the engine once, commit, then answer and deliver.

One task, so one writer. While a commit is under way the next inputs gather, and go into the
next transaction together (group commit). After a cycle the next one rests (``pace``); what comes in
meanwhile is committed and answered all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from typing import ParamSpec, TypeVar

from gpusched.domain.clock import Clock
from gpusched.domain.errors import NotLeading, StoreUnavailable, Unavailable
from gpusched.domain.events import JobAllocated, NodeAhead, Recorded
from gpusched.domain.history import Mark
from gpusched.domain.ids import AttemptId, JobId, NodeName, RequestId
from gpusched.domain.pulse import QuietRank, RankPace
from gpusched.domain.telemetry import NodeSample
from gpusched.engine.core import Engine, EngineSettings, Tick, is_urgent, subject_of
from gpusched.engine.inputs import DelayPassed, Fact, NodeConnected, Request, Submit
from gpusched.engine.liveness import Liveness
from gpusched.engine.pace import CyclePace
from gpusched.engine.ports import CommandSink, EventFeed, Loaded, RequestRecord, Store
from gpusched.engine.stall import StallWatch
from gpusched.engine.straggler import StragglerWatch
from gpusched.engine.utilization import UtilizationWatch

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")

AGAIN_US = 60_000_000
"""A store that fails so soon after a failure, and took nothing between, has not recovered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopSettings:
    """How the loop is paced."""

    engine: EngineSettings = field(default_factory=EngineSettings)
    silence_max_s: float = 15.0  # a node unheard for longer is lost
    check_interval_s: float = 1.0  # of liveness and deadlines
    batch_max: int = 10_000  # jobs, and requests of other kinds, in a transaction of several requests
    store_retry_s: float = 0.5


@dataclass(frozen=True, slots=True)
class _Asked:
    request: Request
    answer: asyncio.Future[tuple[JobId, ...]]


@dataclass(frozen=True, slots=True)
class _Told:
    fact: Fact
    committed: Callable[[], None] | None  # called once the fact is durable


class Loop:
    """Runs one engine on one store. Start ``run`` as a task; it ends when cancelled."""

    def __init__(
        self,
        store: Store,
        sink: CommandSink,
        feed: EventFeed,
        clock: Clock,
        settings: LoopSettings,
    ) -> None:
        self._store, self._sink, self._feed, self.clock = store, sink, feed, clock
        self._settings = settings
        loaded = store.load()
        self._engine = Engine(loaded, settings.engine)
        self._mark = self._engine.mark  # of what is committed
        self._tell_if_behind()
        self._liveness = Liveness(
            int(settings.silence_max_s * 1e6), clock.monotonic_us(), given_us=loaded.node_lease_us
        )
        self._stalls = StallWatch()
        self._stragglers = StragglerWatch()
        self._utilization = UtilizationWatch()
        self._asked: list[_Asked] = []
        self._told: list[_Told] = []
        self._wake = asyncio.Event()
        self._pace = CyclePace()
        self._alarm: asyncio.TimerHandle | None = None  # wakes the loop for a cycle that had to rest
        # One thread: the store sees one caller, and a commit never waits behind a reader.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._store_down: Unavailable | None = None
        self._failed_us: int | None = None  # when the store last failed, unless it took a commit since
        self._must_resend = False  # once the facts that waited for the store are taken
        self._in_doubt: tuple[Recorded, ...] = ()  # handed to the store, their fate not yet known

    @property
    def engine(self) -> Engine:
        """The engine, to look at between ticks (what-if questions); never to step."""
        return self._engine

    async def ask(self, request: Request) -> tuple[JobId, ...]:
        """Hand in a request and wait until its answer is durable.

        Raises:
            Rejected: Refused; nothing was written.
            StoreUnavailable: Not accepted, or its commit's fate is unknown: retry with the same id.
            NotLeading: Not accepted; ask the head that leads.
        """
        if self._store_down is not None:
            raise self._store_down
        answer: asyncio.Future[tuple[JobId, ...]] = asyncio.get_running_loop().create_future()
        self._asked.append(_Asked(request, answer))
        self._wake.set()
        return await answer

    def tell(self, fact: Fact, committed: Callable[[], None] | None = None) -> None:
        """Hand in a fact; ``committed`` is called when it is durable."""
        self._told.append(_Told(fact, committed))
        if is_urgent(fact):
            self._wake.set()

    def mark_for(self, node: NodeName) -> Mark | None:
        """What a node is to remember of how far the log goes; one that is ahead keeps what it has."""
        known = self._engine.state.nodes.get(node)
        return None if known is None or known.ahead is not None else self._mark

    def _tell_if_behind(self) -> None:
        if self._engine.state.history.is_behind:
            log.error(
                "the database went back in time: this head has seen more than it holds. Nothing is started "
                "until an operator has looked at what the nodes hold and accepts the loss"
            )

    def heard(self, node: NodeName) -> None:
        """Note a sign of life of a node. Writes nothing."""
        self._liveness.heard(node, self.clock.monotonic_us())

    def forgotten_by(self, hello: NodeConnected) -> tuple[AttemptId, ...]:
        """Attempts that may live on a node though whoever says hello for it does not know them.

        The agent has another home than before, or it is another agent. None once the node's lease is over.
        """
        if self._liveness.is_lease_over(hello.facts.name, self.clock.monotonic_us()):
            return ()
        unsent = {
            AttemptId(recorded.event.job_id, recorded.event.epoch)
            for recorded in self._in_doubt
            if isinstance(recorded.event, JobAllocated)
        }
        return tuple(each for each in self._engine.forgotten_by(hello) if each not in unsent)

    def never_granted(self, hello: NodeConnected) -> tuple[AttemptId, ...]:
        """Attempts that whoever says hello for a node cannot have got from this cluster, as far as it knows.

        They came from a lost piece of history that not even a mark tells of, or they are made up: neither
        may be ended, nor hold up any node but this one.
        """
        return self.engine.never_granted(hello)

    async def in_store(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a call on the store's thread, between commits: for records that are no part of the log.

        Raises:
            StoreUnavailable: The store does not answer.
        """
        if self._store_down is not None:
            raise self._store_down
        return await self._in_thread(call, *args, **kwargs)

    def heard_quiet(self, node: NodeName, quiet: Iterable[QuietRank]) -> None:
        """Note which ranks of a node showed no work in its last heartbeat. Writes nothing."""
        self._stalls.heard(node, quiet)

    def heard_paces(self, node: NodeName, paces: Iterable[RankPace]) -> None:
        """Note how far the ranks of a node have come. Writes nothing."""
        self._stragglers.heard(node, paces)

    def heard_sample(self, sample: NodeSample) -> None:
        """Note what a node measured. Writes nothing."""
        self._utilization.heard(sample)

    async def run(self) -> None:
        """Tick until cancelled.

        Raises:
            NotLeading: Another head leads: what is in memory here is worth nothing any more.
        """
        self._resend_all()
        checking = asyncio.create_task(self._check_regularly())
        try:
            while True:
                await self._wake.wait()
                # Whoever is ready to ask or tell goes first: more share one commit, nobody waits longer.
                await asyncio.sleep(0)
                self._wake.clear()
                await self._tick()
        except NotLeading as error:
            self._store_down = error
            self._refuse(self._asked, error)
            raise
        finally:
            checking.cancel()
            if self._alarm is not None:
                self._alarm.cancel()
            self._thread.shutdown(wait=True)

    async def _check_regularly(self) -> None:
        while True:
            await asyncio.sleep(self._settings.check_interval_s)
            for fact in self._liveness.check(
                self._engine.state.nodes,
                monotonic_us=self.clock.monotonic_us(),
                wall_us=self.clock.now_us(),
            ):
                self.tell(fact)
            state, now_us = self._engine.state, self.clock.now_us()
            for job_id, until_us in state.delayed.items():
                if now_us >= until_us:
                    self.tell(DelayPassed(job_id))
            running = [state.jobs[job_id] for job_id in state.running]
            for fact in (
                *self._stalls.check(running),
                *self._stragglers.check(running),
                *self._utilization.check(running, self.clock.monotonic_us()),
            ):
                self.tell(fact)
            if self._told:
                self._wake.set()

    async def _tick(self) -> None:
        asked = self._take_asked()
        told, self._told = self._told, []
        if self._asked:
            self._wake.set()
        try:
            await self._step(asked, told)
            await self._cycle()
        except NotLeading as error:
            self._refuse(asked, error)
            raise
        except StoreUnavailable as error:
            self._refuse(asked, error)
            # Facts are kept: nobody else remembers them for us.
            kept = [_Told(self._engine.repeatable(note.fact), note.committed) for note in told]
            self._told = kept + self._told
            await self._recover(error)

    def _take_asked(self) -> list[_Asked]:
        """Those that share the next transaction. The leader's row is held for as long, so it stays short."""
        sizes = accumulate(
            len(entry.request.specs) if isinstance(entry.request, Submit) else 1 for entry in self._asked
        )
        count = max(1, sum(size <= self._settings.batch_max for size in sizes))
        taken, self._asked = self._asked[:count], self._asked[count:]
        return taken

    async def _step(self, asked: list[_Asked], told: list[_Told]) -> None:
        answered = await self._in_thread(self._find_answers, asked) if asked else {}
        tick = self._engine.handle(
            [entry.request for entry in asked],
            [entry.fact for entry in told],
            answered,
            self.clock.now_us(),
        )
        await self._commit(tick)
        for entry, answer in zip(asked, tick.answers, strict=True):
            if entry.answer.done():  # the caller went away
                continue
            if isinstance(answer, tuple):
                entry.answer.set_result(answer)
            else:
                entry.answer.set_exception(answer)
        for note in told:
            if note.committed is not None:
                note.committed()
        told.clear()
        if self._must_resend:
            self._must_resend = False
            self._resend_all()

    async def _cycle(self) -> None:
        began_us = self.clock.monotonic_us()
        if rest_us := self._pace.rest_left_us(began_us):
            self._wake_in(rest_us)
            return
        tick = self._engine.cycle(self.clock.now_us())
        if tick is not None:
            self._pace.note_cycle(began_us, self.clock.monotonic_us())
            await self._commit(tick)

    def _wake_in(self, delay_us: int) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(delay_us / 1e6, self._wake.set)

    async def _commit(self, tick: Tick) -> None:
        self._in_doubt = tick.events
        if not tick.batch.is_empty:
            await self._in_thread(self._store.commit, tick.batch)
            self._failed_us = None
        self._engine.committed(tick)
        self._mark = self._engine.mark
        for recorded in tick.events:
            if isinstance(recorded.event, NodeAhead):
                _tell_ahead(recorded.event)
        if tick.events:
            self._feed.publish(tick.events)
        self._in_doubt = ()
        for queued in tick.commands:
            self._sink.deliver(queued)

    def _find_answers(self, asked: list[_Asked]) -> dict[tuple[str, RequestId], RequestRecord]:
        keys = [(subject_of(entry.request.who), entry.request.request_id) for entry in asked]
        return {(found.subject, found.request_id): found for found in self._store.find_requests(keys)}

    async def _in_thread(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: call(*args, **kwargs))

    async def _recover(self, error: StoreUnavailable) -> None:
        """The state may be ahead of the store: throw it away and load until that works."""
        self._store_down = error
        before_us, self._failed_us = self._failed_us, self.clock.monotonic_us()
        is_again = before_us is not None and self._failed_us - before_us < AGAIN_US
        if is_again:  # it is read and takes no commit, as on a full disk: come back at leisure, said is said
            await asyncio.sleep(self._settings.store_retry_s)
        else:
            log.error("store unavailable, refusing changes until it answers: %s", error)
        while True:
            self._refuse(self._asked, error)
            self._asked.clear()
            try:
                loaded: Loaded = await self._in_thread(self._store.load)
                break
            except StoreUnavailable:
                await asyncio.sleep(self._settings.store_retry_s)
        self._engine = Engine(loaded, self._settings.engine)
        self._mark = self._engine.mark
        self._tell_if_behind()
        self._store_down = None
        # A commit that was reported as failed may have been written: watchers must hear of it all the same.
        written = tuple(recorded for recorded in self._in_doubt if recorded.seq <= loaded.last_seq)
        if written:
            self._feed.publish(written)
        self._in_doubt = ()
        if not is_again:
            log.warning("store answers again: %d unfinished jobs loaded", len(loaded.jobs))
        # Not before the next step: a lease that ended meanwhile withdraws launches that must not go out.
        self._must_resend = True
        self._wake.set()

    def _refuse(self, asked: list[_Asked], error: Unavailable) -> None:
        for entry in asked:
            if not entry.answer.done():  # the caller went away
                entry.answer.set_exception(error)

    def _resend_all(self) -> None:
        for name in self._engine.state.nodes:
            self.resend(name)

    def resend(self, node: NodeName) -> None:
        """Deliver again what a node has not acknowledged: it connected, or we restarted."""
        for queued in self._engine.outbox_of(node):
            self._sink.deliver(queued)


def _tell_ahead(event: NodeAhead) -> None:
    held = ", ".join(map(str, event.ahead.attempts)) or "none"
    log.error(
        "the database went back in time: node %s has seen more than it holds; attempts that only the node "
        "knows: %s. Nothing is started until an operator accepts the loss",
        event.node,
        held,
    )
