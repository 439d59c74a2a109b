"""The tokens of running ranks: each is good for its own job, and only while its attempt lasts there."""

from __future__ import annotations

from dataclasses import replace

from gpusched.api.auth import TokenAuthority
from gpusched.domain import link
from gpusched.domain.errors import Unauthenticated
from gpusched.domain.identity import Principal, RankRef
from gpusched.domain.ids import AttemptId, NodeName
from gpusched.domain.job_state import JobState
from gpusched.engine.loop import Loop

HOLDS_RANKS = frozenset({JobState.CONFIGURING, JobState.RUNNING, JobState.COMPLETING})


class RankTokens:
    """Verifies every token, and a rank's against what runs now.

    Args:
        authority: Verifies signatures and ends.
        loop: Knows which attempt of a job is where.
    """

    def __init__(self, authority: TokenAuthority, loop: Loop) -> None:
        self._authority, self._loop = authority, loop

    def authenticate(self, token: str) -> Principal:
        """Verify a token.

        Raises:
            Unauthenticated: As ``TokenAuthority.authenticate``, or the rank's attempt is over on its node.
        """
        who = self._authority.authenticate(token)
        if who.rank is not None and not self._lives(who.rank):
            raise Unauthenticated(
                f"attempt {who.rank.job_id}.{who.rank.epoch} has ended on node {who.rank.node}, "
                "and its tokens with it"
            )
        return who

    def issue(self, node: NodeName, attempt_id: AttemptId) -> link.RankTokens | None:
        """The tokens of the attempt's ranks on ``node``; None if it does not live there."""
        job = self._loop.engine.state.jobs.get(attempt_id.job_id)
        first = RankRef(attempt_id.job_id, attempt_id.epoch, node, 0)
        if job is None or job.attempt is None or not self._lives(first):
            return None
        begin = job.attempt.node_names.index(node) * job.spec.tasks_per_node
        tokens = tuple(
            link.RankToken(
                rank, self._authority.issue_for_rank(job.owner, replace(first, global_rank=rank)).token
            )
            for rank in range(begin, begin + job.spec.tasks_per_node)
        )
        return link.RankTokens(job.job_id, attempt_id.epoch, tokens, job.owner)

    def _lives(self, rank: RankRef) -> bool:
        job = self._loop.engine.state.jobs.get(rank.job_id)
        if job is None or job.attempt is None or job.state not in HOLDS_RANKS:
            return False
        attempt = job.attempt
        return (
            attempt.epoch == rank.epoch
            and rank.node in attempt.node_names
            and rank.node not in attempt.nodes_ended
        )
