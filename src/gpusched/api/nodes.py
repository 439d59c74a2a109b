"""Nodes, for callers."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from gpusched.api.jobs import check_request_id
from gpusched.domain.errors import InvalidSpec, NotFound, Violation
from gpusched.domain.events import Recorded
from gpusched.domain.identity import Principal
from gpusched.domain.ids import NodeName, RequestId
from gpusched.domain.node import Node
from gpusched.domain.topology import Topology
from gpusched.engine.inputs import CordonNode, DrainNode, ResetBreaker, ResumeNode
from gpusched.engine.loop import Loop
from gpusched.engine.state import ClusterState
from gpusched.store.reader import Reader
from gpusched.telemetry.latest import Latest
from gpusched.wire.handlers import NodeView

REASON_MAX = 200
EVENTS_MAX = 10_000
DEADLINE_MAX_S = 30 * 86_400


@dataclass(frozen=True, slots=True)
class NodeApi:
    """``NodeHandlers``: nodes are few and in memory, so reads are of immutable values there."""

    loop: Loop
    latest: Latest
    reader: Reader

    async def list(self, who: Principal) -> tuple[NodeView, ...]:
        """All nodes, by name."""
        state = self.loop.engine.state
        return tuple(self._view(state, node) for _, node in sorted(state.nodes.items()))

    async def get(self, who: Principal, node: NodeName) -> NodeView:
        """One node."""
        state = self.loop.engine.state
        if node not in state.nodes:
            raise NotFound(f"no node {node!r}: see `gpusched nodes`")
        return self._view(state, state.nodes[node])

    async def fabric(self, who: Principal) -> Topology:
        """How the nodes that are known hang together."""
        engine = self.loop.engine
        return engine.settings.topology.place(
            {name: dict(node.facts.labels) for name, node in engine.state.nodes.items()}
        )

    async def cordon(self, who: Principal, request_id: RequestId, node: NodeName, reason: str) -> None:
        """No new work; running work stays."""
        await self.loop.ask(
            CordonNode(
                who=who,
                request_id=check_request_id(request_id),
                node=node,
                reason=_check_reason(reason),
            )
        )

    async def drain(
        self,
        who: Principal,
        request_id: RequestId,
        node: NodeName,
        reason: str,
        deadline_s: int | None,
    ) -> None:
        """Cordon, wait, and at the deadline end what remains."""
        if deadline_s is not None and not 0 <= deadline_s <= DEADLINE_MAX_S:
            raise InvalidSpec(
                (Violation("deadline_s", f"{deadline_s}: give 0 to {DEADLINE_MAX_S} s, or none"),)
            )
        await self.loop.ask(
            DrainNode(
                who=who,
                request_id=check_request_id(request_id),
                node=node,
                reason=_check_reason(reason),
                deadline_s=deadline_s,
            )
        )

    async def resume(self, who: Principal, request_id: RequestId, node: NodeName) -> None:
        """Open for work again."""
        await self.loop.ask(ResumeNode(who=who, request_id=check_request_id(request_id), node=node))

    async def reset_breaker(self, who: Principal, request_id: RequestId) -> None:
        """Let policy take nodes out of service again."""
        await self.loop.ask(ResetBreaker(who=who, request_id=check_request_id(request_id)))

    async def events(self, who: Principal, node: NodeName, limit: int) -> tuple[Recorded, ...]:
        """The last events of a node, oldest first."""
        if not 1 <= limit <= EVENTS_MAX:
            raise InvalidSpec((Violation("limit", f"{limit}: give 1 to {EVENTS_MAX}"),))
        if node not in self.loop.engine.state.nodes:
            raise NotFound(f"no node {node!r}: see `gpusched nodes`")
        return await asyncio.to_thread(self.reader.last_node_events, node, limit)

    def _view(self, state: ClusterState, node: Node) -> NodeView:
        job_ids = tuple(sorted(state.jobs_on.get(node.name, ())))
        parts = [part for job_id in job_ids for part in state.running[job_id].nodes if part.node == node.name]
        return NodeView(
            node=node,
            sample=self.latest.newest(node.name),
            jobs=job_ids,
            gpus_allocated=len({uuid for part in parts for uuid in part.devices}),
            gpu_milli_allocated=sum(len(part.devices) * part.gpu_milli for part in parts),
            cpus_allocated=sum(len(part.cpu_ids) for part in parts),
            memory_allocated_bytes=sum(part.memory_bytes for part in parts),
            is_suspended=state.is_suspended,
        )


def _check_reason(reason: str) -> str:
    if not (0 < len(reason) <= REASON_MAX and reason.isprintable()):
        raise InvalidSpec((Violation("reason", f"say why in 1 to {REASON_MAX} printable characters"),))
    return reason
