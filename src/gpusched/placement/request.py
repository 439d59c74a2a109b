"""What a job asks of each node of its gang: the part of a JobSpec that placement reads."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from gpusched.domain.ids import NodeName
from gpusched.domain.inside import INSIDE_LEVELS, InsideLevel
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import WHOLE_MILLI
from gpusched.placement.placement import Counts

DISK = "fs/disk"
GRES_PREFIX = "gres/"

_WORD = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class Island:
    """Devices that stay together inside a node: each ``gpus`` of them share what ``level`` says."""

    level: InsideLevel
    gpus: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRequest:
    """What one node must give. Hashable: jobs with equal requests fit the same nodes."""

    gpus: int
    gpu_milli: int = WHOLE_MILLI  # of each GPU, in thousandths
    cpus: int
    memory_bytes: int
    gpu_model: str | None
    gpu_memory_bytes: int | None
    mig_profile: str | None = None
    counters: Counts = ()  # by name, see ``counters_of``
    partition: str | None
    nodelist: tuple[NodeName, ...]
    exclude: tuple[NodeName, ...]
    island: Island | None = None

    @property
    def is_part(self) -> bool:
        """Whether it wants a part of one GPU."""
        return self.gpus > 0 and self.gpu_milli < WHOLE_MILLI

    @property
    def total_milli(self) -> int:
        """Thousandths of devices that it holds on a node."""
        return self.gpus * self.gpu_milli


def node_request(spec: JobSpec) -> NodeRequest:
    """Reduce a spec to what each of its ``spec.nodes`` nodes must give."""
    return NodeRequest(
        gpus=spec.gpus_per_node,
        cpus=spec.cpus_per_node,
        memory_bytes=spec.memory_bytes,
        gpu_model=spec.gpu_model,
        gpu_memory_bytes=spec.gpu_memory_bytes,
        gpu_milli=spec.gpu_milli,
        mig_profile=spec.mig_profile,
        counters=counters_of(spec.disk_bytes, spec.gres),
        partition=spec.partition,
        nodelist=spec.nodelist,
        exclude=spec.exclude,
        island=_island(spec),
    )


def _island(spec: JobSpec) -> Island | None:
    segment = spec.segment
    if segment is None or segment.level not in INSIDE_LEVELS or segment.size > spec.tasks_per_node:
        return None
    gpus = spec.gpus_per_node // spec.tasks_per_node * segment.size
    return Island(InsideLevel(segment.level), gpus) if gpus > 1 else None


@lru_cache(maxsize=65536)
def whereabouts(request: NodeRequest) -> NodeRequest:
    """Leave out how much a request asks for: what is left says only on which nodes it may be."""
    return NodeRequest(  # not ``replace``: this runs for every try of every job
        gpus=0,
        cpus=0,
        memory_bytes=0,
        gpu_model=request.gpu_model,
        gpu_memory_bytes=request.gpu_memory_bytes,
        gpu_milli=WHOLE_MILLI,
        mig_profile=request.mig_profile,
        counters=(),
        partition=request.partition,
        nodelist=request.nodelist,
        exclude=request.exclude,
    )


def counters_of(disk_bytes: int, gres: Counts) -> Counts:
    """Name what is counted on a node beside GPUs, CPUs and memory, in the order of the names.

    Names are Slurm's of trackable resources: ``fs/disk``, ``gres/fpga``.
    """
    if disk_bytes == 0 and not gres:
        return ()
    disk = ((DISK, disk_bytes),) if disk_bytes > 0 else ()
    return (*disk, *sorted((GRES_PREFIX + name, count) for name, count in gres))


@lru_cache(maxsize=4096)
def is_model_match(wanted: str, model: str) -> bool:
    """Tell whether every word of ``wanted`` is a word of ``model``, whatever the case.

    "H100" fits "NVIDIA H100 80GB HBM3"; "A10" does not fit "NVIDIA A100-SXM4-80GB". Alternatives are
    separated by "|": "A100|H100" fits both.
    """
    words = set(_WORD.findall(model.lower()))
    alternatives = [set(_WORD.findall(alternative)) for alternative in wanted.lower().split("|")]
    return any(alternative <= words for alternative in filter(None, alternatives))
