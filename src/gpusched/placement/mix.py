"""What is usually asked for: the shapes of requests, and how often each comes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from gpusched.placement.request import NodeRequest


@dataclass(frozen=True, slots=True)
class RequestMix:
    """Shapes of requests and how often each comes; without any, nothing is known yet.

    Attributes:
        shapes: Distinct shapes (``shape_of``), most frequent first.
        shares: Their frequencies, which sum to 1.
    """

    shapes: tuple[NodeRequest, ...] = ()
    shares: tuple[float, ...] = ()

    @classmethod
    def of(cls, counts: Mapping[NodeRequest, int], *, cover: float = 0.95) -> RequestMix:
        """Keep the most frequent shapes until they are ``cover`` of all; of equal ones the first counted.

        The default is that of Weng et al. (USENIX ATC 2023): what comes once a month is no reason to
        keep room free.
        """
        total, seen = sum(counts.values()), 0
        kept: list[tuple[NodeRequest, int]] = []
        for shape, count in Counter(counts).most_common():
            if seen >= cover * total:
                break
            kept.append((shape, count))
            seen += count
        # Divided twice, as the study's program divides: its scores are truncated, and a last bit flips them.
        return cls(
            tuple(shape for shape, _ in kept), tuple(count / total / (seen / total) for _, count in kept)
        )

    @property
    def wants_gpus(self) -> bool:
        """Whether it says anything about what free GPUs are worth."""
        return any(shape.gpus for shape in self.shapes)


NOTHING_KNOWN = RequestMix()


@lru_cache(maxsize=4096)
def shape_of(request: NodeRequest) -> NodeRequest:
    """Leave out what says nothing about the use of a free GPU: memory, counters, and where a job may be."""
    return replace(request, memory_bytes=0, counters=(), partition=None, nodelist=(), exclude=(), island=None)
