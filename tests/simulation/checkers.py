"""What went wrong, said from three records alone: acknowledgements, the event log, and ticks.

The same checks judge a simulated history and a real one. As a program it reads JSON lines:

    python -m simulation.checkers --acks acks.jsonl --events events.jsonl --ticks ticks.jsonl

``acks.jsonl`` holds an ``Acknowledged`` per line and is written by clients when an answer reaches
them; ``events.jsonl`` a ``Recorded`` per line, with the event's class name as ``kind``;
``ticks.jsonl`` a ``Tick`` per line, written by what runs, while it runs. All instants are
microseconds of one clock: run the hosts of a test on one machine, or leave ``--ticks`` out.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from gpusched.domain.events import (
    AttemptEnded,
    AttemptStopping,
    Event,
    JobAllocated,
    JobEnded,
    JobEvent,
    JobHeld,
    JobReleased,
    JobRequeued,
    JobSubmitted,
    Recorded,
    TasksEnded,
)
from gpusched.domain.ids import AttemptId, DeviceUuid, Epoch, JobId, NodeName
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import EndReason, JobState

T = TypeVar("T")

LEASE_OVER = "its lease is over"
"""How the head's word of an attempt ends that it gave up."""
KILLING_US = 2_500_000
"""For so long at least a shim may be busy killing: less than the grace that the head gives it."""

MARK = "request:"
"""A job whose comment begins so was wanted once: no two jobs may have the same comment."""


class Kind(StrEnum):
    """What can go wrong, in the words of the promises."""

    LOST = "lost"  # acknowledged, and not in the log, or never ended
    DUPLICATED = "duplicated"  # one request, two jobs or two answers
    REUSED = "id reused"
    OVERLAPPING = "overlapping"  # two executions of one job live at once
    HASTY = "given up too early"  # an attempt that still had a lease, or was just being killed
    REPEATED = "ran again"  # one attempt executed twice on a node, one after the other
    LEAKED = "leaked"  # an execution outlived its attempt
    SHARED = "shared"  # one device in two live grants or executions
    GAP = "gap in the log"
    TERMINAL = "terminal state not exactly once"
    UNASKED = "attempt nobody asked for"
    FALSE = "false report"  # the log says what was not so
    DISOBEYED = "acknowledged change not carried out"


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise, in words."""

    kind: Kind
    detail: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """An answer that reached a client."""

    at_us: int
    subject: str
    request_id: str
    request: str  # class of the request: "Submit", "CancelJob" ...
    job_ids: tuple[int, ...] = ()  # handed out by a Submit; what the others were about
    refused: str | None = None  # class of the refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One node's part of an attempt, from its first process to its last."""

    job_id: JobId
    epoch: Epoch
    node: NodeName
    start_us: int
    end_us: int | None  # None: alive when the history ended
    devices: tuple[DeviceUuid, ...] = ()
    exit_code: int | None = None  # as a shell shows it, 128 + signal for a killed one; None: not known
    leased_until_us: int | None = None  # when the last lease that it was given is over; None: not watched

    def __str__(self) -> str:
        end = "on" if self.end_us is None else f"{self.end_us / 1e6:.3f}"
        return f"{self.job_id}.{self.epoch} on {self.node} [{self.start_us / 1e6:.3f}, {end}) s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A sign of life of an execution; ``token`` tells its process from any other that ever was."""

    job_id: JobId
    epoch: Epoch
    node: NodeName
    token: str
    at_us: int
    devices: tuple[DeviceUuid, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """Something that ends attempts on a node by itself did happen: ``reason`` is what may be said of it."""

    node: NodeName
    at_us: int
    reason: EndReason  # NODE_FAIL or SHIM_LOST


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Everything that is judged. ``log`` in the order in which it was committed."""

    acknowledged: Sequence[Acknowledged] = ()
    log: Sequence[Recorded] = ()
    executions: Sequence[Execution] | None = None  # None: nobody watched them
    losses: Sequence[Loss] | None = None  # None: nobody counted them
    is_settled: bool = True  # faults have stopped and all work had time to end
    excused: frozenset[AttemptId] = frozenset()  # attempts whose node forgot them (its disk was wiped)


def check(history: History) -> tuple[Violation, ...]:
    """Everything that is wrong with a history; empty is good."""
    book = _Book.of(history.log)
    found = [violation for checker in CHECKERS for violation in checker(history, book)]
    return tuple(dict.fromkeys(found))


def executions_of(ticks: Iterable[Tick]) -> tuple[Execution, ...]:
    """Ticks as intervals: each token lived from its first to its last one at least."""
    by_token: dict[str, list[Tick]] = defaultdict(list)
    for tick in ticks:
        by_token[tick.token].append(tick)
    found = []
    for mine in by_token.values():
        times = [tick.at_us for tick in mine]
        first = mine[0]
        found.append(
            Execution(
                job_id=first.job_id,
                epoch=first.epoch,
                node=first.node,
                start_us=min(times),
                end_us=max(times) + 1,
                devices=first.devices,
            )
        )
    return tuple(found)


# ── what the log says of each job ────────────────────────────────────────────────────────


@dataclass(slots=True)
class _JobStory:
    spec: JobSpec
    grants: dict[Epoch, tuple[int, JobAllocated]] = field(default_factory=dict)
    ends: dict[Epoch, tuple[int, AttemptEnded]] = field(default_factory=dict)
    over: list[JobEnded] = field(default_factory=list)
    asked: set[Epoch] = field(default_factory=set)  # attempts that somebody wanted ended


@dataclass(slots=True)
class _Book:
    jobs: dict[JobId, _JobStory] = field(default_factory=dict)
    broken: list[Violation] = field(default_factory=list)

    @classmethod
    def of(cls, log: Sequence[Recorded]) -> _Book:
        book = cls()
        held: set[JobId] = set()
        for recorded in log:
            if isinstance(recorded.event, JobEvent):
                book._add(recorded, held)
        return book

    def _add(self, recorded: Recorded, held: set[JobId]) -> None:
        event, at_us = recorded.event, recorded.at_us
        assert isinstance(event, JobEvent)
        where = f"seq {recorded.seq}, {type(event).__name__} of job {event.job_id}"
        story = self.jobs.get(event.job_id)
        if isinstance(event, JobSubmitted):
            if story is not None:
                self._say(Kind.REUSED, f"{where}: that id was handed out before")
            self.jobs[event.job_id] = _JobStory(event.spec)
            if event.spec.hold:
                held.add(event.job_id)
            return
        if story is None:
            self._say(Kind.LOST, f"{where}: the log never accepted that job")
            return
        if story.over and not isinstance(event, JobEnded):
            self._say(Kind.TERMINAL, f"{where}: it had ended already")
        match event:
            case JobHeld():
                held.add(event.job_id)
            case JobReleased():
                held.discard(event.job_id)
            case JobAllocated():
                if event.job_id in held:
                    self._say(Kind.DISOBEYED, f"{where}: the job is held")
                self._allocate(story, event, at_us, where)
            case AttemptStopping():
                if event.by is not None:
                    story.asked.add(event.epoch)
            case AttemptEnded():
                if event.epoch in story.ends or event.epoch not in story.grants:
                    self._say(Kind.TERMINAL, f"{where}: attempt {event.epoch} was not running")
                story.ends[event.epoch] = (at_us, event)
            case JobRequeued():
                self._requeue(story, event, where)
            case JobEnded():
                story.over.append(event)
            case _:
                pass

    def _allocate(self, story: _JobStory, event: JobAllocated, at_us: int, where: str) -> None:
        if event.epoch != len(story.grants) + 1:
            self._say(Kind.UNASKED, f"{where}: epoch {event.epoch} after {len(story.grants)} grants")
        if len(story.ends) < len(story.grants):
            self._say(Kind.OVERLAPPING, f"{where}: its last attempt had not ended")
        story.grants[event.epoch] = (at_us, event)

    def _requeue(self, story: _JobStory, event: JobRequeued, where: str) -> None:
        ended = story.ends.get(event.epoch)
        reason = None if ended is None else ended[1].reason
        asked = reason is EndReason.REQUEUED and event.epoch in story.asked
        if not asked and (reason is None or not story.spec.may_restart_after(reason)):
            self._say(Kind.UNASKED, f"{where}: it may not run again after {reason}")

    def _say(self, kind: Kind, detail: str) -> None:
        self.broken.append(Violation(kind, detail))


# ── the checkers ─────────────────────────────────────────────────────────────────────────


def story_breaks(_history: History, book: _Book) -> Iterator[Violation]:
    """What the log itself contradicts: ids, epochs, requeues, events after the end."""
    yield from book.broken


def gaps(history: History, _book: _Book) -> Iterator[Violation]:
    """Sequence numbers run from 1 without gap or repetition."""
    for expected, recorded in enumerate(history.log, 1):
        if recorded.seq != expected:
            yield Violation(Kind.GAP, f"seq {recorded.seq} stands where {expected} should")
            return


def lost(history: History, book: _Book) -> Iterator[Violation]:
    """Every acknowledged job is in the log and, once all is settled, has ended."""
    for ack in history.acknowledged:
        if ack.request == "Submit" and ack.refused is None:
            for job_id in ack.job_ids:
                if JobId(job_id) not in book.jobs:
                    yield Violation(Kind.LOST, f"job {job_id}, acknowledged to request {ack.request_id}")


def terminals(history: History, book: _Book) -> Iterator[Violation]:
    """Every job ends exactly once; while work goes on, at most once."""
    for job_id, story in book.jobs.items():
        if len(story.over) > 1:
            yield Violation(Kind.TERMINAL, f"job {job_id} ended {len(story.over)} times")
        if history.is_settled and not story.over:
            yield Violation(Kind.LOST, f"job {job_id} never ended (attempt {len(story.grants)})")
        if story.over and len(story.ends) < len(story.grants):
            yield Violation(Kind.TERMINAL, f"job {job_id} ended before its attempt {len(story.grants)} did")


def duplicated(history: History, book: _Book) -> Iterator[Violation]:
    """One request has one answer and one set of jobs, however often it was sent."""
    answers: dict[tuple[str, str], Acknowledged] = {}
    owner: dict[int, tuple[str, str]] = {}
    for ack in history.acknowledged:
        key = (ack.subject, ack.request_id)
        first = answers.setdefault(key, ack)
        if ack.request == "Submit" and ack.refused is None:
            if first.refused is None and first.job_ids != ack.job_ids:
                yield Violation(
                    Kind.DUPLICATED,
                    f"request {ack.request_id} was answered {first.job_ids} and {ack.job_ids}",
                )
            for job_id in ack.job_ids:
                if owner.setdefault(job_id, key) != key:
                    yield Violation(
                        Kind.REUSED, f"job {job_id} answers {owner[job_id][1]} and {ack.request_id}"
                    )
    marks = Counter(story.spec.comment for story in book.jobs.values())
    for mark, jobs in marks.items():
        if mark is not None and mark.startswith(MARK) and jobs > 1:
            yield Violation(Kind.DUPLICATED, f"{jobs} jobs for {mark}")


def overlaps(history: History, _book: _Book) -> Iterator[Violation]:
    """At no instant do two attempts of a job live, nor one attempt twice on a node."""
    by_job: dict[JobId, list[Execution]] = defaultdict(list)
    for execution in history.executions or ():
        by_job[execution.job_id].append(execution)
    for mine in by_job.values():
        for one, other in _meeting(mine):
            if one.epoch != other.epoch or one.node == other.node:
                yield Violation(Kind.OVERLAPPING, f"{one} and {other}")


def hasty(history: History, _book: _Book) -> Iterator[Violation]:
    """An attempt is held for dead only some time after the last lease that anybody gave it is over.

    Whether it then lived is a matter of luck, so this sees more than ``overlaps``.
    """
    leased = {(e.job_id, e.epoch, e.node): e for e in history.executions or ()}
    for recorded in history.log:
        event = recorded.event
        if not (isinstance(event, TasksEnded) and (event.detail or "").endswith(LEASE_OVER)):
            continue
        execution = leased.get((event.job_id, event.epoch, event.node))
        if execution is None or execution.leased_until_us is None:
            continue
        early_us = execution.leased_until_us + KILLING_US - recorded.at_us
        if early_us > 0:
            yield Violation(Kind.HASTY, f"{execution} was given up {early_us / 1e6:.3f} s too early")


def repeated(history: History, _book: _Book) -> Iterator[Violation]:
    """An attempt executes at most once on a node, also one after the other."""
    places = Counter((e.job_id, e.epoch, e.node) for e in history.executions or ())
    for (job_id, epoch, node), times in places.items():
        if times > 1 and AttemptId(job_id, epoch) not in history.excused:
            yield Violation(Kind.REPEATED, f"{job_id}.{epoch} on {node}: {times} times")


def leaked(history: History, book: _Book) -> Iterator[Violation]:
    """No execution lives before its grant, after its attempt's end, or past the history's."""
    for execution in history.executions or ():
        story = book.jobs.get(execution.job_id)
        grant = None if story is None else story.grants.get(execution.epoch)
        if story is None or grant is None or execution.start_us < grant[0]:
            yield Violation(Kind.LEAKED, f"{execution} has no grant")
            continue
        ended = story.ends.get(execution.epoch)
        if ended is not None and (execution.end_us is None or execution.end_us > ended[0]):
            yield Violation(
                Kind.LEAKED, f"{execution} outlived its attempt, which ended at {ended[0] / 1e6:.3f} s"
            )
        elif history.is_settled and execution.end_us is None:
            yield Violation(Kind.LEAKED, f"{execution} lives on")


def shared(history: History, book: _Book) -> Iterator[Violation]:
    """A device is in one live grant, and in one live execution, at a time."""
    holder: dict[tuple[NodeName, DeviceUuid], AttemptId] = {}
    for recorded in history.log:
        event = recorded.event
        if isinstance(event, JobAllocated):
            mine = AttemptId(event.job_id, event.epoch)
            for place in _places(event):
                if place in holder:
                    yield Violation(
                        Kind.SHARED,
                        f"{place[1]} is granted to {holder[place]} and, seq {recorded.seq}, {mine}",
                    )
                holder[place] = mine
        elif isinstance(event, AttemptEnded) and event.job_id in book.jobs:
            gone = AttemptId(event.job_id, event.epoch)
            holder = {place: held for place, held in holder.items() if held != gone}
    by_device: dict[tuple[NodeName, DeviceUuid], list[Execution]] = defaultdict(list)
    for execution in history.executions or ():
        for device in execution.devices:
            by_device[execution.node, device].append(execution)
    for (_, device), users in by_device.items():
        for one, other in _meeting(users):
            yield Violation(Kind.SHARED, f"{device} is used by {one} and {other}")


def _places(event: JobAllocated) -> Iterator[tuple[NodeName, DeviceUuid]]:
    for part in event.allocation.nodes:
        for device in part.devices:
            yield part.node, device.uuid


def false_reports(history: History, book: _Book) -> Iterator[Violation]:
    """A job reported COMPLETED ran to its own end, with exit code 0, on every node it was given."""
    if history.executions is None:
        return
    done = {(e.job_id, e.epoch, e.node): e for e in history.executions}
    for job_id, story in book.jobs.items():
        if not any(end.state is JobState.COMPLETED for end in story.over) or not story.grants:
            continue
        epoch = max(story.grants)
        for part in story.grants[epoch][1].allocation.nodes:
            execution = done.get((job_id, epoch, part.node))
            if execution is None or execution.end_us is None or execution.exit_code not in (0, None):
                yield Violation(
                    Kind.FALSE, f"job {job_id} is COMPLETED, but on {part.node} there is {execution}"
                )


def false_alarms(history: History, book: _Book) -> Iterator[Violation]:
    """An attempt said to be lost with its node or supervisor was."""
    if history.losses is None:
        return
    for job_id, story in book.jobs.items():
        for epoch, (end_us, ended) in story.ends.items():
            if ended.reason not in (EndReason.NODE_FAIL, EndReason.SHIM_LOST) or epoch not in story.grants:
                continue
            if story.spec.is_fenced:  # it may have ended with its lease, which nothing but it can see
                continue
            start_us, grant = story.grants[epoch]
            nodes = {part.node for part in grant.allocation.nodes}
            if not any(
                loss.node in nodes and loss.reason is ended.reason and start_us <= loss.at_us <= end_us
                for loss in history.losses
            ):
                yield Violation(Kind.FALSE, f"{job_id}.{epoch} ended by {ended.reason}, and nothing was lost")


def disobeyed(history: History, book: _Book) -> Iterator[Violation]:
    """An acknowledged cancellation ends the job as CANCELLED."""
    if not history.is_settled:
        return
    for ack in history.acknowledged:
        if ack.request != "CancelJob" or ack.refused is not None:
            continue
        for job_id in ack.job_ids:
            story = book.jobs.get(JobId(job_id))
            if story is not None and story.over and story.over[0].state is not JobState.CANCELLED:
                yield Violation(
                    Kind.DISOBEYED,
                    f"job {job_id} was cancelled by {ack.request_id}, and is {story.over[0].state}",
                )


def _meeting(executions: Sequence[Execution]) -> Iterator[tuple[Execution, Execution]]:
    """Pairs that live at the same instant."""
    alive: list[Execution] = []
    for execution in sorted(executions, key=lambda e: (e.start_us, e.epoch, e.node)):
        alive = [other for other in alive if other.end_us is None or other.end_us > execution.start_us]
        yield from ((other, execution) for other in alive)
        alive.append(execution)


Checker = Callable[[History, _Book], Iterator[Violation]]
CHECKERS: tuple[Checker, ...] = (
    story_breaks,
    gaps,
    lost,
    terminals,
    duplicated,
    overlaps,
    hasty,
    repeated,
    leaked,
    shared,
    false_reports,
    false_alarms,
    disobeyed,
)


# ── files ────────────────────────────────────────────────────────────────────────────────

_EVENTS: Mapping[str, type] = {member.__name__: member for member in get_args(Event)}


def encode_event(recorded: Recorded) -> bytes:
    """One line of ``events.jsonl``, without its end."""
    kind = type(recorded.event).__name__
    return msgspec.json.encode(
        {"seq": recorded.seq, "at_us": recorded.at_us, "kind": kind, "event": recorded.event}
    )


def decode_event(line: bytes) -> Recorded:
    """Read what ``encode_event`` wrote."""
    plain: dict[str, Any] = msgspec.json.decode(line)
    event: Event = msgspec.convert(plain["event"], _EVENTS[plain["kind"]])
    return Recorded(plain["seq"], plain["at_us"], event)


def _lines(path: Path, decode: Callable[[bytes], T]) -> list[T]:
    """Every whole line; the last one of a writer that was killed may be half, and is left out."""
    data = path.read_bytes()
    return [decode(line) for line in data[: data.rfind(b"\n") + 1].splitlines() if line.strip()]


def read_history(acks: Path, events: Path, ticks: Path | None, *, is_settled: bool) -> History:
    """Read the records of a real run."""
    as_ack = msgspec.json.Decoder(Acknowledged).decode
    as_tick = msgspec.json.Decoder(Tick).decode
    log = sorted(_lines(events, decode_event), key=lambda recorded: recorded.seq)
    return History(
        acknowledged=_lines(acks, as_ack),
        log=log,
        executions=None if ticks is None else executions_of(_lines(ticks, as_tick)),
        is_settled=is_settled,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge files; 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m simulation.checkers", description=__doc__)
    parser.add_argument("--acks", type=Path, required=True, metavar="FILE")
    parser.add_argument("--events", type=Path, required=True, metavar="FILE")
    parser.add_argument("--ticks", type=Path, metavar="FILE")
    parser.add_argument("--unsettled", action="store_true", help="work was still going on at the end")
    given = parser.parse_args(arguments)
    history = read_history(given.acks, given.events, given.ticks, is_settled=not given.unsettled)
    found = check(history)
    for violation in found:
        sys.stdout.write(f"{violation}\n")
    jobs = sum(len(ack.job_ids) for ack in history.acknowledged if ack.request == "Submit")
    runs = 0 if history.executions is None else len(history.executions)
    sys.stdout.write(
        f"{jobs} acknowledged jobs, {len(history.log)} events, {runs} executions: "
        f"{len(found)} violation{'' if len(found) == 1 else 's'}\n"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
