"""Partitions: named sets of nodes with shared limits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from gpusched.domain.ids import NodeName
from gpusched.domain.job_spec import JobSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Nodes whose names match one of ``nodes`` (shell patterns). ``spares`` are kept free for restarts."""

    name: str
    nodes: tuple[str, ...] = ("*",)
    time_limit_max_s: int | None = None
    spares: tuple[NodeName, ...] = ()

    def holds(self, node: NodeName) -> bool:
        """Whether ``node`` belongs to it."""
        return any(fnmatchcase(node, pattern) for pattern in self.nodes)


@dataclass(frozen=True, slots=True)
class Partitions:
    """All partitions of a cluster; the first is the default."""

    all: tuple[Partition, ...] = (Partition(name="main"),)

    def named(self, name: str | None) -> Partition | None:
        """The partition of that name; the default one for None; None if there is none of that name."""
        if name is None:
            return self.all[0]
        return next((partition for partition in self.all if partition.name == name), None)

    def open_to(self, spec: JobSpec, restarts: int) -> JobSpec:
        """The job as it may be placed: only one that restarts by itself may have spare nodes."""
        partition = self.named(spec.partition)
        if restarts or partition is None or not partition.spares:
            return spec
        return replace(spec, exclude=(*spec.exclude, *(n for n in partition.spares if n not in spec.exclude)))
