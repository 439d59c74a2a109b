"""One device, told as a line: each letter is one second of it.

s start-up, P productive, i allocated idle, L lost, . unallocated, D down, space: not installed.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpusched.domain.allocation import Allocation, GrantedDevice, NodeAllocation
from gpusched.domain.job_state import EndReason
from gpusched.domain.telemetry import DeviceUse, NodeUse
from gpusched.domain.usage import AttemptSpan, DeviceInterval, NodeSpan, UsageClass
from gpusched.engine.accounting import device_intervals

S = 1_000_000
LETTER = {
    UsageClass.STARTUP: "s",
    UsageClass.PRODUCTIVE: "P",
    UsageClass.ALLOCATED_IDLE: "i",
    UsageClass.LOST: "L",
    UsageClass.UNALLOCATED: ".",
    UsageClass.DOWN: "D",
}


def node(start_s: int, end_s: int | None, *, up: bool = True, devices: tuple[str, ...] = ("g",)) -> NodeSpan:
    return NodeSpan(
        node="a",
        devices=tuple((uuid, "H100") for uuid in devices),
        is_up=up,
        start_us=start_s * S,
        end_us=None if end_s is None else end_s * S,
    )


def attempt(
    granted_s: int,
    running_s: int | None,
    ended_s: int | None,
    *,
    job_id: int = 1,
    reason: EndReason = EndReason.COMPLETED,
    busy_s: float | None = None,
    milli: int = 1000,
) -> AttemptSpan:
    part = NodeAllocation(
        node="a",
        address="",
        interface=None,
        devices=(GrantedDevice("g", "H100", False, milli),),
        cpu_ids=(),
        cpus_pinnable=False,
        memory_bytes=0,
    )
    return AttemptSpan(
        job_id=job_id,
        epoch=1,
        user="ada",
        account="vision",
        allocation=Allocation(nodes=(part,), master_port=1, granted_at_us=granted_s * S),
        running_at_us=None if running_s is None else running_s * S,
        ended_at_us=None if ended_s is None else ended_s * S,
        end_reason=None if ended_s is None else reason,
        uses=(("a", NodeUse(wall_s=1, devices=(DeviceUse(uuid="g", busy_s=busy_s),))),),
    )


def line(intervals: Iterable[DeviceInterval], length_s: int = 20) -> str:
    seconds = [" "] * length_s
    for interval in intervals:
        for second in range(interval.start_us // S, interval.end_us // S):
            assert seconds[second] == " ", "counted twice"
            seconds[second] = LETTER[interval.usage_class]
    return "".join(seconds)


def told(attempts: list[AttemptSpan], nodes: list[NodeSpan], start_s: int = 0, end_s: int = 20) -> str:
    return line(device_intervals(attempts, nodes, start_s * S, end_s * S))


def test_a_device_is_unallocated_from_when_its_node_joins_until_a_grant() -> None:
    assert told([attempt(8, 10, 15)], [node(5, None)]) == "     ...ssPPPPP....."


def test_two_jobs_on_one_device_and_the_rest_of_it_add_up_to_the_device() -> None:
    half, third = attempt(2, 4, 12, milli=500), attempt(6, 7, 10, milli=300, job_id=2)
    intervals = device_intervals([half, third], [node(0, None)], 0, 14 * S)
    told_of = [(i.job_id, LETTER[i.usage_class], i.start_us // S, i.end_us // S, i.milli) for i in intervals]
    assert told_of == [
        (None, ".", 0, 2, 1000),
        (1, "s", 2, 4, 500),
        (None, ".", 2, 6, 500),
        (1, "P", 4, 12, 500),
        (2, "s", 6, 7, 300),
        (None, ".", 6, 10, 200),
        (2, "P", 7, 10, 300),
        (None, ".", 10, 12, 500),
        (None, ".", 12, 14, 1000),
    ]


def test_busy_time_of_a_shared_device_is_nobody_s_in_particular() -> None:
    (running,) = [
        i
        for i in device_intervals([attempt(0, 0, 10, milli=500, busy_s=3)], [node(0, None)], 0, 10 * S)
        if i.job_id == 1
    ]
    assert (running.usage_class, running.end_us) == (UsageClass.PRODUCTIVE, 10 * S)


def test_no_more_than_a_device_counts_where_a_damaged_log_grants_more() -> None:
    claims = [attempt(0, 0, 4, milli=700), attempt(1, 1, 4, milli=700, job_id=2)]
    second = [i for i in device_intervals(claims, [node(0, None)], 0, 4 * S) if i.job_id == 2]
    assert [(i.start_us // S, i.end_us // S, i.milli) for i in second] == [(1, 4, 300)]


def test_time_not_measured_busy_stands_at_the_end_of_the_running_time() -> None:
    assert told([attempt(2, 4, 14, busy_s=7)], [node(0, None)]) == "..ssPPPPPPPiii......"


def test_a_device_measured_never_busy_was_idle_all_along() -> None:
    assert told([attempt(2, 4, 10, busy_s=0)], [node(0, None)]) == "..ssiiiiii.........."


def test_an_unmeasured_device_counts_as_productive() -> None:
    for unmeasured in (None, float("nan")):
        assert told([attempt(2, 4, 10, busy_s=unmeasured)], [node(0, None)]) == "..ssPPPPPP.........."


def test_more_busy_time_than_running_time_leaves_no_idle_time() -> None:
    assert told([attempt(2, 4, 10, busy_s=99)], [node(0, None)]) == "..ssPPPPPP.........."


def test_running_time_of_an_attempt_that_infrastructure_ended_is_lost() -> None:
    lost = attempt(2, 4, 10, busy_s=1, reason=EndReason.NODE_FAIL)
    assert told([lost], [node(0, None)]) == "..ssLLLLLL.........."


def test_an_attempt_that_failed_by_itself_is_not_lost_to_infrastructure() -> None:
    failed = attempt(2, 4, 10, reason=EndReason.RANK_FAILED)
    assert told([failed], [node(0, None)]) == "..ssPPPPPP.........."


def test_an_attempt_that_never_ran_was_starting_up_to_its_end() -> None:
    assert told([attempt(2, None, 10)], [node(0, None)]) == "..ssssssss.........."


def test_an_attempt_that_still_runs_is_productive_until_the_end_of_the_window() -> None:
    assert told([attempt(2, 4, None, busy_s=1)], [node(0, None)], end_s=15) == "..ssPPPPPPPPPPP     "


def test_down_wins_over_the_job_that_holds_the_device() -> None:
    nodes = [node(0, 6), node(6, 9, up=False), node(9, None)]
    assert told([attempt(2, 4, 14, busy_s=8)], nodes) == "..ssPPDDDPPPii......"


def test_of_two_attempts_on_one_device_the_earlier_grant_counts() -> None:
    attempts = [attempt(6, 7, 14, job_id=2), attempt(2, 4, 10, job_id=1)]
    intervals = device_intervals(attempts, [node(0, None)], 0, 20 * S)
    assert line(intervals) == "..ssPPPPPPPPPP......"
    assert [(i.job_id, i.end_us // S) for i in intervals if i.usage_class is UsageClass.PRODUCTIVE] == [
        (1, 10),
        (2, 14),
    ]


def test_of_two_spans_of_one_node_the_earlier_counts() -> None:
    assert told([], [node(0, 10), node(5, 15, up=False)]) == "..........DDDDD     "


def test_a_device_that_left_its_node_costs_nothing_whatever_an_allocation_says() -> None:
    assert told([attempt(2, 4, 14)], [node(0, 8), node(8, None, devices=())]) == "..ssPPPP            "


def test_a_window_cuts_intervals_and_moves_none() -> None:
    assert told([attempt(2, 4, 14, busy_s=7)], [node(0, None)], 9, 13) == "         PPii       "


def test_an_empty_window_holds_nothing() -> None:
    assert device_intervals([attempt(2, 4, 14)], [node(0, None)], 5 * S, 5 * S) == ()


def test_intervals_name_who_held_the_device() -> None:
    (interval,) = device_intervals([attempt(0, 0, None)], [node(0, None)], 5 * S, 6 * S)
    assert (interval.job_id, interval.epoch, interval.user, interval.account) == (1, 1, "ada", "vision")
