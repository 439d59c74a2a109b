"""Who is who: every task of an allocation, its numbers, and its share of its node.

Nodes are numbered in the order of the allocation, which is the topology order, and tasks node
by node: ``global_rank = node_rank * tasks_per_node + local_rank``, as torch.distributed and
Slurm's block distribution have it. So neighbours in rank are neighbours in the network. Where a gang
has several components, their nodes follow each other in the order of the components.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

from gpusched.domain.allocation import Allocation, GrantedDevice, NodeAllocation
from gpusched.domain.job_spec import Component, JobSpec, Launcher

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One process to start. ``part`` is its node's allocation, the rest its own share of it."""

    global_rank: int
    local_rank: int
    node_rank: int
    part: NodeAllocation
    devices: tuple[GrantedDevice, ...]
    cpu_ids: tuple[int, ...]


def tasks_started_per_node(spec: JobSpec) -> int:
    """How many processes each node starts: a rank each, or one torchrun that starts the ranks."""
    return 1 if spec.launcher is Launcher.TORCHRUN else spec.tasks_per_node


def tasks_started(spec: JobSpec) -> int:
    """How many processes all nodes start together."""
    return sum(part.nodes * tasks_started_per_node(part) for part in spec.parts)


def number_tasks(spec: JobSpec, allocation: Allocation) -> tuple[tuple[Task, ...], ...]:
    """Number the tasks of every node, and deal out its devices and CPUs.

    The i-th task gets the i-th run of the granted devices and the i-th run of the granted
    CPUs, both in the order of the grant: placement lists the CPUs near the first devices first.
    """
    counts = [tasks_started_per_node(part) for part in spec.parts_by_node]
    return tuple(
        tuple(
            Task(
                global_rank=first + local_rank,
                local_rank=local_rank,
                node_rank=node_rank,
                part=part,
                devices=_share(part.devices, local_rank, count),
                cpu_ids=_share(part.cpu_ids, local_rank, count),
            )
            for local_rank in range(count)
        )
        for node_rank, (part, count, first) in enumerate(
            zip(allocation.nodes, counts, accumulate(counts, initial=0), strict=False)
        )
    )


def component_of(spec: JobSpec, node_rank: int) -> Component:
    """The component that a node of a gang belongs to."""
    return [component for component in spec.components for _ in range(component.nodes)][node_rank]


def devices_by_local_rank(part: NodeAllocation, tasks: int) -> tuple[GrantedDevice, ...]:
    """Order a node's devices so that the one at index ``local_rank`` belongs to that rank.

    First the first device of each task's share, then the second of each, and so on. With one
    device per task that is the order of the grant.
    """
    shares = [_share(part.devices, local_rank, tasks) for local_rank in range(tasks)]
    longest = max(map(len, shares), default=0)
    return tuple(share[turn] for turn in range(longest) for share in shares if turn < len(share))


def _share(items: tuple[T, ...], place: int, count: int) -> tuple[T, ...]:
    """The ``place``-th of ``count`` runs of ``items``, as even as they divide."""
    return items[len(items) * place // count : len(items) * (place + 1) // count]
