"""Faults planted in the product, one at a time: the simulation must notice each of them.

A mutation is a context manager that breaks one rule while it is open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from simulation.disk import ModelStore
from simulation.lead import Held
from simulation.machine import Machine

from gpusched.agent.attempt_dir import read_order
from gpusched.agent.facts_of_attempt import tasks_ended
from gpusched.agent.fence import Fence
from gpusched.agent.follow import Follower
from gpusched.agent.runner import Runner
from gpusched.agent.session import Session
from gpusched.agent.shim import lease
from gpusched.agent.shim.lease import Lease
from gpusched.agent.shim.record import Phase, Record, RecordFile
from gpusched.api.agents import AgentApi
from gpusched.domain.events import TasksEnded
from gpusched.domain.ids import AttemptId, Epoch, JobId
from gpusched.domain.job import Job
from gpusched.domain.job_state import EndReason
from gpusched.domain.link import CommandTaken, ReportTaken
from gpusched.domain.telemetry import NodeUse
from gpusched.engine import core, facts, lifecycle, liveness
from gpusched.engine.core import Engine
from gpusched.engine.inputs import NodeSilent, Reported
from gpusched.engine.loop import Loop


@contextmanager
def planted(owner: Any, name: str, wrong: object) -> Iterator[None]:
    """Put ``wrong`` in the place of ``owner.name``."""
    right = getattr(owner, name)
    setattr(owner, name, wrong)
    try:
        yield
    finally:
        setattr(owner, name, right)


def answer_before_commit() -> AbstractContextManager[None]:
    """The loop answers a request, then writes it."""
    right = Loop._step

    async def step(self: Any, asked: Any, told: Any) -> None:
        async def commit(tick: Any) -> None:
            for entry, answer in zip(asked, tick.answers, strict=True):
                if isinstance(answer, tuple) and not entry.answer.done():
                    entry.answer.set_result(answer)
            del self._commit
            await self._commit(tick)

        self._commit = commit
        await right(self, asked, told)

    return planted(Loop, "_step", step)


def take_reports_before_commit() -> AbstractContextManager[None]:
    """The head tells an agent to forget a fact that it has not written."""
    right = AgentApi._take

    def take(self: Any, node: Any, message: Any, channel: Any) -> None:
        if hasattr(message, "report_id"):
            channel.outgoing.put_nowait(ReportTaken(message.report_id))
        right(self, node, message, channel)

    return planted(AgentApi, "_take", take)


def forget_to_resend() -> AbstractContextManager[None]:
    """Commands that a node has not taken are not sent again when it connects."""
    return planted(Loop, "resend", lambda self, node: None)


def forget_requests() -> AbstractContextManager[None]:
    """A repeated request is taken for a new one."""
    right = ModelStore.commit

    def commit(self: Any, batch: Any) -> None:
        right(self, replace(batch, requests=()))

    return planted(ModelStore, "commit", commit)


def reuse_job_ids() -> AbstractContextManager[None]:
    """A restarted head counts on from the newest job that is not finished."""
    right = ModelStore.load

    def load(self: Any) -> Any:
        loaded = right(self)
        self.next_job_id = JobId(max((job.job_id for job in loaded.jobs), default=0) + 1)
        return replace(loaded, next_job_id=self.next_job_id)

    return planted(ModelStore, "load", load)


def give_up_silent_nodes() -> AbstractContextManager[None]:
    """A silent node counts as empty, and its jobs go elsewhere while they run on there."""
    right = facts.take

    def take(tx: Any, fact: Any, unacknowledged: Any) -> None:
        right(tx, fact, unacknowledged)
        if isinstance(fact, NodeSilent):
            for job_id in sorted(tx.state.jobs_on.get(fact.node, ())):
                epoch = tx.state.jobs[job_id].attempt.epoch
                ended = TasksEnded(
                    job_id=job_id,
                    epoch=epoch,
                    node=fact.node,
                    exits=(),
                    cause=EndReason.NODE_FAIL,
                    detail="silent",
                    use=NodeUse(wall_s=0.0),
                )
                right(tx, Reported(fact.node, ended), unacknowledged)

    return planted(core, "take", take)


def ignore_epochs_on_the_head() -> AbstractContextManager[None]:
    """A report counts for the job's present attempt, whichever it was about."""
    right = facts._current

    def current(tx: Any, node: Any, attempt_id: Any) -> Any:
        job = tx.state.jobs.get(attempt_id.job_id)
        if job is None or job.attempt is None:
            return None
        return right(tx, node, AttemptId(attempt_id.job_id, job.attempt.epoch))

    return planted(facts, "_current", current)


def requeue_everything() -> AbstractContextManager[None]:
    """Every job lost with its node runs again, whether it may or not."""
    right = lifecycle._after_attempt

    def after(job: Any, event: Any) -> Any:
        return right(replace(job, spec=replace(job.spec, requeue=True)), event)

    return planted(lifecycle, "_after_attempt", after)


def acknowledge_before_durable() -> AbstractContextManager[None]:
    """The agent takes a command before it has written it down."""
    right = Session._carry_out

    async def carry_out(self: Any, queued: Any) -> None:
        await self._link.send(CommandTaken(queued.seq))
        await right(self, queued)

    return planted(Session, "_carry_out", carry_out)


def lose_tombstones() -> AbstractContextManager[None]:
    """A stop for an attempt that never came leaves nothing behind: the launch may still come."""

    async def refuse(self: Any, held: Any, _cause: object, detail: str) -> None:
        over = Record(phase=Phase.ENDED, boot_id=self._boot_id, detail=detail)
        self.attempts.let_go(held)
        self.reports.put_nowait(tasks_ended(held.attempt_id, self._node, over, ()))

    return planted(Runner, "_refuse_for_good", refuse)


def forget_removed_epochs() -> AbstractContextManager[None]:
    """The fence forgets an attempt with its folder."""
    return planted(Fence, "highest", lambda self, job_id: Epoch(0))


def claim_twice() -> AbstractContextManager[None]:
    """A second shim of the same attempt is let through."""

    def claim(self: Any, record: Any) -> bool:
        self.save(record)
        return True

    return planted(RecordFile, "claim", claim)


def forget_old_launches() -> AbstractContextManager[None]:
    """An agent that comes back starts what it was ordered before a reboot."""
    right = Follower.adopt

    async def adopt(self: Any, held: Any) -> None:
        boot_id = self._boot_id
        order = read_order(held.files)
        if order is not None and order.boot_id != self._boot_id:
            held.files.record.unlink(missing_ok=True)
            self._boot_id = order.boot_id
        try:
            await right(self, held)
        finally:
            self._boot_id = boot_id

    return planted(Follower, "adopt", adopt)


def leave_orphans() -> AbstractContextManager[None]:
    """When a shim dies, what it started is left running."""
    return planted(Machine, "kill_marked", lambda self, token: False)


def drop_the_outbox() -> AbstractContextManager[None]:
    """A restarted head does not know what it had ordered."""
    right = Engine.__init__

    def init(self: Any, loaded: Any, settings: Any) -> None:
        right(self, replace(loaded, outbox=()), settings)

    return planted(Engine, "__init__", init)


def replace_too_early() -> AbstractContextManager[None]:
    """The head takes a node for silent, and its lease for over, after half of it."""
    right = liveness.Liveness.__init__

    def init(self: Any, silence_max_us: int, started_us: int) -> None:
        right(self, silence_max_us // 2, started_us)
        self._lease_over_us = 0

    return planted(liveness.Liveness, "__init__", init)


def skip_the_grace() -> AbstractContextManager[None]:
    """The head allows no time for killing."""
    return planted(liveness, "KILL_GRACE_US", 0)


def grant_without_the_lead() -> AbstractContextManager[None]:
    """A head answers heartbeats whether it leads or not."""
    return planted(Held, "may_grant", lambda self: True)


def count_leases_from_their_coming() -> AbstractContextManager[None]:
    """A lease runs from when its grant was heard of, not from when it was asked for."""
    right = Lease.renew

    def renew(self: Any, deadline_us: int) -> None:
        right(self, max(deadline_us, lease.boot_time_us() + 15_000_000))

    return planted(Lease, "renew", renew)


def number_attempts_anew() -> AbstractContextManager[None]:
    """A job that was requeued runs under the number that it had."""
    return planted(Job, "next_epoch", property(lambda self: self.attempt.epoch if self.attempt else Epoch(1)))


def leave_strays() -> AbstractContextManager[None]:
    """A node that comes back with what the head gave up may keep it."""
    return planted(facts, "_end_stray", lambda tx, node, attempt_id: None)


def launch_without_a_lease() -> AbstractContextManager[None]:
    """What may be replaced is started as if it never were."""
    return planted(Runner, "_lease_for", lambda self, launch: None)


def keep_withdrawn_launches() -> AbstractContextManager[None]:
    """A launch that waits for a node whose lease is over goes out when the node is back."""
    right = facts._lease_ended
    return planted(facts, "_lease_ended", lambda tx, fact, launches: right(tx, fact, {}))


def write_without_the_lead() -> AbstractContextManager[None]:
    """A head that was deposed goes on writing."""
    return planted(Held, "require", lambda self: None)


def _named(*mutations: Callable[[], AbstractContextManager[None]]) -> dict[str, Any]:
    return {mutation.__name__: mutation for mutation in mutations}


MUTATIONS: dict[str, Callable[[], AbstractContextManager[None]]] = _named(
    answer_before_commit,
    take_reports_before_commit,
    forget_to_resend,
    forget_requests,
    reuse_job_ids,
    give_up_silent_nodes,
    ignore_epochs_on_the_head,
    requeue_everything,
    acknowledge_before_durable,
    lose_tombstones,
    forget_removed_epochs,
    claim_twice,
    forget_old_launches,
    leave_orphans,
    drop_the_outbox,
    replace_too_early,
    skip_the_grace,
    grant_without_the_lead,
    count_leases_from_their_coming,
    number_attempts_anew,
    leave_strays,
    launch_without_a_lease,
    keep_withdrawn_launches,
    write_without_the_lead,
)
