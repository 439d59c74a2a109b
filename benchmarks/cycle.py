"""The core alone, without processes or a store: one scheduling cycle, with the mix its queue would teach."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.nodes import up_node
from benchmarks.report import SEED, Figure, Measured, at_most, percentile, run_benchmark, say
from gpusched.agent.declared import declare_devices
from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import Node
from gpusched.domain.partition import Partitions
from gpusched.engine.demand import Demand
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.backfill import make_plan
from gpusched.policy.memo import CycleMemo
from gpusched.policy.plan import QueueEntry, RunningEntry

GIB = 1 << 30
DEPTH_MAX = 10_000  # the head's default


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Nodes and gangs of a cycle."""

    nodes: int = 10_000
    gangs: int = 10_000
    repeats: int = 5


def measure(sizes: Sizes) -> Measured:
    """One cycle on an empty and on a full cluster of 8-GPU nodes."""
    say(f"building {sizes.nodes} nodes")
    nodes = [_node(number) for number in range(sizes.nodes)]
    began = time.perf_counter()
    snapshot = ClusterSnapshot.of(nodes, Partitions(), 1)
    build_s = time.perf_counter() - began
    queue = list(_gangs(sizes.gangs))
    demand = Demand.of((entry.job_id, entry.spec) for entry in queue)
    snapshot.expect(demand.mix)
    say("cycles")
    empty_s = [_cycle_s(snapshot, queue, []) for _ in range(sizes.repeats)]
    running = _filled(snapshot, queue)
    waiting = [QueueEntry(JobId(sizes.gangs + e.job_id), e.spec) for e in queue]
    full_s = [_cycle_s(snapshot, waiting, running) for _ in range(sizes.repeats)]
    after_end_s = list(_cycles_after_ends_s(snapshot, waiting, running, sizes.repeats))
    where = f"{sizes.nodes:,} nodes × 8 GPUs, {sizes.gangs:,} pending gangs"
    return Measured(
        [
            Figure(f"cycle, {where}, cluster empty", percentile(empty_s, 50), "s", at_most(1)),
            Figure(f"cycle, {where}, cluster full", percentile(full_s, 50), "s", at_most(1)),
            Figure(
                f"cycle after one job ended, {where}", percentile(after_end_s, 50) * 1e3, "ms", at_most(50)
            ),
            Figure(f"snapshot of {sizes.nodes:,} nodes from their facts", build_s, "s"),
        ],
        {"running_when_full": len(running)},
    )


def _node(number: int) -> Node:
    name = NodeName(f"n{number:05}")
    return up_node(name, declare_devices("8xH100", name), cpus=96, memory_bytes=1024 * GIB)


def _gangs(count: int) -> Iterator[QueueEntry]:
    """Gangs of 1 to 64 nodes, mostly small, every one a little different from the next."""
    dice = random.Random(SEED)
    for number in range(1, count + 1):
        nodes = dice.choices((1, 2, 4, 8, 16, 64), (50, 20, 15, 8, 5, 2))[0]
        gpus = 8 if nodes > 1 else dice.choice((1, 2, 4, 8))
        yield QueueEntry(
            JobId(number),
            JobSpec(
                name="gang",
                command=("true",),
                nodes=nodes,
                gpus_per_node=gpus,
                tasks_per_node=gpus,
                cpus_per_task=dice.randint(1, 12),
                memory_bytes=dice.randint(1, 100) * GIB,
                time_limit_s=dice.randint(1, 48) * 1_800,
            ),
        )


def _cycle_s(
    snapshot: ClusterSnapshot,
    queue: Sequence[QueueEntry],
    running: Sequence[RunningEntry],
    memo: CycleMemo | None = None,
) -> float:
    began = time.perf_counter()
    make_plan(snapshot, queue, running, 0, depth_max=DEPTH_MAX, memo=memo)
    return time.perf_counter() - began


def _cycles_after_ends_s(
    snapshot: ClusterSnapshot, queue: Sequence[QueueEntry], running: Sequence[RunningEntry], repeats: int
) -> Iterator[float]:
    """Cycles of a head that has planned before: one more job ends before each."""
    memo = CycleMemo()
    _cycle_s(snapshot, queue, running, memo)
    for ended in range(repeats):
        for part in running[ended].nodes:
            snapshot.give_back(part)
        yield _cycle_s(snapshot, queue, running[ended + 1 :], memo)


def _filled(snapshot: ClusterSnapshot, queue: Sequence[QueueEntry]) -> list[RunningEntry]:
    """Hold what a plan starts in the snapshot itself; returns it as running, ending over the next day."""
    specs = {entry.job_id: entry.spec for entry in queue}
    running: list[RunningEntry] = []
    for start in make_plan(snapshot, queue, [], 0, depth_max=DEPTH_MAX).starts:
        for part in start.placement.nodes:
            snapshot.take(part)
        limit_s = specs[start.job_id].time_limit_s
        assert limit_s is not None
        running.append(RunningEntry(start.job_id, start.placement.nodes, limit_s * 1_000_000))
    return running


if __name__ == "__main__":
    quick = Sizes(nodes=200, gangs=200, repeats=1)
    sys.exit(run_benchmark("cycle", measure, full=Sizes(), quick=quick))
