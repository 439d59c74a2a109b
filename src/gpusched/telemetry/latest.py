"""The newest samples of every node, in memory."""

from __future__ import annotations

from collections import deque

from gpusched.domain.ids import NodeName
from gpusched.domain.telemetry import NodeSample


class Latest:
    """A ring of samples per node: old ones fall out, nothing is written anywhere."""

    def __init__(self, samples_max: int = 60) -> None:
        self._samples_max = samples_max
        self._rings: dict[NodeName, deque[NodeSample]] = {}

    def put(self, sample: NodeSample) -> None:
        """Add a node's newest sample."""
        ring = self._rings.get(sample.node)
        if ring is None:
            ring = self._rings[sample.node] = deque(maxlen=self._samples_max)
        ring.append(sample)

    def newest(self, node: NodeName) -> NodeSample | None:
        """The last sample of a node; None if it never sent one."""
        ring = self._rings.get(node)
        return ring[-1] if ring else None

    def history(self, node: NodeName) -> tuple[NodeSample, ...]:
        """All samples held of a node, oldest first."""
        return tuple(self._rings.get(node, ()))
