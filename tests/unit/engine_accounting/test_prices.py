from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from gpusched.domain.allocation import Allocation, GrantedDevice, NodeAllocation
from gpusched.domain.usage import AttemptSpan, DeviceInterval, GroupBy, Rate, RateBook, UsageClass
from gpusched.engine.accounting import attempt_cost, cost_report, price_per_hour
from gpusched.engine.pricing import rate_in_force

HOUR = 3_600_000_000
H100, A100 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"


def book(*rates: tuple[str, str, int]) -> RateBook:
    return RateBook("EUR", tuple(Rate(model, Decimal(price), start) for model, price, start in rates))


def held(hours: float, *, start_us: int = 0, job: int | None = 1, model: str = H100) -> DeviceInterval:
    return DeviceInterval(
        node="a",
        device="g",
        model=model,
        usage_class=UsageClass.UNALLOCATED if job is None else UsageClass.PRODUCTIVE,
        start_us=start_us,
        end_us=start_us + round(hours * HOUR),
        job_id=job,
        epoch=None if job is None else 1,
        user=None if job is None else "ada",
        account=None if job is None else "vision",
    )


@pytest.mark.parametrize(
    ("model", "price"),
    [(H100, "3"), ("NVIDIA H100 PCIe", "2"), ("NVIDIA A10", "1"), (A100, "5"), ("h100 80gb", "3")],
)
def test_the_rate_with_most_words_that_fit_is_in_force(model: str, price: str) -> None:
    rates = [("*", "1", 0), ("H100", "2", 0), ("H100 80GB", "3", 0), ("A100", "5", 0)]
    for order in (rates, rates[::-1]):
        rate = rate_in_force(model, book(*order), 0)
        assert rate is not None
        assert rate.per_gpu_hour == Decimal(price)


def test_a_rate_is_in_force_from_its_first_microsecond_until_the_next() -> None:
    prices = book(("H100", "3", 200), ("H100", "2", 100))
    assert rate_in_force(H100, prices, 99) is None
    assert [price_per_hour([GrantedDevice("g", H100, False)], prices, at) for at in (99, 100, 199, 200)] == [
        0,
        2,
        2,
        3,
    ]


def test_the_price_of_an_hour_adds_up_devices_and_counts_unpriced_ones_at_nothing() -> None:
    prices = book(("H100", "2.35", 0))
    devices = [GrantedDevice("g", model, False) for model in (H100, H100, A100)]
    assert price_per_hour(devices, prices, 0) == Decimal("4.70")


def test_a_share_of_a_device_costs_its_share() -> None:
    half = GrantedDevice("g", H100, False, 500)
    assert price_per_hour([half], book(("H100", "2.35", 0)), 0) == Decimal("1.175")
    report = cost_report([replace(held(2), milli=500)], book(("*", "2", 0)), GroupBy.JOB, 0, 2 * HOUR)
    assert (report.lines[0].gpu_us, report.total) == (HOUR, Decimal("2.00"))


def test_device_time_of_shares_is_rounded_so_that_rows_add_up() -> None:
    thirds = [
        replace(held(0, job=job), end_us=1, milli=milli) for job, milli in ((1, 333), (2, 333), (3, 334))
    ]
    report = cost_report(thirds, book(("*", "1", 0)), GroupBy.JOB, 0, 1)
    assert [line.gpu_us for line in report.lines] == [0, 0, 1]


def test_a_price_that_changes_mid_job_is_charged_from_that_moment() -> None:
    report = cost_report([held(2)], book(("*", "2", 0), ("*", "4", HOUR)), GroupBy.JOB, 0, 2 * HOUR)
    (line,) = report.lines
    assert (line.key, line.gpu_us, line.cost, line.billed_cost) == (
        "1",
        2 * HOUR,
        Decimal(6),
        Decimal("6.00"),
    )


def test_models_without_a_rate_are_counted_at_nothing_and_named() -> None:
    report = cost_report([held(1, model=A100), held(1)], book(("H100", "2", 0)), GroupBy.MODEL, 0, HOUR)
    assert report.unpriced_models == (A100,)
    assert [(line.key, line.billed_cost) for line in report.lines] == [(A100, 0), (H100, Decimal("2.00"))]


def test_a_model_priced_for_part_of_the_window_only_is_named_too() -> None:
    report = cost_report([held(2)], book(("H100", "2", HOUR)), GroupBy.JOB, 0, 2 * HOUR)
    assert (report.total, report.unpriced_models) == (Decimal("2.00"), (H100,))


def test_cents_go_to_the_largest_remainders_so_that_rows_add_up() -> None:
    third = [held(1 / 3, job=job) for job in (1, 2, 3)]
    report = cost_report(third, book(("*", "1", 0)), GroupBy.JOB, 0, HOUR)
    assert report.total == Decimal("1.00")
    assert [str(line.billed_cost) for line in report.lines] == ["0.34", "0.33", "0.33"]
    assert [str(line.cost) for line in report.lines] == ["0.333333333333"] * 3


def test_rows_stand_in_order_with_time_that_no_job_held_last() -> None:
    intervals = [held(1, job=None), held(1, job=10), held(1, job=9)]
    by_job = cost_report(intervals, book(("*", "1", 0)), GroupBy.JOB, 0, HOUR)
    assert [line.key for line in by_job.lines] == ["9", "10", "(idle)"]
    by_account = cost_report(intervals, book(("*", "1", 0)), GroupBy.ACCOUNT, 0, HOUR)
    assert [(line.key, line.usage_class) for line in by_account.lines] == [
        ("vision", UsageClass.PRODUCTIVE),
        ("(idle)", UsageClass.UNALLOCATED),
    ]
    by_model = cost_report(intervals, book(("*", "1", 0)), GroupBy.MODEL, 0, HOUR)
    assert {line.key for line in by_model.lines} == {H100}


def test_nothing_costs_nothing() -> None:
    report = cost_report([], book(), GroupBy.USER, 0, HOUR)
    assert (report.lines, report.total, report.currency) == ((), Decimal("0.00"), "EUR")


def test_an_attempt_costs_its_devices_from_the_grant_until_now_or_its_end() -> None:
    part = NodeAllocation(
        node="a",
        address="",
        interface=None,
        devices=(GrantedDevice("g0", H100, False), GrantedDevice("g1", H100, True)),
        cpu_ids=(),
        cpus_pinnable=False,
        memory_bytes=0,
    )
    running = AttemptSpan(
        job_id=1,
        epoch=1,
        user="ada",
        account="vision",
        allocation=Allocation(nodes=(part, part), master_port=1, granted_at_us=HOUR),
    )
    prices = book(("*", "1", 0), ("*", "2", 2 * HOUR))
    assert attempt_cost(running, prices, 3 * HOUR) == Decimal("12.0000")
    assert attempt_cost(replace(running, ended_at_us=2 * HOUR), prices, 9 * HOUR) == Decimal("4.0000")
    assert attempt_cost(running, prices, 0) == 0
