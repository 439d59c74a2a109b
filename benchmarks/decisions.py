"""What one placement costs, and how that grows with the cluster: the scheduler's ``place`` and ``take``.

Nodes are of the kinds of the FGD study (Weng et al., USENIX ATC 2023), half full. Jobs of some 40 shapes,
which are also the usual mix, come one after the other, and for each placed one that was placed before ends.
The clock runs for placing and holding. The first job of a shape has every node scored: it is timed apart.

The study's own simulator takes 55 ms a decision by its README, on the same 1,213 nodes.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.nodes import up_node
from benchmarks.report import SEED, Figure, Measured, at_least, percentile, run_benchmark, say
from gpusched.agent.declared import declare_devices
from gpusched.domain.errors import InsufficientResources
from gpusched.domain.ids import NodeName
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import WHOLE_MILLI, Node
from gpusched.domain.partition import Partitions
from gpusched.placement.gang import place
from gpusched.placement.mix import RequestMix, shape_of
from gpusched.placement.placement import NodePlacement, Placement
from gpusched.placement.request import node_request
from gpusched.placement.snapshot import ClusterSnapshot

GIB = 1 << 30
PUBLISHED_MS = 55.0
KINDS = ((8, "A100", 96), (2, "T4", 104), (2, "P100", 16), (4, "V100", 32), (8, "H100", 128))
KIND_SHARES = (0.46, 0.34, 0.11, 0.06, 0.03)
GPUS = ((0, 0.13), (1, 0.86), (2, 0.003), (4, 0.002), (8, 0.005))
PARTS = ((WHOLE_MILLI, 0.56), (810, 0.15), (470, 0.12), (320, 0.07), (650, 0.05), (230, 0.05))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Numbers of nodes, and decisions timed on each; the first is that of the study."""

    nodes: tuple[int, ...] = (1_213, 10_000, 100_000)
    decisions: tuple[int, ...] = (20_000, 5_000, 1_000)


def measure(sizes: Sizes) -> Measured:
    """Placement decisions a second, by the number of nodes."""
    figures = []
    for nodes, decisions in zip(sizes.nodes, sizes.decisions, strict=True):
        say(f"{nodes} nodes")
        rate, first_ms = _measure_one(nodes, decisions)
        budget = at_least(5_000) if nodes == sizes.nodes[0] else None
        figures += [
            Figure(f"placement decisions, {nodes:,} nodes", rate, "/s", budget),
            Figure(f"first decision of a shape, {nodes:,} nodes, median", first_ms, "ms"),
        ]
    published = {
        "ms_per_decision": PUBLISHED_MS,
        "nodes": 1_213,
        "source": "kubernetes-scheduler-simulator, README",
    }
    return Measured(figures, {"published_simulator": published})


def _measure_one(nodes: int, decisions: int) -> tuple[float, float]:
    """Decisions a second, by this process's time, and milliseconds of the first of a shape."""
    dice = random.Random(SEED)
    snapshot = ClusterSnapshot.of([_node(number, dice) for number in range(nodes)], Partitions(), 1)
    jobs = [_job(dice) for _ in range(decisions)]
    snapshot.expect(RequestMix.of(Counter(shape_of(node_request(job)) for job in jobs)))
    held = _half_filled(snapshot, dice)
    met: set[JobSpec] = set()
    first_ms: list[float] = []
    spent_s, placed = 0.0, 0
    for job in jobs:
        shape = replace(job, memory_bytes=0)
        began = time.process_time()
        placement = _decide(snapshot, job)
        took_s = time.process_time() - began
        if shape in met:
            spent_s, placed = spent_s + took_s, placed + 1
        else:
            met.add(shape)
            first_ms.append(took_s * 1e3)
        if placement is not None:
            held.append(placement)
            _end(snapshot, held, dice)
    return placed / spent_s, percentile(first_ms, 50)


def _decide(snapshot: ClusterSnapshot, job: JobSpec) -> Placement | None:
    try:
        placement = place(snapshot, job)
    except InsufficientResources:
        return None
    for part in placement.nodes:
        snapshot.take(part)
    return placement


def _end(snapshot: ClusterSnapshot, held: list[Placement], dice: random.Random) -> None:
    at = dice.randrange(len(held))
    held[at], held[-1] = held[-1], held[at]
    for part in held.pop().nodes:
        snapshot.give_back(part)


def _half_filled(snapshot: ClusterSnapshot, dice: random.Random) -> list[Placement]:
    """Hold about half of the GPUs, one CPU with each, without a search."""
    held = []
    for row, name in enumerate(snapshot.names):
        for cpu, uuid in enumerate(snapshot.inventory.uuids[row]):
            if dice.random() < 0.5:
                part = NodePlacement(name, (uuid,), (cpu,), GIB, gpu_milli=_draw(PARTS, dice))
                snapshot.take(part)
                held.append(Placement((part,)))
    return held


def _node(number: int, dice: random.Random) -> Node:
    gpus, model, cpus = dice.choices(KINDS, KIND_SHARES)[0]
    name = NodeName(f"n{number:06}")
    devices = tuple(replace(device, shareable=True) for device in declare_devices(f"{gpus}x{model}", name))
    return up_node(name, devices, cpus=cpus, memory_bytes=384 * GIB)


def _job(dice: random.Random) -> JobSpec:
    gpus = _draw(GPUS, dice)
    return JobSpec(
        name="job",
        command=("true",),
        gpus_per_node=gpus,
        gpu_milli=_draw(PARTS, dice) if gpus == 1 else WHOLE_MILLI,
        cpus_per_task=dice.choice((2, 4, 8, 12)) * max(1, gpus),
        memory_bytes=dice.randint(1, 32) * GIB,
    )


def _draw(table: Sequence[tuple[int, float]], dice: random.Random) -> int:
    values, shares = zip(*table, strict=True)
    drawn: int = dice.choices(values, shares)[0]
    return drawn


if __name__ == "__main__":
    sys.exit(run_benchmark("decisions", measure, full=Sizes(), quick=Sizes(nodes=(50,), decisions=(200,))))
