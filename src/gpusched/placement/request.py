"""What a job asks of each node of its gang: the part of a JobSpec that placement reads."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache

from gpusched.domain.ids import NodeName
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import WHOLE_MILLI

_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRequest:
    """What one node must give. Hashable: jobs with equal requests fit the same nodes."""

    gpus: int
    gpu_milli: int = WHOLE_MILLI  # of each GPU, in thousandths
    cpus: int
    memory_bytes: int
    gpu_model: str | None
    gpu_memory_bytes: int | None
    partition: str | None
    nodelist: tuple[NodeName, ...]
    exclude: tuple[NodeName, ...]

    @property
    def is_part(self) -> bool:
        """Whether it wants a part of one GPU."""
        return self.gpus > 0 and self.gpu_milli < WHOLE_MILLI


def node_request(spec: JobSpec) -> NodeRequest:
    """Reduce a spec to what each of its ``spec.nodes`` nodes must give."""
    return NodeRequest(
        gpus=spec.gpus_per_node,
        cpus=spec.cpus_per_node,
        memory_bytes=spec.memory_bytes,
        gpu_model=spec.gpu_model,
        gpu_memory_bytes=spec.gpu_memory_bytes,
        partition=spec.partition,
        nodelist=spec.nodelist,
        exclude=spec.exclude,
    )


def whereabouts(request: NodeRequest) -> NodeRequest:
    """Leave out how much a request asks for: what is left says only on which nodes it may be."""
    return replace(request, gpus=0, cpus=0, memory_bytes=0)


@lru_cache(maxsize=4096)
def is_model_match(wanted: str, model: str) -> bool:
    """Tell whether every word of ``wanted`` is a word of ``model``, whatever the case.

    "H100" fits "NVIDIA H100 80GB HBM3"; "A10" does not fit "NVIDIA A100-SXM4-80GB".
    """
    return set(_WORD.findall(wanted.lower())) <= set(_WORD.findall(model.lower()))
