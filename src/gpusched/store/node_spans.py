"""How a node's times with the same devices and reachability follow from its events."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from gpusched.domain.errors import LogCorrupt
from gpusched.domain.events import NodeJoined, NodeLost, NodeReturned, OutageBegan, OutagesEnded, Recorded
from gpusched.domain.health import Outage
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.engine.health_fold import outages_after

SpanEvent = NodeJoined | NodeLost | NodeReturned | OutageBegan | OutagesEnded
"""The events that can end one span and begin the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSpan:
    """The span a node is in; ``seq`` is that of the event that opened it."""

    seq: int
    node: NodeName
    start_us: int
    is_up: bool
    devices: tuple[tuple[DeviceUuid, str], ...]
    outages: tuple[Outage, ...] = ()


@dataclass(frozen=True, slots=True)
class SpanChanges:
    """What to write: spans that end (seq to end), then spans that begin (perhaps ending as well)."""

    closed: dict[int, int]
    opened: tuple[OpenSpan, ...]


def span_changes(current: Iterable[OpenSpan], log: Iterable[Recorded]) -> SpanChanges:
    """Fold events over the open spans of the nodes they are about.

    An event that changes neither devices nor reachability nor outages changes nothing. A span never
    ends before it starts, should the wall clock have been set back.

    Raises:
        LogCorrupt: A node that never joined is lost or returns.
    """
    open_spans = {span.node: span for span in current}
    closed: dict[int, int] = {}
    opened: list[OpenSpan] = []
    for recorded in log:
        event = recorded.event
        if not isinstance(event, SpanEvent):
            continue
        before = open_spans.get(event.node)
        after = _after(before, event, recorded)
        if before is not None:
            if (before.is_up, before.devices, before.outages) == (after.is_up, after.devices, after.outages):
                continue
            closed[before.seq] = after.start_us
        open_spans[event.node] = after
        opened.append(after)
    return SpanChanges(closed, tuple(opened))


def _after(before: OpenSpan | None, event: SpanEvent, recorded: Recorded) -> OpenSpan:
    if before is None:
        if not isinstance(event, NodeJoined):
            raise LogCorrupt(
                f"{type(event).__name__} of {event.node} at seq {recorded.seq}, which never joined"
            )
        before = OpenSpan(seq=recorded.seq, node=event.node, start_us=recorded.at_us, is_up=True, devices=())
    moved = replace(before, seq=recorded.seq, start_us=max(recorded.at_us, before.start_us))
    match event:
        case NodeJoined():  # new facts of a lost node do not bring it back
            devices = tuple((device.uuid, device.model) for device in event.facts.devices)
            return replace(moved, devices=devices)
        case NodeLost() | NodeReturned():
            return replace(moved, is_up=isinstance(event, NodeReturned))
        case OutageBegan() | OutagesEnded():
            return replace(moved, outages=outages_after(before.outages, event))
