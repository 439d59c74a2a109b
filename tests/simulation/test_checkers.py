"""The checkers accept a good history and name what is wrong with each bad one; also from files."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from cluster import Cluster, facts, spec
from simulation.checkers import Acknowledged, Execution, History, Kind, Tick, check, encode_event, main

from gpusched.domain.events import JobAllocated, JobEnded, JobHeld, JobSubmitted, Recorded, TasksEnded
from gpusched.domain.ids import DeviceUuid, Epoch, JobId, NodeName
from gpusched.domain.job_state import EndReason
from gpusched.domain.telemetry import NodeUse


def good() -> History:
    """Two jobs, one after the other, on one node of one GPU: submitted, run, completed."""
    cluster = Cluster()
    cluster.join(facts("n1", gpus=1))
    acks, executions = [], []
    for number in (1, 2):
        (job_id,) = cluster.submit(spec(gpus_per_node=1, comment=f"request:r{number}"))
        acks.append(ack(number, job_id))
        cluster.cycle()
        start_us = cluster.now_us + 1
        cluster.start_all(job_id)
        cluster.end_all(job_id)
        executions.append(execution(job_id, start_us, cluster.now_us - 1))
    return History(acknowledged=acks, log=cluster.log, executions=executions)


def ack(number: int, *job_ids: int, request: str = "Submit") -> Acknowledged:
    return Acknowledged(
        at_us=0, subject="uid:1000", request_id=f"r{number}", request=request, job_ids=tuple(job_ids)
    )


def execution(job_id: int, start_us: int, end_us: int | None, epoch: int = 1) -> Execution:
    return Execution(
        job_id=JobId(job_id),
        epoch=Epoch(epoch),
        node=NodeName("n1"),
        start_us=start_us,
        end_us=end_us,
        devices=(DeviceUuid("GPU-n1-0"),),
        exit_code=0,
    )


def kinds(history: History) -> set[Kind]:
    return {violation.kind for violation in check(history)}


def with_more(history: History, *events: object) -> History:
    """The log with facts written behind its end, each a second after the other."""
    last = history.log[-1]
    more = [
        Recorded(last.seq + i, last.at_us + i * 1_000_000, event)  # type: ignore[arg-type]
        for i, event in enumerate(events, 1)
    ]
    return replace(history, log=[*history.log, *more])


def event_of(history: History, kind: type, job_id: int) -> object:
    return next(r.event for r in history.log if isinstance(r.event, kind) and r.event.job_id == job_id)


def test_a_good_history_has_nothing_wrong():
    assert check(good()) == ()


def spoil_lost(h: History) -> History:
    return replace(h, acknowledged=[*h.acknowledged, ack(3, 99)])


def spoil_duplicated(h: History) -> History:
    return replace(h, acknowledged=[*h.acknowledged, ack(1, 2)])


def spoil_reused(h: History) -> History:
    return with_more(h, event_of(h, JobSubmitted, 1))


def spoil_overlapping(h: History) -> History:
    first = h.executions[0]
    return replace(h, executions=[*h.executions, replace(first, epoch=Epoch(2), node=NodeName("n2"))])


def spoil_hasty(h: History) -> History:
    first = h.executions[0]
    given_up = TasksEnded(
        job_id=first.job_id,
        epoch=first.epoch,
        node=first.node,
        exits=(),
        cause=EndReason.NODE_FAIL,
        detail="n1 was silent for 18 s and its lease is over",
        use=NodeUse(wall_s=0.0),
    )
    spoilt = with_more(h, given_up)
    at_us = spoilt.log[-1].at_us
    return replace(spoilt, executions=[replace(first, end_us=at_us, leased_until_us=at_us - 1_000_000)])


def spoil_repeated(h: History) -> History:
    first = h.executions[0]
    return replace(h, executions=[*h.executions, replace(first, start_us=first.end_us, end_us=first.end_us)])


def spoil_leaked(h: History) -> History:
    return replace(h, executions=[replace(h.executions[0], end_us=None), h.executions[1]])


def spoil_shared(h: History) -> History:
    first, second = h.executions
    return replace(h, executions=[first, replace(second, start_us=first.start_us)])


def spoil_gap(h: History) -> History:
    return replace(h, log=[*h.log[:-1], replace(h.log[-1], seq=h.log[-1].seq + 1)])


def spoil_terminal(h: History) -> History:
    return with_more(h, event_of(h, JobEnded, 1))


def spoil_unasked(h: History) -> History:
    again = event_of(h, JobAllocated, 1)
    return with_more(h, replace(again, epoch=Epoch(3)))


def spoil_false(h: History) -> History:
    return replace(h, executions=[replace(h.executions[0], exit_code=1), h.executions[1]])


def spoil_disobeyed(h: History) -> History:
    return replace(h, acknowledged=[*h.acknowledged, ack(3, 1, request="CancelJob")])


SPOILED = {
    Kind.LOST: spoil_lost,
    Kind.DUPLICATED: spoil_duplicated,
    Kind.REUSED: spoil_reused,
    Kind.OVERLAPPING: spoil_overlapping,
    Kind.HASTY: spoil_hasty,
    Kind.REPEATED: spoil_repeated,
    Kind.LEAKED: spoil_leaked,
    Kind.SHARED: spoil_shared,
    Kind.GAP: spoil_gap,
    Kind.TERMINAL: spoil_terminal,
    Kind.UNASKED: spoil_unasked,
    Kind.FALSE: spoil_false,
    Kind.DISOBEYED: spoil_disobeyed,
}


@pytest.mark.parametrize("kind", Kind)
def test_each_kind_of_violation_is_seen(kind):
    assert kind in kinds(SPOILED[kind](good()))


def test_a_held_job_that_starts_is_seen():
    history = good()
    held = JobHeld(job_id=JobId(1), by="alice")
    log = [history.log[0], history.log[1], Recorded(0, history.log[1].at_us, held), *history.log[2:]]
    renumbered = [replace(recorded, seq=seq) for seq, recorded in enumerate(log, 1)]
    assert Kind.DISOBEYED in kinds(replace(history, log=renumbered))


def test_a_lost_node_that_was_not_lost_is_seen():
    history = good()
    log = [
        replace(
            recorded,
            event=replace(recorded.event, reason=EndReason.NODE_FAIL)
            if hasattr(recorded.event, "reason")
            else recorded.event,
        )
        for recorded in history.log
    ]
    assert Kind.FALSE in kinds(replace(history, log=log, losses=()))


def test_unfinished_work_is_no_violation_before_all_is_settled():
    history = good()
    cut = replace(history, log=history.log[:3], executions=(), acknowledged=history.acknowledged[:1])
    assert kinds(cut) == {Kind.LOST}
    assert kinds(replace(cut, is_settled=False)) == set()


def write_files(history: History, folder) -> list[str]:
    ticks = [
        Tick(
            job_id=e.job_id,
            epoch=e.epoch,
            node=e.node,
            token=f"{e.job_id}.{e.epoch}",
            at_us=at_us,
            devices=e.devices,
        )
        for e in history.executions
        for at_us in (e.start_us, e.end_us)
    ]
    lines = {
        "acks": [msgspec.json.encode(a) for a in history.acknowledged],
        "events": [encode_event(r) for r in history.log],
        "ticks": [msgspec.json.encode(tick) for tick in ticks],
    }
    arguments = []
    for name, written in lines.items():
        path = folder / f"{name}.jsonl"
        path.write_bytes(b"".join(line + b"\n" for line in written) + b'{"half a li')
        arguments += [f"--{name}", str(path)]
    return arguments


def test_files_are_judged_as_the_history_they_hold(tmp_path, capsys):
    assert main(write_files(good(), tmp_path)) == 0
    assert "2 acknowledged jobs" in capsys.readouterr().out
    assert main(write_files(spoil_shared(good()), tmp_path)) == 1
    assert "shared: GPU-n1-0" in capsys.readouterr().out
