"""Facts from agents and timers into events. Each is taken once, however often it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from gpusched.domain.commands import DumpStacks, LaunchTasks, RepairNode, StopTasks
from gpusched.domain.events import (
    AgentReport,
    AttemptStopping,
    HealthReport,
    JobHeld,
    JobReleased,
    JobSlowed,
    JobStalled,
    JobUnderused,
    NodeAhead,
    NodeJoined,
    NodeLost,
    NodeReconciled,
    NodeReturned,
    RepairEnded,
    SlownessEnded,
    StallEnded,
    TaskFailed,
    TasksEnded,
    TasksStarted,
)
from gpusched.domain.history import Ahead, Mark
from gpusched.domain.ids import AttemptId, JobId, NodeName
from gpusched.domain.job import Attempt, Job
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.node import Schedulability
from gpusched.domain.telemetry import NodeUse
from gpusched.engine.health import repair_order
from gpusched.engine.inputs import (
    CommandAcknowledged,
    CommandNotKnown,
    DelayPassed,
    DrainDeadlinePassed,
    Fact,
    GangMoves,
    GangRecovered,
    GangSlowed,
    GangStalled,
    GpusUnderused,
    HealthDue,
    LeaseEnded,
    NodeConnected,
    NodeHeard,
    NodeSilent,
    Reported,
)
from gpusched.engine.observed import judge_waiting, take_health
from gpusched.engine.state import ClusterState
from gpusched.engine.transaction import Transaction


def take(tx: Transaction, fact: Fact, launches: Mapping[AttemptId, int]) -> None:
    """Record what is new in a fact; a repeated or outdated one changes nothing.

    Args:
        tx: Where to record.
        fact: What was heard.
        launches: Attempts whose launch is still in the outbox of the fact's node, with its command's seq.
    """
    match fact:
        case NodeConnected():
            _connected(tx, fact, launches)
        case NodeSilent() | NodeHeard():
            _reachable(tx, fact)
        case LeaseEnded():
            _lease_ended(tx, fact, launches)
        case DrainDeadlinePassed():
            _drain_now(tx, fact.node)
        case GangStalled() | GangMoves() | GpusUnderused():
            _gang(tx, fact)
        case GangSlowed() | GangRecovered():
            _pace(tx, fact)
        case DelayPassed():
            _delay_passed(tx, fact.job_id)
        case Reported():
            _reported(tx, fact.node, fact.fact)
        case HealthDue():
            judge_waiting(tx, fact.node)
        case CommandAcknowledged():
            tx.acknowledge(fact.command_seq)
        case CommandNotKnown():
            _refused(tx, fact)
        case _:
            assert_never(fact)


def _reachable(tx: Transaction, fact: NodeSilent | NodeHeard) -> None:
    node = tx.state.nodes.get(fact.node)
    if node is None:
        return
    if isinstance(fact, NodeHeard) and not node.reachable:
        tx.record(NodeReturned(node=fact.node))
    elif isinstance(fact, NodeSilent) and node.reachable:
        tx.record(NodeLost(node=fact.node, detail=f"silent for {fact.silent_s:.0f} s"))


def _delay_passed(tx: Transaction, job_id: JobId) -> None:
    if job_id in tx.state.delayed:
        tx.record(JobReleased(job_id=job_id, by="gpusched: it has waited long enough"))


def _current_anywhere(tx: Transaction, attempt_id: AttemptId) -> Attempt | None:
    """The attempt, if it is its job's current one and holds its nodes."""
    job = tx.state.jobs.get(attempt_id.job_id)
    attempt = None if job is None else job.attempt
    if attempt is None or attempt.epoch != attempt_id.epoch or attempt_id.job_id not in tx.state.running:
        return None
    return attempt


def _current(tx: Transaction, node: NodeName, attempt_id: AttemptId) -> Attempt | None:
    """The attempt, if it is its job's current one, holds the node, and has not ended there."""
    attempt = _current_anywhere(tx, attempt_id)
    if attempt is None or node not in attempt.node_names or node in attempt.nodes_ended:
        return None
    return attempt


def _gang(tx: Transaction, fact: GangStalled | GangMoves | GpusUnderused) -> None:
    attempt = _current_anywhere(tx, fact.attempt_id)
    if attempt is None or attempt.stop_reason is not None:
        return
    if isinstance(fact, GpusUnderused):
        if attempt.underused is None:
            job_id, epoch = fact.attempt_id.job_id, fact.attempt_id.epoch
            tx.record(JobUnderused(job_id=job_id, epoch=epoch, evidence=fact.evidence))
        return
    if isinstance(fact, GangMoves):
        if attempt.stall is not None:
            tx.record(StallEnded(job_id=fact.attempt_id.job_id, epoch=fact.attempt_id.epoch))
        return
    if attempt.stall is not None or fact.node not in attempt.node_names:
        return
    tx.record(
        JobStalled(
            job_id=fact.attempt_id.job_id,
            epoch=fact.attempt_id.epoch,
            global_rank=fact.global_rank,
            node=fact.node,
            quiet_s=fact.quiet_s,
            evidence=fact.evidence,
        )
    )


def _pace(tx: Transaction, fact: GangSlowed | GangRecovered) -> None:
    attempt = _current_anywhere(tx, fact.attempt_id)
    if attempt is None or attempt.stop_reason is not None:
        return
    known, job_id, epoch = attempt.slowness, fact.attempt_id.job_id, fact.attempt_id.epoch
    if isinstance(fact, GangRecovered):
        if known is not None:
            tx.record(SlownessEnded(job_id=job_id, epoch=epoch))
        return
    if known is not None and known.global_rank == fact.global_rank:
        return
    tx.record(
        JobSlowed(
            job_id=job_id,
            epoch=epoch,
            evidence=fact.evidence + _ailing(tx, fact.node),
            global_rank=fact.global_rank,
            node=fact.node,
        )
    )


def _ailing(tx: Transaction, name: NodeName | None) -> str:
    """What else is wrong with the node of a slow rank: a GPU that brakes for heat or power explains much."""
    node = None if name is None else tx.state.nodes.get(name)
    signals = sorted({finding.condition.signal for finding in node.health.findings}) if node else []
    return f". {name} shows {', '.join(signals)}" if signals else ""


def _reported(tx: Transaction, node: NodeName, report: AgentReport | HealthReport) -> None:
    if isinstance(report, HealthReport):
        take_health(tx, node, report)
        return
    attempt = _current(tx, node, AttemptId(report.job_id, report.epoch))
    if attempt is None or report.node != node:
        return  # a repetition, or of an attempt that is over: taken, and nothing new
    match report:
        case TasksStarted():
            if node not in attempt.nodes_started:
                tx.record(report)
        case TaskFailed():
            if attempt.stop_reason is None:
                tx.record(report)
        case TasksEnded():
            tx.record(report)
        case _:
            assert_never(report)


def _connected(tx: Transaction, hello: NodeConnected, launches: Mapping[AttemptId, int]) -> None:
    name = hello.facts.name
    node = tx.state.nodes.get(name)
    if node is None or node.facts != hello.facts:
        tx.record(NodeJoined(node=name, facts=hello.facts))
    if node is not None and not node.reachable:
        tx.record(NodeReturned(node=name))
    repair = tx.state.nodes[name].health.repair
    if repair is not None:  # an agent that died meanwhile has forgotten it
        tx.order(repair_order(name, repair))
    held = frozenset(hello.attempts)
    if hello.mark is not None and is_ahead(tx.state, hello):
        _note_ahead(tx, name, held, hello.mark)
        if not tx.state.history.accepts_loss:
            return  # what it holds is not to be judged by a log that may have forgotten it
    if tx.state.nodes[name].ahead is not None:
        tx.record(NodeReconciled(node=name))
    for attempt_id in sorted(held):
        if _current(tx, name, attempt_id) is None:
            _end_stray(tx, name, attempt_id)
    for attempt_id in forgotten(tx.state, name, held | frozenset(launches)):
        _end_forgotten(tx, name, attempt_id)


def is_ahead(state: ClusterState, hello: NodeConnected) -> bool:
    """Whether a node has seen what the database does not hold: the log cannot judge what it holds."""
    return hello.mark is not None and not state.history.knows(hello.mark, state.last_seq)


def never_granted(state: ClusterState, hello: NodeConnected) -> tuple[AttemptId, ...]:
    """The attempts that a node says it holds, and whose turn has not come by a log that it knows."""
    if not state.history.terms or state.history.accepts_loss or is_ahead(state, hello):
        return ()
    return tuple(each for each in hello.attempts if not _was_granted(state, each))


def _was_granted(state: ClusterState, attempt_id: AttemptId) -> bool:
    job = state.jobs.get(attempt_id.job_id)
    if job is None:
        return attempt_id.job_id < state.next_job_id
    return attempt_id.epoch < job.next_epoch


def forgotten(state: ClusterState, node: NodeName, known: frozenset[AttemptId]) -> tuple[AttemptId, ...]:
    """The attempts that run on a node by our books, and are none of those ``known`` there."""
    jobs = (state.jobs[job_id] for job_id in sorted(state.jobs_on.get(node, ())))
    return tuple(
        AttemptId(job.job_id, job.attempt.epoch)
        for job in jobs
        if job.attempt is not None and job.attempt_id not in known and node not in job.attempt.nodes_ended
    )


def _note_ahead(tx: Transaction, node: NodeName, held: frozenset[AttemptId], seen: Mark) -> None:
    """The node has seen what the database does not hold: tell, and start nothing again that it has."""
    unknown = tuple(sorted(each for each in held if _current(tx, node, each) is None))
    ahead = Ahead(unknown, max(tx.state.next_job_id, seen.unused_job_id))
    if tx.state.nodes[node].ahead != ahead:
        tx.record(NodeAhead(node=node, ahead=ahead))
    for attempt_id in unknown:
        job = tx.state.jobs.get(attempt_id.job_id)
        if job is not None and job.state is JobState.PENDING and _may_start(job):
            by = f"gpusched: attempt {attempt_id} ran on {node} before the database went back in time"
            tx.record(JobHeld(job_id=job.job_id, by=by))


def _may_start(job: Job) -> bool:
    return not job.is_held or job.held_until_us is not None


def _end_stray(tx: Transaction, node: NodeName, attempt_id: AttemptId) -> None:
    """The node holds an attempt that is over here: fence it."""
    tx.order(
        StopTasks(
            job_id=attempt_id.job_id,
            epoch=attempt_id.epoch,
            node=node,
            kill_wait_s=0,
            reason="this attempt is over",
        )
    )


def _end_forgotten(tx: Transaction, node: NodeName, attempt_id: AttemptId) -> None:
    """An attempt runs here by our books, was launched, and the agent no longer knows it."""
    why = f"{node} came back without any record of attempt {attempt_id}"
    _end_untold(tx, node, attempt_id, EndReason.NODE_FAIL, why)


def _end_untold(
    tx: Transaction, node: NodeName, attempt_id: AttemptId, cause: EndReason, detail: str
) -> None:
    """Note an end of which nobody will tell more than that it is one."""
    tx.record(
        TasksEnded(
            job_id=attempt_id.job_id,
            epoch=attempt_id.epoch,
            node=node,
            exits=(),
            cause=cause,
            detail=detail,
            use=NodeUse(wall_s=0.0),
        )
    )


def _refused(tx: Transaction, refused: CommandNotKnown) -> None:
    """Nobody will carry the order out: end what waits for it. A stop stays, for the agent that comes next."""
    node, command = refused.node, refused.queued.command
    match command:
        case LaunchTasks():
            attempt_id = AttemptId(command.job_id, command.epoch)
            if _current(tx, node, attempt_id) is not None:
                _end_untold(tx, node, attempt_id, EndReason.LAUNCH_FAILED, refused.why)
        case RepairNode():
            take_health(tx, node, RepairEnded(node=node, number=command.number, failures=(refused.why,)))
        case DumpStacks():
            pass
        case StopTasks():
            return
        case _:
            assert_never(command)
    tx.acknowledge(refused.queued.seq)


def _lease_ended(tx: Transaction, fact: LeaseEnded, launches: Mapping[AttemptId, int]) -> None:
    """Nothing that is fenced lives on the node any more: its attempts are over there."""
    for job_id in sorted(tx.state.jobs_on.get(fact.node, ())):
        job = tx.state.jobs[job_id]
        attempt_id = job.attempt_id
        if not job.spec.is_fenced or attempt_id is None or _current(tx, fact.node, attempt_id) is None:
            continue
        if attempt_id in launches:
            tx.acknowledge(launches[attempt_id])  # never to be sent: another attempt may run by then
        why = f"{fact.node} was silent for {fact.silent_s:.0f} s and its lease is over"
        _end_untold(tx, fact.node, attempt_id, EndReason.NODE_FAIL, why)
        _end_stray(tx, fact.node, attempt_id)


def _drain_now(tx: Transaction, name: NodeName) -> None:
    node = tx.state.nodes.get(name)
    if node is None or node.schedulability is not Schedulability.DRAINING:
        return
    for job_id in sorted(tx.state.jobs_on.get(name, ())):
        attempt = tx.state.jobs[job_id].attempt
        if attempt is not None and attempt.stop_reason is None:
            tx.record(
                AttemptStopping(
                    job_id=job_id,
                    epoch=attempt.epoch,
                    reason=EndReason.DRAINED,
                    detail=f"the drain deadline of {name} passed",
                    by=None,
                    exit_code=None,
                )
            )
