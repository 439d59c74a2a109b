"""A cluster in virtual time, scheduled by the engine itself.

The simulator only plays the parts of the world: it submits, and for every launch the engine orders it
reports the start at once and the end when the job's running time is over. Everything decided in
between is decided by ``core.Engine``, stepped exactly as ``loop.Loop`` steps it; there is no other code
for simulations. Time is a heap of (time, sequence number, what happens), so a run is a function of its
arguments.

The time limit is kept as the agent keeps it: a job that would outlast it ends there, with that cause.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from gpusched.domain.commands import LaunchTasks, Queued
from gpusched.domain.errors import Rejected
from gpusched.domain.events import AttemptEnded, JobAllocated, JobEnded, Recorded, TasksEnded, TasksStarted
from gpusched.domain.identity import Principal
from gpusched.domain.ids import JobId, RequestId
from gpusched.domain.job import TaskExit
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import EndReason
from gpusched.domain.node import NodeFacts
from gpusched.domain.telemetry import NodeUse
from gpusched.engine.core import Engine, EngineSettings, Tick
from gpusched.engine.inputs import CommandAcknowledged, Fact, NodeConnected, Reported, Submit
from gpusched.engine.ports import Loaded
from gpusched.engine.state import ClusterState
from gpusched.launch.plan import make_launch_plan

_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A job that will be submitted, and what only the simulator knows of it: how long it runs."""

    at_us: int
    who: Principal
    spec: JobSpec
    run_us: int


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that the engine hears from outside."""

    at_us: int
    fact: Fact


@dataclass(slots=True, kw_only=True)
class SimulatedJob:
    """What became of one arrival. Times are virtual; None: it did not come to that."""

    arrival: Arrival
    job_id: JobId | None = None
    refusal: Rejected | None = None  # the engine's answer to the submission, where it was no
    started_at_us: int | None = None
    ended_at_us: int | None = None
    end_reason: EndReason | None = None


@dataclass(frozen=True, slots=True)
class Simulated:
    """The jobs in order of arrival, and every event the engine recorded if they were asked for."""

    jobs: tuple[SimulatedJob, ...]
    cycles: int


def simulate(
    nodes: Sequence[NodeFacts],
    arrivals: Sequence[Arrival],
    settings: EngineSettings,
    *,
    happenings: Sequence[Happening] = (),
    heard: Callable[[Sequence[Recorded]], None] = lambda events: None,
    progress: Callable[[int], None] = lambda ended: None,
    observe: Callable[[ClusterState, int], None] = lambda state, until_us: None,
) -> Simulated:
    """Run a cluster from empty until no job is left that can ever start.

    Args:
        nodes: Those that join before the first job and stay, unless ``happenings`` say otherwise.
        arrivals: In any order; those of one instant are submitted in the order given.
        settings: The engine's.
        happenings: What else the engine hears, and when: nodes that join, fall silent and come back. Jobs
            on a node that falls silent run on.
        heard: Called with the events of each step, for those who want the whole log.
        progress: Called with the number of jobs that have ended so far.
        observe: Called before each moment at which something happens, with the state that held until then.

    Returns:
        What became of each job, in order of arrival.
    """
    world = _World(nodes, arrivals, settings, happenings)
    world.heard, world.progress, world.observe = heard, progress, observe
    return world.run()


_Due = tuple[int, int, SimulatedJob | tuple[LaunchTasks, ...] | Fact]
"""When, a number that breaks ties, and what: an arrival, the end of an attempt's processes, or a fact."""


class _World:
    heard: Callable[[Sequence[Recorded]], None]
    progress: Callable[[int], None]
    observe: Callable[[ClusterState, int], None]

    def __init__(
        self,
        nodes: Sequence[NodeFacts],
        arrivals: Sequence[Arrival],
        settings: EngineSettings,
        happenings: Sequence[Happening],
    ) -> None:
        empty = Loaded(jobs=(), nodes=(), outbox=(), last_seq=0, last_command_seq=0, next_job_id=JobId(1))
        # Nothing is started, so no rank needs its variables.
        plan_launch = partial(make_launch_plan, environment=lambda context, task: ())
        self._engine = Engine(empty, settings, plan_launch=plan_launch)
        self._jobs = [SimulatedJob(arrival=arrival) for arrival in sorted(arrivals, key=lambda a: a.at_us)]
        self._by_id: dict[JobId, SimulatedJob] = {}
        self._seq = self._cycles = self._ended = 0
        self._due: list[_Due] = []
        for happening in happenings:
            self._add_due(happening.at_us, happening.fact)
        for job in self._jobs:
            self._add_due(job.arrival.at_us, job)
        self._nodes = nodes

    def run(self) -> Simulated:
        start_us = self._due[0][0] if self._due else 0
        self._step((), [NodeConnected(facts, ()) for facts in self._nodes], start_us)
        while self._due:
            now_us = self._due[0][0]
            self.observe(self._engine.state, now_us)
            arrived, facts = self._happening(now_us)
            self._step(arrived, facts, now_us)
            self._schedule(now_us)
        return Simulated(tuple(self._jobs), self._cycles)

    def _happening(self, now_us: int) -> tuple[list[SimulatedJob], list[Fact]]:
        """Take what is due now off the heap."""
        arrived: list[SimulatedJob] = []
        facts: list[Fact] = []
        while self._due and self._due[0][0] == now_us:
            match heapq.heappop(self._due)[2]:
                case SimulatedJob() as job:
                    arrived.append(job)
                case tuple() as launches:
                    facts.extend(self._ends(launches))
                case fact:
                    facts.append(fact)
        return arrived, facts

    def _ends(self, launches: Sequence[LaunchTasks]) -> Iterator[Fact]:
        for launch in launches:
            job = self._by_id[launch.job_id]
            limited = _is_cut_short(job.arrival)
            yield Reported(
                launch.node,
                TasksEnded(
                    job_id=launch.job_id,
                    epoch=launch.epoch,
                    node=launch.node,
                    exits=tuple(
                        TaskExit(rank.global_rank, None, 15)
                        if limited
                        else TaskExit(rank.global_rank, 0, None)
                        for rank in launch.launch.tasks
                    ),
                    cause=EndReason.TIME_LIMIT if limited else None,
                    detail=f"time limit of {job.arrival.spec.time_limit_s} s" if limited else None,
                    use=NodeUse(wall_s=_runs_us(job.arrival) / _SECOND_US),
                ),
            )

    def _schedule(self, now_us: int) -> None:
        """One cycle; nodes take what it orders at once, and their ends become due."""
        tick = self._engine.cycle(now_us)
        if tick is None:
            return
        self._cycles += 1
        self._commit(tick, now_us)
        facts: list[Fact] = []
        launches: dict[JobId, list[LaunchTasks]] = {}
        for queued in tick.commands:
            facts.extend(_taken(queued))
            if isinstance(queued.command, LaunchTasks):
                launches.setdefault(queued.command.job_id, []).append(queued.command)
        for job_id, parts in launches.items():
            self._add_due(now_us + _runs_us(self._by_id[job_id].arrival), tuple(parts))
        if facts:
            self._step((), facts, now_us)

    def _add_due(self, at_us: int, what: SimulatedJob | tuple[LaunchTasks, ...] | Fact) -> None:
        heapq.heappush(self._due, (at_us, self._seq, what))
        self._seq += 1

    def _step(self, arrived: Sequence[SimulatedJob], facts: Sequence[Fact], now_us: int) -> None:
        requests = [
            Submit(
                who=job.arrival.who,
                request_id=RequestId(f"{now_us}-{place}"),  # an instant is stepped once with arrivals
                specs=(job.arrival.spec,),
            )
            for place, job in enumerate(arrived)
        ]
        tick = self._engine.handle(requests, facts, {}, now_us)
        for job, answer in zip(arrived, tick.answers, strict=True):
            if isinstance(answer, Rejected):
                job.refusal = answer
            else:
                job.job_id = answer[0]
                self._by_id[answer[0]] = job
        self._commit(tick, now_us)
        acks = [CommandAcknowledged(queued.command.node, queued.seq) for queued in tick.commands]
        if acks:  # orders to stop what has ended: nothing runs, so there is nothing to report
            self._commit(self._engine.handle((), acks, {}, now_us), now_us)

    def _commit(self, tick: Tick, now_us: int) -> None:
        self._engine.committed(tick)
        self.heard(tick.events)
        for recorded in tick.events:
            match recorded.event:
                case JobAllocated(job_id=job_id):
                    self._by_id[job_id].started_at_us = now_us
                case AttemptEnded(job_id=job_id, reason=reason):
                    self._by_id[job_id].end_reason = reason
                case JobEnded(job_id=job_id):
                    self._by_id[job_id].ended_at_us = now_us
                    self._ended += 1
        self.progress(self._ended)


def _is_cut_short(arrival: Arrival) -> bool:
    limit_s = arrival.spec.time_limit_s
    return limit_s is not None and arrival.run_us > limit_s * _SECOND_US


def _runs_us(arrival: Arrival) -> int:
    limit_s = arrival.spec.time_limit_s
    return arrival.run_us if limit_s is None else min(arrival.run_us, limit_s * _SECOND_US)


def _taken(queued: Queued) -> Iterator[Fact]:
    """What a node says to a command: that it has it, and that its ranks run."""
    yield CommandAcknowledged(queued.command.node, queued.seq)
    command = queued.command
    if isinstance(command, LaunchTasks):
        pids = tuple(1 + rank.local_rank for rank in command.launch.tasks)
        yield Reported(
            command.node,
            TasksStarted(job_id=command.job_id, epoch=command.epoch, node=command.node, pids=pids),
        )
