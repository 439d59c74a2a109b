"""Usage and money: pure folds from the event log to intervals to a report.

Every microsecond of every device of every node is in exactly one class, so

    jobs + idle + overhead = what the cluster cost, to the cent.

First the log is folded into spans (``fold_spans``): when each node was there and reachable, when
each attempt held what. Then each device's window is cut at every span edge and each piece is
classified (``device_intervals``). Then the pieces are priced with the rate in force at the time
(``cost_report``). All three read no clock: the window is an argument.

Cost is charged per installed device, whoever holds it: an allocated device on an unreachable
node is nobody's fault but somebody's grant, so the job's classes win over DOWN. Only devices
that nobody holds are UNALLOCATED or DOWN.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal, localcontext
from itertools import pairwise

from gpusched.domain.events import (
    AttemptEnded,
    JobAllocated,
    JobSubmitted,
    NodeJoined,
    NodeLost,
    NodeReturned,
    Recorded,
    TasksEnded,
    TasksStarted,
)
from gpusched.domain.ids import AttemptId, DeviceUuid, JobId, NodeName
from gpusched.domain.job_state import INFRASTRUCTURE_REASONS
from gpusched.domain.usage import (
    AttemptSpan,
    ChargeLine,
    CostReport,
    DeviceInterval,
    GroupBy,
    NodeSpan,
    Rate,
    RateBook,
    UsageClass,
)

US_PER_HOUR = 3_600_000_000
CENT = Decimal("0.01")
NOBODY = "(idle)"
"""The key of lines that no job caused, whatever the report groups by (except by model)."""

_EXACT = Context(prec=60)
"""Wide enough that no sum of microsecond charges is ever rounded: a rate of 6 decimals times
an interval of 18 digits has at most 36, divided by 3.6e9 it may repeat, and is cut at 60."""
_FREE = Decimal(0)


# ── the log into spans ────────────────────────────────────────────────────────────────


def fold_spans(log: Iterable[Recorded]) -> tuple[tuple[AttemptSpan, ...], tuple[NodeSpan, ...]]:
    """Fold a whole log: the store's projections must say the same."""
    attempts: dict[AttemptId, AttemptSpan] = {}
    owners: dict[JobId, tuple[str, str]] = {}
    nodes: list[NodeSpan] = []
    open_nodes: dict[NodeName, NodeSpan] = {}
    started: dict[AttemptId, set[NodeName]] = defaultdict(set)
    for recorded in log:
        event, at_us = recorded.event, recorded.at_us
        match event:
            case JobSubmitted():
                owners[event.job_id] = (event.owner.user, event.spec.account)
            case JobAllocated():
                user, account = owners[event.job_id]
                attempts[AttemptId(event.job_id, event.epoch)] = AttemptSpan(
                    job_id=event.job_id,
                    epoch=event.epoch,
                    user=user,
                    account=account,
                    allocation=event.allocation,
                )
            case TasksStarted() | TasksEnded() | AttemptEnded():
                attempt_id = AttemptId(event.job_id, event.epoch)
                if isinstance(event, TasksStarted):
                    started[attempt_id].add(event.node)
                span = _with(attempts[attempt_id], event, at_us, started[attempt_id])
                attempts[attempt_id] = span
            case NodeJoined():
                devices = tuple((device.uuid, device.model) for device in event.facts.devices)
                before = open_nodes.get(event.node)
                is_up = before is None or before.is_up
                _change_node(nodes, open_nodes, event.node, devices, is_up=is_up, at_us=at_us)
            case NodeLost() | NodeReturned():
                devices = open_nodes[event.node].devices
                is_up = isinstance(event, NodeReturned)
                _change_node(nodes, open_nodes, event.node, devices, is_up=is_up, at_us=at_us)
            case _:
                pass
    return tuple(attempts.values()), (*nodes, *open_nodes.values())


def _with(
    span: AttemptSpan,
    event: TasksStarted | TasksEnded | AttemptEnded,
    at_us: int,
    started: set[NodeName],
) -> AttemptSpan:
    match event:
        case TasksStarted():
            every_node = {part.node for part in span.allocation.nodes}
            if span.running_at_us is None and started >= every_node:
                return replace(span, running_at_us=at_us)
            return span
        case TasksEnded():
            return replace(span, uses=(*span.uses, (event.node, event.use)))
        case AttemptEnded():
            return replace(span, ended_at_us=at_us, end_reason=event.reason)


def _change_node(
    closed: list[NodeSpan],
    open_nodes: dict[NodeName, NodeSpan],
    node: NodeName,
    devices: tuple[tuple[DeviceUuid, str], ...],
    *,
    is_up: bool,
    at_us: int,
) -> None:
    before = open_nodes.get(node)
    if before is not None and before.start_us < at_us:
        closed.append(replace(before, end_us=at_us))
    open_nodes[node] = NodeSpan(node=node, devices=devices, is_up=is_up, start_us=at_us)


# ── spans into classified time ────────────────────────────────────────────────────────


def device_intervals(
    attempts: Sequence[AttemptSpan], nodes: Sequence[NodeSpan], start_us: int, end_us: int
) -> tuple[DeviceInterval, ...]:
    """Classify every microsecond of every device between ``start_us`` and ``end_us`` (exclusive).

    Args:
        attempts: Every attempt that overlaps the window.
        nodes: Every node span that overlaps the window.
        start_us: Start of the window, inclusive.
        end_us: Its end, exclusive; what has not ended yet is taken to go on until here.

    Returns:
        Intervals that do not overlap on any device. Together they cover exactly the time in which
        a node span says that the device is fitted: ``sum`` of their lengths is that time.
    """
    held: dict[tuple[NodeName, DeviceUuid], list[DeviceInterval]] = defaultdict(list)
    for attempt in attempts:
        for interval in attempt_intervals(attempt, end_us):
            held[interval.node, interval.device].append(interval)
    intervals: list[DeviceInterval] = []
    for span in nodes:
        first, last = max(span.start_us, start_us), min(_or(span.end_us, end_us), end_us)
        for uuid, model in span.devices:
            nobodys = DeviceInterval(
                node=span.node,
                device=uuid,
                model=model,
                usage_class=UsageClass.UNALLOCATED if span.is_up else UsageClass.DOWN,
                start_us=first,
                end_us=last,
            )
            intervals += _cover(nobodys, held.get((span.node, uuid), ()))
    return tuple(intervals)


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def _cover(nobodys: DeviceInterval, held: Sequence[DeviceInterval]) -> Iterator[DeviceInterval]:
    """Lay held intervals over an idle one. A moment held twice (a bug elsewhere) counts once."""
    now_us, end_us = nobodys.start_us, nobodys.end_us
    for interval in sorted(held, key=lambda piece: piece.start_us):
        first, last = max(interval.start_us, now_us), min(interval.end_us, end_us)
        if first >= last:
            continue
        if now_us < first:
            yield replace(nobodys, start_us=now_us, end_us=first)
        yield replace(interval, model=nobodys.model, start_us=first, end_us=last)
        now_us = last
    if now_us < end_us:
        yield replace(nobodys, start_us=now_us, end_us=end_us)


def attempt_intervals(attempt: AttemptSpan, now_us: int) -> Iterator[DeviceInterval]:
    """The classes of one attempt's devices over its whole life, until ``now_us`` if it has not ended.

    STARTUP until every rank runs; then PRODUCTIVE, or LOST where infrastructure ended it. Time
    measured as not busy is ALLOCATED_IDLE: only its length is known, so it stands at the end.
    """
    granted_us = attempt.allocation.granted_at_us
    ended_us = max(_or(attempt.ended_at_us, now_us), granted_us)
    running_us = min(_or(attempt.running_at_us, ended_us), ended_us)
    is_lost = attempt.end_reason in INFRASTRUCTURE_REASONS
    works = UsageClass.LOST if is_lost else UsageClass.PRODUCTIVE
    busy_s = {device.uuid: device.busy_s for _, use in attempt.uses for device in use.devices}
    for part in attempt.allocation.nodes:
        for device in part.devices:
            busy = busy_s.get(device.uuid)
            idle_from_us = ended_us
            if busy is not None and not is_lost:
                idle_from_us = min(running_us + max(round(busy * 1_000_000), 0), ended_us)
            pieces = (
                (UsageClass.STARTUP, granted_us, running_us),
                (works, running_us, idle_from_us),
                (UsageClass.ALLOCATED_IDLE, idle_from_us, ended_us),
            )
            for usage_class, first, last in pieces:
                if first < last:
                    yield DeviceInterval(
                        node=part.node,
                        device=device.uuid,
                        model=device.model,
                        usage_class=usage_class,
                        start_us=first,
                        end_us=last,
                        job_id=attempt.job_id,
                        epoch=attempt.epoch,
                        user=attempt.user,
                        account=attempt.account,
                    )


# ── time into money ───────────────────────────────────────────────────────────────────


def cost_report(
    intervals: Iterable[DeviceInterval],
    book: RateBook,
    group_by: GroupBy,
    start_us: int,
    end_us: int,
) -> CostReport:
    """Price intervals and sum them by key and class.

    The exact sum is rounded once, to the cent, half to even; the lines' cents are then shared out by
    largest remainder (Hamilton's method), so that the lines add up to the total.
    """
    time_us: dict[tuple[str, UsageClass], int] = defaultdict(int)
    money: dict[tuple[str, UsageClass], Decimal] = defaultdict(lambda: _FREE)
    unpriced: set[str] = set()
    prices = _Prices(book)
    with localcontext(_EXACT):
        for interval in intervals:
            line = (_key(interval, group_by), interval.usage_class)
            time_us[line] += interval.end_us - interval.start_us
            money[line] += prices.of(interval.model, interval.start_us, interval.end_us)
            if not prices.known(interval.model):
                unpriced.add(interval.model)
        keys = sorted(time_us, key=_line_order)
        exact = [money[key] for key in keys]
        total = sum(exact, _FREE).quantize(CENT, rounding=ROUND_HALF_EVEN)
        billed = apportion(exact, total)
    return CostReport(
        currency=book.currency,
        start_us=start_us,
        end_us=end_us,
        group_by=group_by,
        lines=tuple(
            ChargeLine(key, usage_class, time_us[key, usage_class], cost, cents)
            for (key, usage_class), cost, cents in zip(keys, exact, billed, strict=True)
        ),
        total=total,
        unpriced_models=tuple(sorted(unpriced)),
    )


def attempt_cost(attempt: AttemptSpan, book: RateBook, now_us: int) -> Decimal:
    """What one attempt has cost so far, exactly."""
    prices = _Prices(book)
    with localcontext(_EXACT):
        return sum(
            (prices.of(i.model, i.start_us, i.end_us) for i in attempt_intervals(attempt, now_us)),
            _FREE,
        )


def price_per_hour(models: Iterable[str], book: RateBook, at_us: int) -> Decimal:
    """What one hour of devices of these models costs, one entry a device, at the rates of ``at_us``."""
    prices = _Prices(book)
    with localcontext(_EXACT):
        return sum((prices.per_hour(model, at_us) for model in models), _FREE)


def apportion(exact: Sequence[Decimal], total: Decimal) -> list[Decimal]:
    """Round amounts to cents so that they add up to ``total``: the largest remainders get the cents left.

    Args:
        exact: Amounts, none negative.
        total: Their sum, rounded to cents.
    """
    floors = [amount.quantize(CENT, rounding=ROUND_FLOOR) for amount in exact]
    missing = int((total - sum(floors, _FREE)) / CENT)
    by_remainder = sorted(range(len(exact)), key=lambda i: (floors[i] - exact[i], i))
    for i in by_remainder[:missing]:
        floors[i] += CENT
    return floors


def _key(interval: DeviceInterval, group_by: GroupBy) -> str:
    match group_by:
        case GroupBy.MODEL:
            return interval.model
        case GroupBy.JOB:
            return NOBODY if interval.job_id is None else str(interval.job_id)
        case GroupBy.USER:
            return NOBODY if interval.user is None else interval.user
        case GroupBy.ACCOUNT:
            return NOBODY if interval.account is None else interval.account


def _line_order(line: tuple[str, UsageClass]) -> tuple[bool, int, str, int]:
    """Nobody's lines last; job ids as numbers."""
    key, usage_class = line
    number = int(key) if key.isdecimal() else 0
    return (key == NOBODY, number, key, list(UsageClass).index(usage_class))


class _Prices:
    """Rates of one book by device model, each model's rates in order of time."""

    def __init__(self, book: RateBook) -> None:
        self._book = book
        self._rates: dict[str, tuple[Rate, ...]] = {}

    def known(self, model: str) -> bool:
        return bool(self._of_model(model))

    def per_hour(self, model: str, at_us: int) -> Decimal:
        in_force = [rate for rate in self._of_model(model) if rate.effective_from_us <= at_us]
        return in_force[-1].per_gpu_hour if in_force else _FREE

    def of(self, model: str, start_us: int, end_us: int) -> Decimal:
        """The exact price of one device from ``start_us`` to ``end_us``, cut where rates change."""
        changes = [r.effective_from_us for r in self._of_model(model)]
        edges = [start_us, *(at for at in changes if start_us < at < end_us), end_us]
        return sum(
            (self.per_hour(model, first) * (last - first) / US_PER_HOUR for first, last in pairwise(edges)),
            _FREE,
        )

    def _of_model(self, model: str) -> tuple[Rate, ...]:
        if model not in self._rates:
            words = set(model.lower().split())
            fitting = [r for r in self._book.rates if _fits(r, words)]
            # The most telling entry wins: "H100 NVL" before "H100" before "*".
            weight = max((_weight(rate) for rate in fitting), default=0)
            best = [rate for rate in fitting if _weight(rate) == weight]
            self._rates[model] = tuple(sorted(best, key=lambda rate: rate.effective_from_us))
        return self._rates[model]


def _fits(rate: Rate, words: set[str]) -> bool:
    return rate.model == "*" or words.issuperset(rate.model.lower().split())


def _weight(rate: Rate) -> int:
    return 0 if rate.model == "*" else len(rate.model.split())
