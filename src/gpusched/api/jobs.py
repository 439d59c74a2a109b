"""Jobs, for callers: mutations go through the engine's loop, reads to the store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from gpusched.api.defrag import plan_defrag
from gpusched.api.find import find_job
from gpusched.api.output import FIRST_EPOCH, JobOutput
from gpusched.api.relaxations import ASKING_LESS_HELPS, relaxations_of
from gpusched.api.reports import job_cost
from gpusched.api.ring import ring_of
from gpusched.api.visibility import event_seen_by, owns, seen_by
from gpusched.api.watch import EventHub
from gpusched.domain.check_spec import require_valid
from gpusched.domain.defrag import DefragPlan
from gpusched.domain.diagnosis import Diagnosis
from gpusched.domain.errors import InsufficientResources, InvalidSpec, Violation
from gpusched.domain.events import JobEnded, JobEvent, Recorded
from gpusched.domain.identity import Identity, Principal, Role
from gpusched.domain.ids import AttemptId, Epoch, JobId, RequestId
from gpusched.domain.job import Job, JobFilter
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import JobState, PendingReason
from gpusched.domain.logs import LogChunk, LogPosition, LogQuery, LogSource
from gpusched.domain.node import WHOLE_MILLI
from gpusched.domain.usage import RateBook
from gpusched.engine.accounting import price_per_hour
from gpusched.engine.commit import grant
from gpusched.engine.inputs import CancelJob, HoldJob, ReleaseJob, RequeueJob, Submit
from gpusched.engine.loop import Loop
from gpusched.engine.state import ClusterState
from gpusched.launch.plan import make_launch_plan
from gpusched.placement.diagnose import check_feasible, diagnose
from gpusched.placement.gang import place
from gpusched.policy.retry import retry_spec
from gpusched.store.reader import Reader
from gpusched.wire.handlers import JobView, Page, PlanPreview

PAGE_DEFAULT = 100
PAGE_MAX = 1_000
BATCH_MAX = 10_000
REQUEST_ID_MAX = 64
EVENTS_PER_READ = 500


@dataclass(frozen=True, slots=True)
class JobApi:
    """``JobHandlers``: mutations to the loop, reads from the reader, output from the nodes."""

    loop: Loop
    reader: Reader
    hub: EventHub
    output: JobOutput
    rates: RateBook

    async def submit(
        self, who: Principal, request_id: RequestId, specs: Sequence[JobSpec]
    ) -> tuple[JobId, ...]:
        """Accept all or none; returns when they are durable."""
        if not 1 <= len(specs) <= BATCH_MAX:
            raise InvalidSpec(
                (Violation("specs", f"{len(specs)} jobs in one request: send 1 to {BATCH_MAX}"),)
            )
        return await self.loop.ask(
            Submit(who=who, request_id=check_request_id(request_id), specs=tuple(specs))
        )

    async def cancel(self, who: Principal, request_id: RequestId, job_id: JobId) -> None:
        """End a job wherever it is."""
        await self.loop.ask(CancelJob(who=who, request_id=check_request_id(request_id), job_id=job_id))

    async def hold(self, who: Principal, request_id: RequestId, job_id: JobId) -> None:
        """Keep a pending job from starting."""
        await self.loop.ask(HoldJob(who=who, request_id=check_request_id(request_id), job_id=job_id))

    async def release(self, who: Principal, request_id: RequestId, job_id: JobId) -> None:
        """Lift a hold."""
        await self.loop.ask(ReleaseJob(who=who, request_id=check_request_id(request_id), job_id=job_id))

    async def requeue(self, who: Principal, request_id: RequestId, job_id: JobId, *, hold: bool) -> None:
        """End the attempt and queue the job again."""
        request_id = check_request_id(request_id)
        await self.loop.ask(RequeueJob(who=who, request_id=request_id, job_id=job_id, hold=hold))

    async def plan(self, who: Principal, spec: JobSpec) -> PlanPreview:
        """What a submission would get now: the real placement on a copy of the cluster."""
        state, now_us = self.loop.engine.state, self.loop.clock.now_us()
        require_valid(spec, state.partitions)
        snapshot, allowed = state.snapshot.copy(), state.partitions.open_to(spec, restarts=0)
        check_feasible(snapshot, allowed)
        diagnosis = replace(diagnose(snapshot, allowed), jobs_ahead=len(state.queue))
        try:
            placement = place(snapshot, allowed)
        except InsufficientResources:
            less = await relaxations_of(self.loop.engine, state.next_job_id, spec, now_us)
            diagnosis = replace(diagnosis, relaxations=less)
            return PlanPreview(diagnosis=diagnosis, plan=None, price_per_hour=None, currency=None)
        allocation = grant(state, AttemptId(state.next_job_id, FIRST_EPOCH), placement, now_us)
        plan = make_launch_plan(
            state.next_job_id,
            FIRST_EPOCH,
            spec,
            who.identity,
            allocation,
            cluster=self.loop.engine.settings.cluster,
        )
        devices = [device for part in allocation.nodes for device in part.devices]
        price = price_per_hour(devices, self.rates, now_us)
        return PlanPreview(
            diagnosis=diagnosis,
            plan=plan,
            price_per_hour=str(price),
            currency=self.rates.currency,
            ring=ring_of(state.snapshot, [part.node for part in placement.nodes]),
        )

    async def get(self, who: Principal, job_id: JobId) -> JobView:
        """One job with all that is derived from it."""
        job = await find_job(self.reader, job_id)
        view = self._view(who, job)
        if job.attempt is None:
            return view
        attempt = job.attempt
        spans = await asyncio.to_thread(self.reader.attempts, job_id)
        uses = next((span.uses for span in spans if span.epoch == attempt.epoch), ())
        now_us = self.loop.clock.now_us()
        cost = await asyncio.to_thread(job_cost, self.reader, self.rates, spans, now_us)
        plan = make_launch_plan(
            job.job_id,
            attempt.epoch,
            job.spec,
            job.owner,
            attempt.allocation,
            cluster=self.loop.engine.settings.cluster,
        )
        return replace(
            view,
            uses=uses,
            cost=str(cost),
            currency=self.rates.currency,
            plan=plan if owns(who, job.owner) else None,
            ring=ring_of(self.loop.engine.state.snapshot, attempt.node_names),
        )

    async def list(self, who: Principal, where: JobFilter, page_size: int, page_token: str | None) -> Page:
        """Jobs, newest first. The token is the last id of the page before."""
        size = PAGE_DEFAULT if page_size == 0 else page_size
        if not 1 <= size <= PAGE_MAX:
            raise InvalidSpec((Violation("page_size", f"{page_size}: ask for 1 to {PAGE_MAX}"),))
        _check_filter(where)
        before = None if page_token is None else _parse_token(page_token)
        jobs = await asyncio.to_thread(self.reader.jobs, where, size, before)
        token = str(jobs[-1].job_id) if len(jobs) == size else None
        return Page(tuple(self._view(who, job) for job in jobs), token)

    async def explain(self, who: Principal, job_id: JobId) -> Diagnosis:
        """Why a job waits; for one that doesn't, where it is."""
        job = seen_by(who, await find_job(self.reader, job_id))
        state = self.loop.engine.state
        allowed = state.partitions.open_to(job.spec, job.restarts)
        diagnosis = diagnose(state.snapshot, retry_spec(state.snapshot, allowed, job.failed_on))
        if job.state is not JobState.PENDING:
            ended = f": {job.end_detail or job.end_reason}" if job.end_reason is not None else ""
            return replace(
                diagnosis, reason=None, message=f"job {job_id} is {job.state}{_noticed(job)}{ended}"
            )
        reason = self._pending_reason(job)
        message = diagnosis.message
        if reason is PendingReason.SUSPENDED:
            message = f"nothing is started: the database went back in time, see `gpusched nodes`. {message}"
        elif job.is_held and job.held_until_us is not None:
            wait_s = max(0, job.held_until_us - self.loop.clock.now_us()) // 1_000_000
            message = (
                f"it failed again and is queued in {wait_s} s, for restart {job.restarts} of "
                f"{job.spec.restart_limit}: `gpusched job release {job_id}` does not wait. {message}"
            )
        elif job.is_held:
            message = f"held: `gpusched job release {job_id}` lets it go. {message}"
        elif reason is PendingReason.PRIORITY:
            message = f"{self.loop.engine.ahead_of(job_id)} jobs go before it. {message}"
        elif reason is PendingReason.QUOTA:
            message = _quota_in_words(state, job.spec)
        diagnosis = replace(
            diagnosis,
            message=message,
            reason=reason,
            jobs_ahead=self.loop.engine.ahead_of(job_id),
            forecast_start_us=self.loop.engine.outlook.forecasts.get(job_id),
        )
        if reason not in ASKING_LESS_HELPS:
            return diagnosis
        less = await relaxations_of(self.loop.engine, job_id, job.spec, self.loop.clock.now_us())
        return replace(diagnosis, relaxations=less)

    async def plan_defrag(self, who: Principal, gang: JobId | JobSpec) -> DefragPlan:
        """Which of the jobs that ``who`` may end would have to move so that a gang fits."""
        return await plan_defrag(self.loop.engine, who, gang, self.loop.clock.now_us())

    async def watch(
        self, who: Principal, job_ids: Sequence[JobId], after_seq: int
    ) -> AsyncIterator[Recorded]:
        """Events after ``after_seq``, old ones first; ends when every named job has ended."""
        open_jobs, owners = set(), {}
        if len(job_ids) > BATCH_MAX:
            raise InvalidSpec(
                (Violation("job_ids", f"{len(job_ids)} jobs: name at most {BATCH_MAX}, or none"),)
            )
        for job_id in job_ids:
            job = await find_job(self.reader, job_id)
            owners[job_id] = job.owner
            if not job.state.is_terminal:
                open_jobs.add(job_id)
        with self.hub.subscribe(job_ids) as subscription:
            while True:
                subscription.wake.clear()
                events = await asyncio.to_thread(
                    self.reader.events, after_seq, tuple(job_ids) or None, limit=EVENTS_PER_READ
                )
                for recorded in events:
                    after_seq = recorded.seq
                    if isinstance(recorded.event, JobEnded):
                        open_jobs.discard(recorded.event.job_id)
                    yield await self._event_for(who, recorded, owners)
                if len(events) == EVENTS_PER_READ:
                    continue
                if job_ids and not open_jobs:
                    return
                await subscription.wake.wait()

    async def _event_for(self, who: Principal, recorded: Recorded, owners: dict[JobId, Identity]) -> Recorded:
        if Role.OPERATOR in who.roles or not isinstance(recorded.event, JobEvent):
            return recorded
        job_id = recorded.event.job_id
        if job_id not in owners:
            owners[job_id] = (await find_job(self.reader, job_id)).owner
        return event_seen_by(who, recorded, owners[job_id])

    def logs(
        self,
        who: Principal,
        job_id: JobId,
        *,
        epoch: Epoch | None,
        ranks: tuple[int, ...] | None,
        since_us: int | None,
        tail_lines: int | None,
        follow: bool,
        source: LogSource | None,
        positions: tuple[LogPosition, ...],
    ) -> AsyncIterator[LogChunk]:
        """What is kept of one attempt, merged over its nodes. With ``follow`` a pending job is waited for."""
        query = LogQuery(
            job_id=job_id,
            epoch=FIRST_EPOCH if epoch is None else epoch,
            ranks=ranks,
            since_us=since_us,
            tail_lines=tail_lines,
            follow=follow,
            source=source,
            positions=positions,
        )
        return self.output.stream(who, query, epoch)

    def _view(self, who: Principal, job: Job) -> JobView:
        return JobView(job=seen_by(who, job), pending_reason=self._pending_reason(job))

    def _pending_reason(self, job: Job) -> PendingReason | None:
        if job.state is not JobState.PENDING:
            return None
        if job.is_held:
            return PendingReason.HELD if job.held_until_us is None else PendingReason.RESTART_DELAY
        engine = self.loop.engine
        if engine.state.is_suspended:
            return PendingReason.SUSPENDED
        is_next = engine.ahead_of(job.job_id) == 0  # and no cycle has looked at it yet, perhaps
        unseen = PendingReason.RESOURCES if is_next else PendingReason.PRIORITY
        return engine.outlook.reasons.get(job.job_id, unseen)


def _noticed(job: Job) -> str:
    """That a job that runs hangs or is slow, if it is."""
    if job.attempt is None or job.state.is_terminal:
        return ""
    found = (("stalled", job.attempt.stall), ("slow", job.attempt.slowness))
    return "".join(f" and {word}: {what.evidence}" for word, what in found if what is not None)


def _quota_in_words(state: ClusterState, spec: JobSpec) -> str:
    held, most = state.gpus_held_by(spec.account), state.quotas.gpus_max[spec.account]
    wanted = spec.gpu_milli_total / WHOLE_MILLI
    words = f"account {spec.account} holds {held:g} of its {most} GPUs; this job wants {wanted:g}"
    return f"{words}, after others of its account." if held + wanted <= most else f"{words}."


def check_request_id(request_id: RequestId) -> RequestId:
    """Refuse a request id that cannot name a request.

    Raises:
        InvalidSpec: Empty, too long, or not printable ASCII.
    """
    if not (0 < len(request_id) <= REQUEST_ID_MAX and request_id.isascii() and request_id.isprintable()):
        raise InvalidSpec(
            (
                Violation(
                    "request_id",
                    f"send 1 to {REQUEST_ID_MAX} printable ASCII characters, the same for every retry",
                ),
            )
        )
    return request_id


def _check_filter(where: JobFilter) -> None:
    """Refuse what no job can have and not every database can be asked for."""
    for field in ("user", "account", "partition", "name", "node"):
        if "\0" in (getattr(where, field) or ""):
            raise InvalidSpec((Violation(field, "holds a NUL character: remove it"),))


def _parse_token(token: str) -> JobId:
    if not (token.isascii() and token.isdigit() and len(token) < 19):
        raise InvalidSpec((Violation("page_token", "not a token that ListJobs returned"),))
    return JobId(int(token))
