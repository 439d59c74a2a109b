"""Every microsecond of every device is in exactly one class, and money adds up to the cent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gpusched.domain.allocation import Allocation, GrantedDevice, NodeAllocation
from gpusched.domain.job_state import INFRASTRUCTURE_REASONS, EndReason
from gpusched.domain.telemetry import DeviceUse, NodeUse
from gpusched.domain.usage import (
    AttemptSpan,
    CostReport,
    DeviceInterval,
    GroupBy,
    NodeSpan,
    Rate,
    RateBook,
    UsageClass,
)
from gpusched.engine.accounting import cost_report, device_intervals

END_US = 40
NODES = ("a", "b")
DEVICES = ("g0", "g1")
MODELS = ("NVIDIA H100 80GB HBM3", "NVIDIA A10")

moments = st.integers(0, END_US)
maybe = st.none() | moments


@st.composite
def node_spans(draw: st.DrawFn) -> NodeSpan:
    start_us = draw(moments)
    length_us = draw(maybe)
    return NodeSpan(
        node=draw(st.sampled_from(NODES)),
        devices=tuple((uuid, draw(st.sampled_from(MODELS))) for uuid in DEVICES[: draw(st.integers(0, 2))]),
        is_up=draw(st.booleans()),
        out=draw(st.sampled_from([(), DEVICES[:1], DEVICES])),
        start_us=start_us,
        end_us=None if length_us is None else start_us + length_us,
    )


@st.composite
def attempt_spans(draw: st.DrawFn) -> AttemptSpan:
    granted_us = draw(moments)
    startup_us, running_us = draw(maybe), draw(maybe)
    has_ended = startup_us is None or running_us is None or draw(st.booleans())
    ended_us = granted_us + (startup_us or 0) + (running_us or 0)
    parts = draw(st.lists(st.sampled_from(NODES), unique=True, min_size=1))
    uuids = draw(st.lists(st.sampled_from(DEVICES), unique=True, min_size=1))
    milli = draw(st.sampled_from([1000, 1000, 500, 333, 1]))
    return AttemptSpan(
        job_id=draw(st.integers(1, 5)),
        epoch=draw(st.integers(1, 3)),
        user=draw(st.sampled_from(["ada", "bob"])),
        account=draw(st.sampled_from(["vision", "speech"])),
        allocation=Allocation(
            nodes=tuple(
                NodeAllocation(
                    node=node,
                    address="",
                    interface=None,
                    devices=tuple(GrantedDevice(uuid, "-", False, milli) for uuid in uuids),
                    cpu_ids=(),
                    cpus_pinnable=False,
                    memory_bytes=0,
                )
                for node in parts
            ),
            master_port=1,
            granted_at_us=granted_us,
        ),
        running_at_us=None if startup_us is None else granted_us + startup_us,
        ended_at_us=ended_us if has_ended else None,
        end_reason=draw(st.sampled_from(EndReason)) if has_ended else None,
        uses=tuple(
            (
                node,
                NodeUse(wall_s=0, devices=(DeviceUse(uuid=uuids[0], busy_s=draw(st.integers(0, 60)) / 1e6),)),
            )
            for node in parts
            if draw(st.booleans())
        ),
    )


histories = st.tuples(
    st.lists(attempt_spans(), max_size=6, unique_by=lambda span: (span.job_id, span.epoch)),
    st.lists(node_spans(), max_size=6),
)
books = st.builds(
    lambda rates: RateBook("EUR", tuple(rates)),
    st.lists(
        st.builds(
            Rate,
            st.sampled_from(["*", "H100", "H100 80GB", "A10"]),
            st.decimals(0, 10**12, places=4),
            moments,
        ),
        max_size=5,
        unique_by=lambda rate: (rate.model, rate.effective_from_us),
    ),
)


def microseconds(intervals: Iterable[DeviceInterval]) -> Counter[tuple[object, ...]]:
    """Thousandths of every device in every microsecond, with all that the interval says of them."""
    found: Counter[tuple[object, ...]] = Counter()
    for i in intervals:
        for at_us in range(i.start_us, i.end_us):
            found[i.node, i.device, at_us, i.model, i.usage_class, i.job_id, i.epoch, i.user, i.account] += (
                i.milli
            )
    return found


def milli_of(attempt: AttemptSpan) -> int:
    return attempt.allocation.nodes[0].devices[0].milli


def class_at(attempt: AttemptSpan, node: str, device: str, at_us: int) -> UsageClass:
    """The rules of one attempt, one microsecond at a time."""
    ended_us = attempt.ended_at_us
    if attempt.running_at_us is None or at_us < attempt.running_at_us:
        return UsageClass.STARTUP
    if attempt.end_reason in INFRASTRUCTURE_REASONS:
        return UsageClass.LOST
    use = dict(attempt.uses).get(node)
    busy_s = next((d.busy_s for d in use.devices if d.uuid == device), None) if use else None
    busy_s = busy_s if milli_of(attempt) == 1000 else None  # the device was busy: nobody knows for whom
    if ended_us is None or busy_s is None or at_us < attempt.running_at_us + round(busy_s * 1e6):
        return UsageClass.PRODUCTIVE
    return UsageClass.ALLOCATED_IDLE


def plainly(attempts: list[AttemptSpan], nodes: list[NodeSpan]) -> Counter[tuple[object, ...]]:
    """What ``device_intervals`` promises, by looking at each microsecond alone."""
    found: Counter[tuple[object, ...]] = Counter()
    attempts = sorted(attempts, key=lambda a: (a.allocation.granted_at_us, a.job_id, a.epoch))
    for node in NODES:
        for device in DEVICES:
            spans = sorted(
                (s for s in nodes if s.node == node and device in dict(s.devices)), key=lambda s: s.start_us
            )
            holders = [
                a
                for a in attempts
                for part in a.allocation.nodes
                if part.node == node and device in [granted.uuid for granted in part.devices]
            ]
            for at_us in range(END_US):
                here = [s for s in spans if s.start_us <= at_us < (END_US if s.end_us is None else s.end_us)]
                if not here:
                    continue
                model = dict(here[0].devices)[device]
                held = [
                    a
                    for a in holders
                    if a.allocation.granted_at_us
                    <= at_us
                    < (END_US if a.ended_at_us is None else a.ended_at_us)
                ]
                left = 1000
                for a in held if here[0].is_up else []:
                    what = (class_at(a, node, device, at_us), a.job_id, a.epoch, a.user, a.account)
                    found[node, device, at_us, model, *what] += min(left, milli_of(a))
                    left -= min(left, milli_of(a))
                is_well = here[0].is_up and device not in here[0].out
                nobody = UsageClass.UNALLOCATED if is_well else UsageClass.DOWN
                found[node, device, at_us, model, nobody, None, None, None, None] += left
    return found


History = tuple[list[AttemptSpan], list[NodeSpan]]


@given(histories)
def test_each_microsecond_is_classified_as_looking_at_it_alone_would(history: History) -> None:
    attempts, nodes = history
    assert microseconds(device_intervals(attempts, nodes, 0, END_US)) == plainly(attempts, nodes)


@given(histories, moments, moments, moments, moments)
def test_the_classes_add_up_to_devices_times_window(
    history: History, one: int, other: int, lost_us: int, down_us: int
) -> None:
    start_us, end_us = sorted((one, other))
    devices = tuple((device, MODELS[0]) for device in DEVICES)
    whole_time = [
        NodeSpan(node=node, devices=devices, is_up=is_up, start_us=begin_us, end_us=until_us)
        for node in NODES
        for begin_us, until_us, is_up in (
            (0, lost_us, True),
            (lost_us, lost_us + down_us, False),
            (lost_us + down_us, None, True),
        )
    ]
    intervals = device_intervals(history[0], whole_time, start_us, end_us)
    report = cost_report(intervals, RateBook("EUR", ()), GroupBy.JOB, start_us, end_us)
    expected_us = len(NODES) * len(DEVICES) * (end_us - start_us)
    assert sum((i.end_us - i.start_us) * i.milli for i in intervals) == expected_us * 1000
    assert sum(line.gpu_us for line in report.lines) == expected_us


@given(histories, moments)
def test_two_halves_of_a_window_add_up_to_the_whole(history: History, middle: int) -> None:
    attempts, nodes = history
    # Only what has ended: of what still runs, the end of the window is the end.
    attempts = [attempt for attempt in attempts if attempt.ended_at_us is not None]
    whole = device_intervals(attempts, nodes, 0, END_US)
    halves = (
        *device_intervals(attempts, nodes, 0, middle),
        *device_intervals(attempts, nodes, middle, END_US),
    )
    assert microseconds(halves) == microseconds(whole)


@given(histories)
def test_intervals_of_a_device_are_in_order_and_as_long_as_they_can_be(history: History) -> None:
    intervals = device_intervals(*history, 0, END_US)
    assert list(intervals) == sorted(intervals, key=lambda i: (i.node, i.device, i.start_us))
    assert all(interval.start_us < interval.end_us for interval in intervals)
    whole = [interval for interval in intervals if interval.milli == 1000]
    for before, after in pairwise(whole):
        if (before.node, before.device) == (after.node, after.device):
            assert before.end_us <= after.start_us
    begun = {replace(interval, end_us=0) for interval in intervals}
    assert not any(replace(i, start_us=i.end_us, end_us=0) in begun for i in intervals), "could be joined"


def exact_cost(intervals: Iterable[DeviceInterval], book: RateBook) -> Decimal:
    """Each microsecond at the price of that microsecond, times an hour."""
    total = Decimal(0)
    for interval in intervals:
        words = set(interval.model.split())
        for at_us in range(interval.start_us, interval.end_us):
            begun = [r for r in book.rates if r.effective_from_us <= at_us]
            latest = {r.model: r for r in sorted(begun, key=lambda r: r.effective_from_us)}
            fitting = [r for r in latest.values() if r.model == "*" or set(r.model.split()) <= words]
            if fitting:
                rate = max(fitting, key=lambda r: (r.model != "*") * len(r.model.split()))
                total += rate.per_gpu_hour * interval.milli / 1000
    return total


@given(histories, books)
def test_money_adds_up_to_the_cent_however_it_is_grouped(history: History, book: RateBook) -> None:
    intervals = device_intervals(*history, 0, END_US)
    exact = exact_cost(intervals, book) / 3_600_000_000
    reports: list[CostReport] = [cost_report(intervals, book, group, 0, END_US) for group in GroupBy]
    for report in reports:
        assert report.total == sum((line.billed_cost for line in report.lines), Decimal("0.00"))
        assert report.total == exact.quantize(Decimal("0.01"))
        assert report.total.as_tuple().exponent == -2
        for line in report.lines:
            assert abs(line.billed_cost - line.cost) < Decimal("0.01") + Decimal("1e-12")
        assert abs(sum(line.cost for line in report.lines) - exact) <= len(report.lines) * Decimal("1e-12")
    assert len({report.total for report in reports}) == 1
    assert len({sum(line.gpu_us for line in report.lines) for report in reports}) == 1


@given(histories, books, moments)
def test_the_cost_of_two_halves_adds_up_to_the_whole(history: History, book: RateBook, middle: int) -> None:
    attempts, nodes = history
    attempts = [attempt for attempt in attempts if attempt.ended_at_us is not None]

    def cost(start_us: int, end_us: int) -> Decimal:
        intervals = device_intervals(attempts, nodes, start_us, end_us)
        lines = cost_report(intervals, book, GroupBy.ACCOUNT, start_us, end_us).lines
        return sum((line.cost for line in lines), Decimal(0))

    assert abs(cost(0, middle) + cost(middle, END_US) - cost(0, END_US)) < Decimal("1e-10")
