"""The event log folded into spans: who held what from when to when, and which nodes were there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from gpusched.domain.errors import LogCorrupt
from gpusched.domain.events import (
    AttemptEnded,
    AttemptStopping,
    JobAllocated,
    JobSubmitted,
    NodeJoined,
    NodeLost,
    NodeReturned,
    OutageBegan,
    OutagesEnded,
    Recorded,
    TasksEnded,
    TasksStarted,
)
from gpusched.domain.health import Outage
from gpusched.domain.ids import AttemptId, DeviceUuid, Epoch, JobId, NodeName
from gpusched.domain.usage import AttemptSpan, NodeSpan
from gpusched.engine.health_fold import out_of, outages_after


def fold_spans(events: Iterable[Recorded]) -> tuple[tuple[AttemptSpan, ...], tuple[NodeSpan, ...]]:
    """Fold a log, or any part of it that holds all events of its jobs and nodes.

    Args:
        events: In log order.

    Returns:
        Attempts in the order of their grants, nodes by name and time. What still goes on has
        no end.

    Raises:
        LogCorrupt: An event speaks of a job, an attempt or a node that none before it brought in.
    """
    fold = _Fold()
    for recorded in events:
        fold.take(recorded)
    nodes = [span for name in sorted(fold.nodes) for span in fold.nodes[name]]
    return tuple(fold.attempts.values()), tuple(nodes)


@dataclass(slots=True)
class _Fold:
    payers: dict[JobId, tuple[str, str]] = field(default_factory=dict)  # user, account
    attempts: dict[AttemptId, AttemptSpan] = field(default_factory=dict)
    started: dict[AttemptId, set[NodeName]] = field(default_factory=dict)
    nodes: dict[NodeName, list[NodeSpan]] = field(default_factory=dict)
    outages: dict[NodeName, tuple[Outage, ...]] = field(default_factory=dict)

    def take(self, recorded: Recorded) -> None:
        event, at_us = recorded.event, recorded.at_us
        match event:
            case JobSubmitted():
                self.payers[event.job_id] = (event.owner.user, event.spec.account)
            case JobAllocated():
                self._granted(recorded, event)
            case TasksStarted():
                self._started(recorded, event)
            case TasksEnded():
                span = self._attempt(recorded, event.job_id, event.epoch)
                if event.node not in dict(span.uses):
                    self._put(replace(span, uses=(*span.uses, (event.node, event.use))))
            case AttemptStopping():
                # Ranks that start from here on start in order to be ended.
                self.started.pop(AttemptId(event.job_id, event.epoch), None)
            case AttemptEnded():
                span = self._attempt(recorded, event.job_id, event.epoch)
                self._put(replace(span, ended_at_us=at_us, end_reason=event.reason))
            case NodeJoined():
                devices = tuple((device.uuid, device.model) for device in event.facts.devices)
                self._node_is(event.node, at_us, is_up=True, devices=devices)
            case OutageBegan() | OutagesEnded():
                outages = outages_after(self.outages.get(event.node, ()), event)
                self.outages[event.node] = outages
                last = self._last(recorded, event.node)
                self._node_is(event.node, at_us, is_up=last.is_up, devices=last.devices)
            case NodeLost() | NodeReturned():
                is_up = isinstance(event, NodeReturned)
                devices = self._last(recorded, event.node).devices
                self._node_is(event.node, at_us, is_up=is_up, devices=devices)
            case _:
                pass  # changes neither what is held nor what is there

    def _granted(self, recorded: Recorded, event: JobAllocated) -> None:
        if event.job_id not in self.payers:
            raise LogCorrupt(f"event {recorded.seq} allocates job {event.job_id}, which was never submitted")
        user, account = self.payers[event.job_id]
        self.started[AttemptId(event.job_id, event.epoch)] = set()
        self._put(
            AttemptSpan(
                job_id=event.job_id,
                epoch=event.epoch,
                user=user,
                account=account,
                allocation=event.allocation,
            )
        )

    def _started(self, recorded: Recorded, event: TasksStarted) -> None:
        span = self._attempt(recorded, event.job_id, event.epoch)
        started = self.started.get(AttemptId(event.job_id, event.epoch))
        if started is None or span.running_at_us is not None:
            return
        started.add(event.node)
        if started.issuperset(part.node for part in span.allocation.nodes):
            self._put(replace(span, running_at_us=recorded.at_us))

    def _attempt(self, recorded: Recorded, job_id: JobId, epoch: Epoch) -> AttemptSpan:
        attempt_id = AttemptId(job_id, epoch)
        if attempt_id not in self.attempts:
            raise LogCorrupt(
                f"event {recorded.seq} speaks of attempt {attempt_id}, which was never allocated"
            )
        return self.attempts[attempt_id]

    def _put(self, span: AttemptSpan) -> None:
        self.attempts[AttemptId(span.job_id, span.epoch)] = span

    def _last(self, recorded: Recorded, node: NodeName) -> NodeSpan:
        if node not in self.nodes:
            raise LogCorrupt(f"event {recorded.seq} speaks of node {node}, which never joined")
        return self.nodes[node][-1]

    def _node_is(
        self, node: NodeName, at_us: int, *, is_up: bool, devices: tuple[tuple[DeviceUuid, str], ...]
    ) -> None:
        """Close the node's last span and open another, unless nothing changes."""
        spans = self.nodes.setdefault(node, [])
        out = out_of(self.outages.get(node, ()), devices)
        if spans:
            last = spans.pop()
            if (last.is_up, last.devices, last.out) == (is_up, devices, out):
                spans.append(last)
                return
            if at_us > last.start_us:
                spans.append(replace(last, end_us=at_us))
        spans.append(NodeSpan(node=node, devices=devices, is_up=is_up, start_us=at_us, out=out))
