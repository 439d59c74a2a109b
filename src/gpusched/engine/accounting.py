"""Where every microsecond of every device went, and what it cost. Folds the log; reads no clock.

``fold_spans`` turns events into spans, ``device_intervals`` lays the spans of attempts over
those of nodes, ``cost_report`` prices the result. The identity behind all three: the intervals
of a window tile it, each microsecond of each thousandth of each installed device in exactly one
class, so

    jobs + idle + down = the cost of the cluster in that window, to the cent.

What wins where facts overlap, strongest first:

- The node's devices. A cluster costs what is installed in it, so only devices that their node
  reported count, from its first report on, whatever an allocation says.
- DOWN. While a node is unreachable nobody can know that its devices did anything, so that time
  is charged to nobody, not even to the job that holds them; it is a cost of the cluster. So is the
  time of a device that is out of service (or its node is), as far as no job holds it.
- The attempt that was granted first. No more than a whole device counts for attempts at once,
  even where a damaged log says so.

Within an attempt: STARTUP until every rank runs, then PRODUCTIVE; or LOST, if infrastructure
ended it. Of productive time, what NVML did not measure as busy is ALLOCATED_IDLE. Only its
amount is known, not its moments, so it stands at the end of the running time. An attempt that
still runs has no measurement yet: it is productive until it ends. So is one that had a share of a
device: NVML measures the device, and cannot say whose work kept it busy.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, localcontext
from itertools import pairwise
from math import isfinite

from gpusched.domain.allocation import GrantedDevice
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.job_state import INFRASTRUCTURE_REASONS
from gpusched.domain.node import WHOLE_MILLI
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
    is_out: bool
    model: str

    @property
    def idle_class(self) -> UsageClass:
        """Of time that nobody holds."""
        return UsageClass.UNALLOCATED if self.is_up and not self.is_out else UsageClass.DOWN


@dataclass(frozen=True, slots=True)
class _Claim:
    """A part of an attempt's hold on one device."""

    start_us: int
    end_us: int
    usage_class: UsageClass
    attempt: AttemptSpan
    milli: int  # thousandths of the device


@dataclass(frozen=True, slots=True)
class _Held:
    """One device while the same claims hold it, each with its thousandths: together at most all."""

    start_us: int
    end_us: int
    shares: tuple[tuple[_Claim, int], ...]


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
        Intervals by node, device and time. Those of one device cover exactly the part of the window
        in which its node reported it: at each moment their thousandths add up to the whole device.
    """
    claims = _claims(attempts, end_us)
    return tuple(
        interval
        for place, presences in sorted(_presences(nodes, start_us, end_us).items())
        for interval in _merged(_classified(place, presences, _shared(claims.get(place, []))))
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
                known.append(_Presence(first_us, last_us, span.is_up, device in span.out, model))
    return found


def _claims(attempts: Iterable[AttemptSpan], end_us: int) -> dict[_Place, list[_Claim]]:
    """Who held each device when; of each device, the attempt granted first comes first."""
    found: dict[_Place, list[_Claim]] = defaultdict(list)
    for attempt in sorted(
        attempts, key=lambda span: (span.allocation.granted_at_us, span.job_id, span.epoch)
    ):
        uses = dict(attempt.uses)
        for part in attempt.allocation.nodes:
            for device in part.devices:
                found[part.node, device.uuid] += _phases(attempt, device, uses.get(part.node), end_us)
    return found


def _shared(claims: Sequence[_Claim]) -> list[_Held]:
    """Cut time wherever a claim on one device begins or ends. Of claims on more than all of it, those
    first in line get theirs."""
    edges = sorted({time_us for claim in claims for time_us in (claim.start_us, claim.end_us)})
    beginning: dict[int, list[int]] = defaultdict(list)
    for place, claim in enumerate(claims):
        if claim.start_us < claim.end_us:
            beginning[claim.start_us].append(place)
    held: list[_Held] = []
    active: list[int] = []
    for start_us, end_us in pairwise(edges):
        active = sorted([place for place in active if claims[place].end_us > start_us] + beginning[start_us])
        if active:
            held.append(_Held(start_us, end_us, tuple(_shares([claims[place] for place in active]))))
    return held


def _shares(claims: Sequence[_Claim]) -> Iterator[tuple[_Claim, int]]:
    left = WHOLE_MILLI
    for claim in claims:
        if left > 0:
            yield claim, min(claim.milli, left)
        left -= claim.milli


def _phases(
    attempt: AttemptSpan, device: GrantedDevice, use: NodeUse | None, now_us: int
) -> Iterator[_Claim]:
    """Cut one attempt's hold on one device into classes. The cuts do not depend on the window."""

    def claim(start_us: int, end_us: int, usage_class: UsageClass) -> _Claim:
        return _Claim(start_us, end_us, usage_class, attempt, device.milli)

    granted_us = attempt.allocation.granted_at_us
    ended_us = attempt.ended_at_us if attempt.ended_at_us is not None else max(now_us, granted_us)
    running_us = ended_us if attempt.running_at_us is None else min(attempt.running_at_us, ended_us)
    yield claim(granted_us, running_us, UsageClass.STARTUP)
    if attempt.end_reason in INFRASTRUCTURE_REASONS:
        yield claim(running_us, ended_us, UsageClass.LOST)
        return
    busy_us = None if device.milli < WHOLE_MILLI else _busy_us(use, device.uuid)
    has_measurement = busy_us is not None and attempt.ended_at_us is not None
    idle_us = min(running_us + (busy_us or 0), ended_us) if has_measurement else ended_us
    yield claim(running_us, idle_us, UsageClass.PRODUCTIVE)
    yield claim(idle_us, ended_us, UsageClass.ALLOCATED_IDLE)


def _busy_us(use: NodeUse | None, device: DeviceUuid) -> int | None:
    devices = () if use is None else use.devices
    busy_s = next((used.busy_s for used in devices if used.uuid == device), None)
    return None if busy_s is None or not isfinite(busy_s) else max(0, round(busy_s * 1_000_000))


def _classified(
    place: _Place, presences: Sequence[_Presence], held: Sequence[_Held]
) -> Iterator[DeviceInterval]:
    """Tile the presences of one device with what was held; what is left is nobody's."""
    ends = [part.end_us for part in held]
    for presence in presences:
        here = DeviceInterval(
            node=place[0],
            device=place[1],
            model=presence.model,
            usage_class=presence.idle_class,
            start_us=presence.start_us,
            end_us=presence.end_us,
        )
        position_us = presence.start_us
        for index in range(bisect_right(ends, position_us), len(held)) if presence.is_up else ():
            part = held[index]
            if part.start_us >= presence.end_us:
                break
            first_us, last_us = max(part.start_us, position_us), min(part.end_us, presence.end_us)
            if position_us < first_us:
                yield replace(here, start_us=position_us, end_us=first_us)
            yield from _divided(replace(here, start_us=first_us, end_us=last_us), part.shares)
            position_us = last_us
        if position_us < presence.end_us:
            yield replace(here, start_us=position_us)


def _divided(whole: DeviceInterval, shares: Sequence[tuple[_Claim, int]]) -> Iterator[DeviceInterval]:
    """One interval for each share of a device, and one for the rest."""
    for claim, milli in shares:
        attempt = claim.attempt
        yield replace(
            whole,
            usage_class=claim.usage_class,
            milli=milli,
            job_id=attempt.job_id,
            epoch=attempt.epoch,
            user=attempt.user,
            account=attempt.account,
        )
    rest = WHOLE_MILLI - sum(milli for _, milli in shares)
    if rest > 0:
        yield replace(whole, milli=rest)


def _merged(intervals: Iterable[DeviceInterval]) -> Iterable[DeviceInterval]:
    """Join intervals of one device that follow each other and differ in nothing but their time."""
    merged: list[DeviceInterval] = []
    latest: dict[tuple[object, ...], int] = {}
    for item in intervals:
        key = (item.usage_class, item.milli, item.job_id, item.epoch, item.model, item.user, item.account)
        place = latest.get(key)
        if place is not None and merged[place].end_us == item.start_us:
            merged[place] = replace(merged[place], end_us=item.end_us)
        else:
            latest[key] = len(merged)
            merged.append(item)
    return merged


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
            row[Decimal(0) if price is None else price] += (end - begin) * interval.milli
            if price is None:
                unpriced.add(interval.model)
    keys = sorted(used, key=lambda row: (_sort_key(row[0]), list(UsageClass).index(row[1])))
    costs = [amount(used[key]) for key in keys]
    total, billed = _billed(costs)
    times_us = _whole_us([sum(used[key].values()) for key in keys])
    return CostReport(
        currency=book.currency,
        start_us=start_us,
        end_us=end_us,
        group_by=group_by,
        lines=tuple(
            ChargeLine(name, usage_class, gpu_us, _shown(cost), cents)
            for (name, usage_class), gpu_us, cost, cents in zip(keys, times_us, costs, billed, strict=True)
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


def _whole_us(milli_us: Sequence[int]) -> list[int]:
    """Thousandths of devices times microseconds as device time that adds up (largest remainder)."""
    whole = [amount // WHOLE_MILLI for amount in milli_us]
    missing = sum(milli_us) // WHOLE_MILLI - sum(whole)
    by_remainder = sorted(range(len(milli_us)), key=lambda row: -(milli_us[row] % WHOLE_MILLI))
    for row in by_remainder[:missing]:
        whole[row] += 1
    return whole


def _shown(cost: Decimal) -> Decimal:
    """To 12 places, of which trailing zeros past the cents say nothing."""
    with localcontext(EXACT):
        return cost.quantize(COST_PLACES).normalize() + Decimal("0.00")
