"""The output of a job: which attempt, which nodes, and when they can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from gpusched.api.agents import AgentApi
from gpusched.api.find import find_job
from gpusched.api.merge import merge
from gpusched.api.visibility import require_owner
from gpusched.api.watch import EventHub
from gpusched.domain.errors import NotFound, WrongState
from gpusched.domain.identity import Principal
from gpusched.domain.ids import Epoch, JobId, NodeName
from gpusched.domain.job import Attempt
from gpusched.domain.job_state import JobState
from gpusched.domain.logs import LogChunk, LogQuery
from gpusched.store.reader import Reader

FIRST_EPOCH = Epoch(1)


@dataclass(frozen=True, slots=True)
class JobOutput:
    """Streams what ranks wrote, from the nodes they ran on."""

    reader: Reader
    hub: EventHub
    agents: AgentApi

    async def stream(self, who: Principal, query: LogQuery, epoch: Epoch | None) -> AsyncIterator[LogChunk]:
        """The output of attempt ``epoch`` (None: the last), merged over its nodes.

        Raises:
            NotFound: No such job, attempt or rank.
            NotPermitted: The job is another user's.
            WrongState: It has not started, and ``query`` does not follow.
            NodeUnavailable: A node that holds output can't be reached.
        """
        job = await find_job(self.reader, query.job_id)
        require_owner(who, job)
        attempt = await self._attempt(query, epoch)
        if attempt is None:
            return
        _check_ranks(query.ranks, job.spec.world_size)
        query = replace(query, epoch=attempt.epoch)
        wanted = [
            node
            for node_rank, node in enumerate(attempt.node_names)
            if query.ranks is None or any(job.spec.node_of_rank(rank) == node_rank for rank in query.ranks)
        ]
        async for chunk in merge([self._of_node(node, query) for node in wanted]):
            yield chunk

    async def _attempt(self, query: LogQuery, epoch: Epoch | None) -> Attempt | None:
        """The attempt to show; with ``follow``, once there is one. None: it ended without any."""
        with self.hub.subscribe((query.job_id,)) as subscription:
            while True:
                subscription.wake.clear()
                job = await find_job(self.reader, query.job_id)
                if job.attempt is not None and epoch not in (None, job.attempt.epoch):
                    return await self._past_attempt(query.job_id, epoch)
                is_between = job.state is JobState.PENDING and epoch is None
                if job.attempt is not None and not (is_between and query.follow):
                    return job.attempt
                if job.state.is_terminal:
                    return None
                if not query.follow:
                    raise WrongState(
                        f"job {query.job_id} has not started, so it has no output yet: --follow waits for it"
                    )
                await subscription.wake.wait()

    async def _past_attempt(self, job_id: JobId, epoch: Epoch | None) -> Attempt:
        for span in await asyncio.to_thread(self.reader.attempts, job_id):
            if span.epoch == epoch:
                return Attempt(epoch=span.epoch, allocation=span.allocation)
        raise NotFound(f"job {job_id} had no attempt {epoch}: see `gpusched job show {job_id}`")

    async def _of_node(self, node: NodeName, query: LogQuery) -> AsyncIterator[LogChunk]:
        """One node's part, from when its agent has said anything of the attempt."""
        if await self._is_known_there(node, query):
            async for chunk in self.agents.read_logs(node, query):
                yield chunk

    async def _is_known_there(self, node: NodeName, query: LogQuery) -> bool:
        with self.hub.subscribe((query.job_id,)) as subscription:
            while True:
                subscription.wake.clear()
                job = await find_job(self.reader, query.job_id)
                attempt = job.attempt
                if attempt is None or attempt.epoch != query.epoch or job.state.is_terminal:
                    return True  # a past attempt: its node knows it, or says why not
                if node in attempt.nodes_started | attempt.nodes_ended:
                    return True
                if not query.follow:
                    return False
                await subscription.wake.wait()


def _check_ranks(ranks: tuple[int, ...] | None, world_size: int) -> None:
    if len(ranks or ()) > world_size:
        raise NotFound(f"{len(ranks or ())} ranks are asked for: the job has {world_size}")
    wrong = [rank for rank in ranks or () if not 0 <= rank < world_size]
    if wrong:
        raise NotFound(f"no rank {wrong[0]}: the job has ranks 0 to {world_size - 1}")
