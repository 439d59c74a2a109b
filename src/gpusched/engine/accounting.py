"""Where every microsecond of every device went, and what it cost. Folds the log; reads no clock.

``fold_spans`` turns events into spans, ``device_intervals`` lays the spans of attempts over
those of nodes, ``cost_report`` prices the result. The identity behind all three: the intervals
of a window tile it, each microsecond of each installed device in exactly one class, so

    jobs + idle + down = the cost of the cluster in that window, to the cent.

What wins where facts overlap, strongest first:

- The node's devices. A cluster costs what is installed in it, so only devices that their node
  reported count, from its first report on, whatever an allocation says.
- DOWN. While a node is unreachable nobody can know that its devices did anything, so that time
  is charged to nobody, not even to the job that holds them; it is a cost of the cluster.
- The attempt that was granted first. One device never counts for two attempts at once, even
  where a damaged log says so.

Within an attempt: STARTUP until every rank runs, then PRODUCTIVE; or LOST, if infrastructure
ended it. Of productive time, what NVML did not measure as busy is ALLOCATED_IDLE. Only its
amount is known, not its moments, so it stands at the end of the running time. An attempt that
still runs has no measurement yet: it is productive until it ends.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, localcontext
from math import isfinite

from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.job_state import INFRASTRUCTURE_REASONS
from gpusched.domain.telemetry import NodeUse
from gpusched.domain.usage import (
    AttemptSpan,
    ChargeLine,
    CostReport,
    DeviceInterval,
    GroupBy,
    NodeSpan,
    RateBook,
    UsageClass,
)
from gpusched.engine.pricing import EXACT, amount, attempt_cost, price_per_hour, price_steps
from gpusched.engine.spans import fold_spans

__all__ = ["IDLE_KEY", "attempt_cost", "cost_report", "device_intervals", "fold_spans", "price_per_hour"]

IDLE_KEY = "(idle)"
"""The row of device time that no job held. No account or user can be called this."""

CENT = Decimal("0.01")
COST_PLACES = Decimal("0.000000000001")

_Place = tuple[NodeName, DeviceUuid]


@dataclass(frozen=True, slots=True)
class _Presence:
    """A device installed in its node, up or down, for a time."""

    start_us: int
    end_us: int
    is_up: bool
    model: str


@dataclass(frozen=True, slots=True)
class _Claim:
    """A part of an attempt's hold on one device."""

    start_us: int
    end_us: int
    usage_class: UsageClass
    attempt: AttemptSpan


def device_intervals(
    attempts: Iterable[AttemptSpan], nodes: Iterable[NodeSpan], start_us: int, end_us: int
) -> tuple[DeviceInterval, ...]:
    """Classify every microsecond of every installed device in a window.

    Args:
        attempts: All that overlap the window, in any order.
        nodes: All spans that overlap the window, in any order.
        start_us: The window's first microsecond.
        end_us: The first after it; what has no end yet is taken to last until then.

    Returns:
        Intervals by node, device and time. Those of one device are disjoint, and cover
        exactly the part of the window in which its node reported it.
    """
    claims = _claims(attempts, end_us)
    return tuple(
        interval
        for place, presences in sorted(_presences(nodes, start_us, end_us).items())
        for interval in _merged(_classified(place, presences, claims.get(place, [])))
    )


def _presences(nodes: Iterable[NodeSpan], start_us: int, end_us: int) -> dict[_Place, list[_Presence]]:
    """When each device was there, cut to the window; of overlapping spans the earlier counts."""
    found: dict[_Place, list[_Presence]] = defaultdict(list)
    for span in sorted(nodes, key=lambda span: (span.start_us, span.node)):
        last_us = end_us if span.end_us is None else min(span.end_us, end_us)
        for device, model in span.devices:
            known = found[span.node, device]
            first_us = max(span.start_us, start_us, known[-1].end_us if known else start_us)
            if first_us < last_us:
                known.append(_Presence(first_us, last_us, span.is_up, model))
    return found


def _claims(attempts: Iterable[AttemptSpan], end_us: int) -> dict[_Place, list[_Claim]]:
    """Who held each device when; of overlapping attempts the one granted first counts."""
    found: dict[_Place, list[_Claim]] = defaultdict(list)
    for attempt in sorted(
        attempts, key=lambda span: (span.allocation.granted_at_us, span.job_id, span.epoch)
    ):
        uses = dict(attempt.uses)
        for part in attempt.allocation.nodes:
            for device in part.devices:
                known = found[part.node, device.uuid]
                free_us = known[-1].end_us if known else 0
                for claim in _phases(attempt, _busy_us(uses.get(part.node), device.uuid), end_us):
                    first_us = max(claim.start_us, free_us)
                    if first_us < claim.end_us:
                        known.append(replace(claim, start_us=first_us))
    return found


def _phases(attempt: AttemptSpan, busy_us: int | None, now_us: int) -> Iterator[_Claim]:
    """Cut one attempt's hold on one device into classes. The cuts do not depend on the window."""
    granted_us = attempt.allocation.granted_at_us
    ended_us = attempt.ended_at_us if attempt.ended_at_us is not None else max(now_us, granted_us)
    running_us = ended_us if attempt.running_at_us is None else min(attempt.running_at_us, ended_us)
    yield _Claim(granted_us, running_us, UsageClass.STARTUP, attempt)
    if attempt.end_reason in INFRASTRUCTURE_REASONS:
        yield _Claim(running_us, ended_us, UsageClass.LOST, attempt)
        return
    has_measurement = busy_us is not None and attempt.ended_at_us is not None
    idle_us = min(running_us + (busy_us or 0), ended_us) if has_measurement else ended_us
    yield _Claim(running_us, idle_us, UsageClass.PRODUCTIVE, attempt)
    yield _Claim(idle_us, ended_us, UsageClass.ALLOCATED_IDLE, attempt)


def _busy_us(use: NodeUse | None, device: DeviceUuid) -> int | None:
    devices = () if use is None else use.devices
    busy_s = next((used.busy_s for used in devices if used.uuid == device), None)
    return None if busy_s is None or not isfinite(busy_s) else max(0, round(busy_s * 1_000_000))


def _classified(
    place: _Place, presences: Sequence[_Presence], claims: Sequence[_Claim]
) -> Iterator[DeviceInterval]:
    """Tile the presences of one device with its claims; what is left is nobody's."""
    ends = [claim.end_us for claim in claims]
    for presence in presences:
        position_us = presence.start_us
        if not presence.is_up:
            yield _interval(place, presence, UsageClass.DOWN, (position_us, presence.end_us))
            continue
        for index in range(bisect_right(ends, position_us), len(claims)):
            claim = claims[index]
            if claim.start_us >= presence.end_us:
                break
            first_us, last_us = max(claim.start_us, position_us), min(claim.end_us, presence.end_us)
            if position_us < first_us:
                yield _interval(place, presence, UsageClass.UNALLOCATED, (position_us, first_us))
            yield _interval(place, presence, claim.usage_class, (first_us, last_us), claim.attempt)
            position_us = last_us
        if position_us < presence.end_us:
            yield _interval(place, presence, UsageClass.UNALLOCATED, (position_us, presence.end_us))


def _interval(
    place: _Place,
    presence: _Presence,
    usage_class: UsageClass,
    time_us: tuple[int, int],
    attempt: AttemptSpan | None = None,
) -> DeviceInterval:
    return DeviceInterval(
        node=place[0],
        device=place[1],
        model=presence.model,
        usage_class=usage_class,
        start_us=time_us[0],
        end_us=time_us[1],
        job_id=None if attempt is None else attempt.job_id,
        epoch=None if attempt is None else attempt.epoch,
        user=None if attempt is None else attempt.user,
        account=None if attempt is None else attempt.account,
    )


def _merged(intervals: Iterable[DeviceInterval]) -> Iterator[DeviceInterval]:
    """Join neighbours that differ in nothing but their time."""
    last: DeviceInterval | None = None
    for interval in intervals:
        # The class first: it tells most neighbours apart, and a comparison of all fields is dear.
        if last is not None and last.usage_class is interval.usage_class:
            joined = replace(last, end_us=interval.end_us)
            if replace(joined, start_us=interval.start_us) == interval and last.end_us == interval.start_us:
                last = joined
                continue
        if last is not None:
            yield last
        last = interval
    if last is not None:
        yield last


def cost_report(
    intervals: Iterable[DeviceInterval], book: RateBook, group_by: GroupBy, start_us: int, end_us: int
) -> CostReport:
    """Price intervals at the rates in force at each moment, in rows of key and class.

    Time that no job held is in rows of its own under ``IDLE_KEY``, but for ``GroupBy.MODEL``,
    where it belongs to its model like any other. ``cost`` is given to 12 places; only the
    last step to cents rounds, by largest remainder, so that the rows add up to the total.

    Args:
        intervals: From ``device_intervals`` for the same window.
        book: Prices; a model without one counts at 0 and is listed as unpriced.
        group_by: What the rows are.
        start_us: The window's first microsecond.
        end_us: The first after it.
    """
    used: dict[tuple[str, UsageClass], dict[Decimal, int]] = defaultdict(lambda: defaultdict(int))
    unpriced: set[str] = set()
    for interval in intervals:
        row = used[_key(interval, group_by), interval.usage_class]
        for begin, end, price in price_steps(interval.model, book, interval.start_us, interval.end_us):
            row[Decimal(0) if price is None else price] += end - begin
            if price is None:
                unpriced.add(interval.model)
    keys = sorted(used, key=lambda row: (_sort_key(row[0]), list(UsageClass).index(row[1])))
    costs = [amount(used[key]) for key in keys]
    total, billed = _billed(costs)
    return CostReport(
        currency=book.currency,
        start_us=start_us,
        end_us=end_us,
        group_by=group_by,
        lines=tuple(
            ChargeLine(name, usage_class, sum(used[name, usage_class].values()), _shown(cost), cents)
            for (name, usage_class), cost, cents in zip(keys, costs, billed, strict=True)
        ),
        total=total,
        unpriced_models=tuple(sorted(unpriced)),
    )


def _key(interval: DeviceInterval, group_by: GroupBy) -> str:
    match group_by:
        case GroupBy.MODEL:
            return interval.model
        case GroupBy.ACCOUNT:
            key = interval.account
        case GroupBy.USER:
            key = interval.user
        case GroupBy.JOB:
            key = None if interval.job_id is None else str(interval.job_id)
    return IDLE_KEY if key is None else key


def _sort_key(key: str) -> tuple[bool, int, str]:
    """Names by alphabet, job numbers by value, the idle row last."""
    return key == IDLE_KEY, int(key) if key.isdecimal() else 0, key


def _billed(costs: Sequence[Decimal]) -> tuple[Decimal, list[Decimal]]:
    """Round a total to cents, and its parts so that they add up to it (largest remainder)."""
    with localcontext(EXACT):
        total = sum(costs, Decimal(0)).quantize(CENT, ROUND_HALF_EVEN)
        billed = [cost.quantize(CENT, ROUND_FLOOR) for cost in costs]
        missing = int((total - sum(billed, Decimal(0))) / CENT)
        by_remainder = sorted(range(len(costs)), key=lambda row: billed[row] - costs[row])
    for row in by_remainder[:missing]:
        billed[row] += CENT
    return total, billed


def _shown(cost: Decimal) -> Decimal:
    """To 12 places, of which trailing zeros past the cents say nothing."""
    with localcontext(EXACT):
        return cost.quantize(COST_PLACES).normalize() + Decimal("0.00")
