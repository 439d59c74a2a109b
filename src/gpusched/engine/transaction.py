"""One tick's writes, collected. Recording applies at once, so later decisions see earlier ones."""

from __future__ import annotations

from collections import deque

from gpusched.domain.commands import Command, Queued
from gpusched.domain.events import AttemptEnded, Event, Recorded
from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.job import Job
from gpusched.domain.node import Node
from gpusched.engine.fold import apply
from gpusched.engine.lifecycle import PlanLaunch, consequences, react
from gpusched.engine.past import PastRun
from gpusched.engine.ports import Batch, RequestRecord
from gpusched.engine.state import ClusterState


class Transaction:
    """Everything between two commits.

    If the commit fails, the state it was recorded on is ahead of the store and must be
    thrown away: load again.
    """

    def __init__(
        self, state: ClusterState, now_us: int, plan_launch: PlanLaunch, last_command_seq: int
    ) -> None:
        self.state = state
        self.now_us = now_us
        self.last_command_seq = last_command_seq
        self._plan_launch = plan_launch
        self.runs: list[PastRun] = []  # attempts that ended
        self._events: list[Recorded] = []
        self._queued: list[Queued] = []
        self._acknowledged: list[int] = []
        self._requests: list[RequestRecord] = []
        self._jobs: dict[JobId, Job] = {}
        self._nodes: dict[NodeName, Node] = {}

    def record(self, event: Event) -> None:
        """Write a fact and all that follows from it."""
        waiting: deque[Event] = deque([event])
        while waiting:
            fact = waiting.popleft()
            recorded = Recorded(self.state.last_seq + 1, self.now_us, fact)
            subject = apply(self.state, recorded)
            self._events.append(recorded)
            if isinstance(subject, Job):
                self._jobs[subject.job_id] = subject
                if isinstance(fact, AttemptEnded):
                    self.runs.append(PastRun.of(subject, self.now_us))
            else:
                self._nodes[subject.name] = subject
            for command in react(self.state, fact, self._plan_launch):
                self.order(command)
            # What follows comes before what else was decided earlier, so that each decision sees the last.
            waiting.extendleft(reversed(consequences(self.state, fact)))

    def order(self, command: Command) -> None:
        """Queue a command in the outbox."""
        self.last_command_seq += 1
        self._queued.append(Queued(self.last_command_seq, command))

    def acknowledge(self, command_seq: int) -> None:
        """Drop a command that its node has taken."""
        self._acknowledged.append(command_seq)

    def answer(self, record: RequestRecord) -> None:
        """Remember a request's answer for its retries."""
        self._requests.append(record)

    @property
    def commands(self) -> tuple[Queued, ...]:
        """Commands to deliver once committed."""
        return tuple(self._queued)

    @property
    def events(self) -> tuple[Recorded, ...]:
        """Events to publish once committed."""
        return tuple(self._events)

    def batch(self) -> Batch:
        """All of it, for the store."""
        return Batch(
            events=tuple(self._events),
            jobs=tuple(self._jobs.values()),
            nodes=tuple(self._nodes.values()),
            requests=tuple(self._requests),
            queued=tuple(self._queued),
            acknowledged=tuple(self._acknowledged),
            next_job_id=self.state.next_job_id,
        )
