from __future__ import annotations

import pytest

from gpusched.domain.allocation import Allocation, GrantedDevice, NodeAllocation
from gpusched.domain.errors import LogCorrupt
from gpusched.domain.events import (
    AttemptEnded,
    AttemptStopping,
    Event,
    JobAllocated,
    JobSubmitted,
    NodeCordoned,
    NodeJoined,
    NodeLost,
    NodeReturned,
    OutageBegan,
    OutagesEnded,
    Recorded,
    TasksEnded,
    TasksStarted,
)
from gpusched.domain.health import Condition, Cure, HealthAction, Outage, Signal
from gpusched.domain.identity import Identity
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import EndReason
from gpusched.domain.node import Device, NodeFacts
from gpusched.domain.telemetry import NodeUse
from gpusched.engine.accounting import device_intervals, fold_spans


def log(*events: tuple[int, Event]) -> list[Recorded]:
    return [Recorded(seq, at_us, event) for seq, (at_us, event) in enumerate(events, start=1)]


def joined(node: str, gpus: int) -> NodeJoined:
    devices = tuple(Device(uuid=f"{node}-g{g}", model="H100", memory_bytes=None) for g in range(gpus))
    facts = NodeFacts(
        name=node,
        boot_id="b",
        agent_version="1",
        address="10.0.0.1",
        interface=None,
        cpu_ids=(0,),
        cpus_pinnable=True,
        memory_bytes=1,
        devices=devices,
    )
    return NodeJoined(node=node, facts=facts)


def allocated(job_id: int, epoch: int, at_us: int, *nodes: str) -> JobAllocated:
    parts = tuple(
        NodeAllocation(
            node=node,
            address="10.0.0.1",
            interface=None,
            devices=(GrantedDevice(f"{node}-g0", "H100", False),),
            cpu_ids=(0,),
            cpus_pinnable=True,
            memory_bytes=0,
        )
        for node in nodes
    )
    return JobAllocated(
        job_id=job_id, epoch=epoch, allocation=Allocation(nodes=parts, master_port=1, granted_at_us=at_us)
    )


def submitted(job_id: int) -> JobSubmitted:
    spec = JobSpec(name="j", command=("true",), account="vision", nodes=2)
    return JobSubmitted(job_id=job_id, spec=spec, owner=Identity("ada", 1, 1))


def started(node: str) -> TasksStarted:
    return TasksStarted(job_id=1, epoch=1, node=node, pids=(1,))


def ended(node: str, wall_s: float) -> TasksEnded:
    return TasksEnded(
        job_id=1, epoch=1, node=node, exits=(), cause=None, detail=None, use=NodeUse(wall_s=wall_s)
    )


ATTEMPT_ENDED = AttemptEnded(job_id=1, epoch=1, reason=EndReason.COMPLETED, detail=None, exit_code=0)


def test_an_attempt_runs_from_the_report_of_its_last_node_and_ends_with_its_allocation() -> None:
    (span,), _ = fold_spans(
        log(
            (5, submitted(1)),
            (10, allocated(1, 1, 10, "a", "b")),
            (12, started("a")),
            (13, started("a")),
            (15, started("b")),
            (30, ended("a", 1.0)),
            (31, ended("b", 2.0)),
            (32, ended("b", 9.0)),
            (33, ATTEMPT_ENDED),
        )
    )
    assert (span.user, span.account, span.epoch) == ("ada", "vision", 1)
    assert (span.allocation.granted_at_us, span.running_at_us, span.ended_at_us) == (10, 15, 33)
    assert span.end_reason is EndReason.COMPLETED
    assert span.uses == (("a", NodeUse(wall_s=1.0)), ("b", NodeUse(wall_s=2.0)))


def test_an_attempt_that_is_stopped_before_all_its_nodes_started_never_ran() -> None:
    stopping = AttemptStopping(
        job_id=1, epoch=1, reason=EndReason.CANCELLED, detail=None, by="ada", exit_code=None
    )
    (span,), _ = fold_spans(
        log(
            (5, submitted(1)),
            (10, allocated(1, 1, 10, "a", "b")),
            (12, started("a")),
            (13, stopping),
            (14, started("b")),
        )
    )
    assert span.running_at_us is None
    assert span.ended_at_us is None


def test_each_attempt_of_a_job_has_its_own_span() -> None:
    spans, _ = fold_spans(
        log((1, submitted(1)), (2, allocated(1, 1, 2, "a")), (3, ATTEMPT_ENDED), (4, allocated(1, 2, 4, "b")))
    )
    assert [(span.epoch, span.ended_at_us) for span in spans] == [(1, 3), (2, None)]


def test_a_nodes_span_ends_where_its_devices_or_its_reachability_change() -> None:
    _, spans = fold_spans(
        log(
            (1, joined("a", 2)),
            (5, joined("a", 2)),
            (10, NodeLost(node="a", detail="silent")),
            (20, joined("a", 1)),
            (20, NodeReturned(node="a")),
            (25, NodeCordoned(node="a", by="op", reason="r")),
        )
    )
    assert [(span.start_us, span.end_us, span.is_up, len(span.devices)) for span in spans] == [
        (1, 10, True, 2),
        (10, 20, False, 2),
        (20, None, True, 1),
    ]


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (allocated(1, 1, 0, "a"), "job 1, which was never submitted"),
        (ATTEMPT_ENDED, "attempt 1.1, which was never allocated"),
        (started("a"), "attempt 1.1, which was never allocated"),
        (NodeReturned(node="a"), "node a, which never joined"),
    ],
)
def test_a_log_that_lacks_a_beginning_is_refused(event: Event, words: str) -> None:
    with pytest.raises(LogCorrupt, match=words):
        fold_spans(log((1, event)))


def test_a_device_that_is_out_is_down_unless_a_job_holds_it():
    def out(condition_device: str) -> Outage:
        condition = Condition(signal=Signal.REMAP_PENDING, detail="", devices=(condition_device,))
        return Outage(
            condition=condition, action=HealthAction.RESET, cure=Cure.RESET, devices=(condition_device,)
        )

    recorded = log(
        (0, joined("a", 2)),
        (0, submitted(1)),
        (10, allocated(1, 1, 10, "a")),
        (10, TasksStarted(job_id=1, epoch=1, node="a", pids=(1,))),
        (20, OutageBegan(node="a", outage=out("a-g0"))),
        (20, OutageBegan(node="a", outage=out("a-g1"))),
        (30, ended("a", 20.0)),
        (30, AttemptEnded(job_id=1, epoch=1, reason=EndReason.COMPLETED, detail=None, exit_code=0)),
        (40, OutagesEnded(node="a", outages=(out("a-g0"),), by="gpusched")),
    )
    found = [
        (interval.device, interval.usage_class.value, interval.start_us, interval.end_us)
        for interval in device_intervals(*fold_spans(recorded), 0, 50)
    ]
    assert found == [
        ("a-g0", "unallocated", 0, 10),
        ("a-g0", "productive", 10, 30),
        ("a-g0", "down", 30, 40),
        ("a-g0", "unallocated", 40, 50),
        ("a-g1", "unallocated", 0, 20),
        ("a-g1", "down", 20, 50),
    ]
