"""Gangs of production traces on a real Clos network: how many switches a gang spans, and what its ring costs.

``python -m benchmarks.fabric --topo F --trace F [F...] --json [--policy P] [--out FILE]`` replays arrivals
and departures on the hosts of Lingjun's table (8 GPUs each, tree of core, top-of-rack switch, host;
``--tree psw`` puts the aggregation switches between) and prints one object last: ``{"policy", "mean_leaves",
"mean_spines", "mean_ring_cost", ...}``, means over gangs of more than one node, with the other
policies beside it. The traces ask for a few hundred GPUs, so as many shifted copies of each arrive as
ask for ``--load`` of the hosts, ``--arrivals`` jobs in all. Who does not fit waits; who fits may pass.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import heapq
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import commit
from benchmarks.nodes import up_node
from benchmarks.report import SEED
from gpusched.domain.errors import Unavailable
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import Device
from gpusched.domain.partition import Partitions
from gpusched.domain.topology import NodePath, Topology, TopologyLevel
from gpusched.placement.gang import place
from gpusched.placement.placement import NodePlacement
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.placement.tree import Tree, ring_cost

GPUS_PER_HOST = 8
LEVELS = {"asw": ("spine", "leaf"), "psw": ("core", "spine", "leaf")}
Rows = list[int]
Host = tuple[str, str, str, str]  # core, aggregation and top-of-rack switch, name
Asked = tuple[float, float, int]  # submission and duration in seconds, GPUs


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a trace: ``nodes`` hosts with ``gpus`` on each."""

    submit_s: float
    duration_s: float
    nodes: int
    gpus: int


@dataclass(slots=True)
class Spans:
    """What was measured of the gangs placed."""

    leaves: list[int] = field(default_factory=list)
    spines: list[int] = field(default_factory=list)
    ring_costs: list[int] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)
    wall_s: float = 0.0

    def means(self) -> dict[str, float]:
        """The means, rounded for people."""
        return {
            "mean_leaves": round(float(np.mean(self.leaves)), 4),
            "mean_spines": round(float(np.mean(self.spines)), 4),
            "mean_ring_cost": round(float(np.mean(self.ring_costs)), 4),
            "mean_wait_s": round(float(np.mean(self.waits_s)), 1),
            "gangs": len(self.leaves),
            "wall_s": round(self.wall_s, 2),
        }


class Hosts:
    """Free GPUs on the hosts, for the policies that are compared with ours."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.free: NDArray[np.int64] = np.full(len(tree.leaf_of), GPUS_PER_HOST, dtype=np.int64)

    def take(self, rows: Rows, gpus: int) -> None:
        """Hold GPUs on every one of ``rows``."""
        self.free[rows] -= gpus

    def fitting(self, job: Job) -> NDArray[np.int64]:
        """Rows with enough free GPUs, in the order of names."""
        return np.flatnonzero(self.free >= job.gpus)


def first_fit(hosts: Hosts, job: Job) -> Rows | None:
    """The first hosts by name."""
    rows = hosts.fitting(job)
    return rows[: job.nodes].tolist() if len(rows) >= job.nodes else None


def best_fit(hosts: Hosts, job: Job) -> Rows | None:
    """The hosts with the fewest free GPUs, equal ones by name."""
    rows = hosts.fitting(job)
    order = np.lexsort((rows, hosts.free[rows]))
    return sorted(rows[order][: job.nodes].tolist()) if len(rows) >= job.nodes else None


def slurm_tree(hosts: Hosts, job: Job) -> Rows | None:
    """As Slurm's topology/tree plugin does: the lowest switch with enough hosts, the least of these.

    Below it leaf by leaf: the smallest leaf that takes the rest, else the largest; hosts by name.
    """
    rows, tree = hosts.fitting(job), hosts.tree
    if len(rows) < job.nodes:
        return None
    for level in range(tree.depth - 1, -1, -1):
        counts = np.bincount(tree.columns[rows, level], minlength=len(tree.paths[level]))
        able = np.flatnonzero(counts >= job.nodes)
        if len(able):
            rows = rows[tree.columns[rows, level] == able[counts[able].argmin()]]
            break
    chosen: Rows = []
    while len(chosen) < job.nodes:
        leaves = tree.leaf_of[rows]
        counts = np.bincount(leaves, minlength=tree.leaves)
        rest = job.nodes - len(chosen)
        able = np.flatnonzero(counts >= rest)
        leaf = able[counts[able].argmin()] if len(able) else counts.argmax()
        chosen += rows[leaves == leaf][:rest].tolist()
        rows = rows[leaves != leaf]
    return sorted(chosen)


class Baseline:
    """A policy over free counts."""

    def __init__(self, tree: Tree, choose: Callable[[Hosts, Job], Rows | None]) -> None:
        self._hosts, self._choose = Hosts(tree), choose

    def start(self, job: Job) -> tuple[Rows, Any] | None:
        """Take hosts for a job; None if it does not fit."""
        rows = self._choose(self._hosts, job)
        if rows is None:
            return None
        self._hosts.take(rows, job.gpus)
        return rows, (rows, job.gpus)

    def end(self, held: Any) -> None:
        """Give back what ``start`` took."""
        rows, gpus = held
        self._hosts.take(rows, -gpus)


class Ours:
    """The product: a snapshot and ``gang.place``; gangs prefer one leaf."""

    def __init__(self, snapshot: ClusterSnapshot) -> None:
        self._snapshot = snapshot
        self._specs: dict[tuple[int, int], JobSpec] = {}

    def start(self, job: Job) -> tuple[Rows, tuple[NodePlacement, ...]] | None:
        """Place a job and hold what it got; None if it does not fit now."""
        spec = self._specs.setdefault((job.nodes, job.gpus), _spec(job))
        try:
            placement = place(self._snapshot, spec)
        except Unavailable:
            return None
        for part in placement.nodes:
            self._snapshot.take(part)
        return [self._snapshot.index[part.node] for part in placement.nodes], placement.nodes

    def end(self, held: tuple[NodePlacement, ...]) -> None:
        """Give back what ``start`` took."""
        for part in held:
            self._snapshot.give_back(part)


def _spec(job: Job) -> JobSpec:
    return JobSpec(
        name="gang",
        command=("train",),
        nodes=job.nodes,
        gpus_per_node=job.gpus,
        topology_preferred="leaf" if job.nodes > 1 else None,
    )


def replay(jobs: Sequence[Job], policy: Baseline | Ours, tree: Tree) -> Spans:
    """Run arrivals and departures in time order; ties: departures first, then file order."""
    spans, waiting, began = Spans(), [], time.perf_counter()
    ends: list[tuple[float, int, Any]] = []
    arrivals = iter(enumerate(jobs))
    coming = next(arrivals, None)
    while coming is not None or ends:
        if coming is None or (ends and ends[0][0] <= coming[1].submit_s):
            now, _, held = heapq.heappop(ends)
            policy.end(held)
        else:
            now = coming[1].submit_s
            waiting.append(coming)
            coming = next(arrivals, None)
        waiting = _start_all(waiting, policy, tree, now, (spans, ends))
    spans.wall_s = time.perf_counter() - began
    return spans


def _start_all(
    waiting: list[tuple[int, Job]],
    policy: Baseline | Ours,
    tree: Tree,
    now: float,
    out: tuple[Spans, list[tuple[float, int, Any]]],
) -> list[tuple[int, Job]]:
    spans, ends = out
    left, refused = [], set()
    for number, job in waiting:
        started = None if (job.nodes, job.gpus) in refused else policy.start(job)
        if started is None:
            refused.add((job.nodes, job.gpus))
            left.append((number, job))
            continue
        rows, held = started
        heapq.heappush(ends, (now + job.duration_s, number, held))
        if job.nodes > 1:
            _measure(spans, tree, rows)
            spans.waits_s.append(now - job.submit_s)
    return left


def _measure(spans: Spans, tree: Tree, rows: Rows) -> None:
    spans.leaves.append(len(set(tree.columns[rows, -1].tolist())))
    spans.spines.append(len(set(tree.columns[rows, tree.levels.index("spine")].tolist())))
    spans.ring_costs.append(ring_cost(tree, rows) or 0)


def read_hosts(path: Path) -> list[Host]:
    """Lingjun's table: the core, aggregation and top-of-rack switch of every host."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return [(row["DSW"], row["PSW"], row["ASW"], row["ip"]) for row in csv.DictReader(file)]


def synthetic_hosts() -> list[Host]:
    """48 top-of-rack switches of 18 hosts under three aggregation switches."""
    return [
        ("G", f"P{leaf % 3}", f"S{leaf:02}", f"{leaf:02}-{host:02}")
        for leaf in range(48)
        for host in range(18)
    ]


def topology_of(hosts: Sequence[Host], kind: str) -> Topology:
    """Hosts as a tree, named in its order as sites do: first fit then finds neighbours."""
    paths = sorted(
        ((core, rack) if kind == "asw" else (core, aggregation, f"{aggregation}.{rack}"), name)
        for core, aggregation, rack, name in hosts
    )
    return Topology(
        tuple(map(TopologyLevel, LEVELS[kind])),
        tuple(NodePath(NodeName(f"h{number:04}"), path) for number, (path, _) in enumerate(paths)),
    )


def read_trace(path: Path) -> tuple[str, list[Asked]]:
    """A trace's name, and the submission, duration and GPUs of its jobs."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return path.name, [
        (float(row["submission_time"]), float(row["duration"]), int(row["num_gpu"])) for row in rows
    ]


def synthetic_trace() -> list[Asked]:
    """Jobs of one GPU to eight nodes with long-tailed durations over thirty days, from a fixed seed."""
    dice = np.random.default_rng(SEED)
    number, sizes = 6_000, 2 ** np.arange(7)
    gpus = dice.choice(sizes, number, p=[0.62, 0.1, 0.1, 0.12, 0.03, 0.02, 0.01])
    submits = np.sort(dice.uniform(0, 30 * 86_400, number))
    durations = dice.lognormal(8, 2, number)
    return [(float(s), float(d), int(g)) for s, d, g in zip(submits, durations, gpus, strict=True)]


def jobs_of(asked: Sequence[Asked], load: float, gpus: int, *, arrivals_max: int) -> list[Job]:
    """The first jobs of as many copies of a trace as ask for ``load`` of ``gpus`` on the mean.

    Copies are shifted against each other by equal parts of the trace, round its end to its start.
    """
    first, last = min(job[0] for job in asked), max(job[0] for job in asked)
    span = last - first
    mean_gpus = sum(duration * number for _, duration, number in asked) / span
    copies = max(1, round(load * gpus / mean_gpus))
    jobs = [
        Job(
            (submit - first + copy * span / copies) % span,
            duration,
            -(-number // GPUS_PER_HOST),
            min(number, GPUS_PER_HOST),
        )
        for copy in range(copies)
        for submit, duration, number in sorted(asked, key=lambda job: job[0])
    ]
    return sorted(jobs, key=lambda job: job.submit_s)[:arrivals_max]


def snapshot_of(topology: Topology) -> ClusterSnapshot:
    """The hosts, all idle, as the product sees them."""
    nodes = [
        up_node(place.node, _gpus(place.node), cpus=96, memory_bytes=1 << 40) for place in topology.nodes
    ]
    return ClusterSnapshot.of(nodes, Partitions(), 1, topology)


def _gpus(node: NodeName) -> tuple[Device, ...]:
    return tuple(
        Device(uuid=DeviceUuid(f"{node}-{column}"), model="GPU", memory_bytes=80 << 30)
        for column in range(GPUS_PER_HOST)
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Replay every trace under every policy asked for; one object, means over all gangs of all traces."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--topo", type=Path, metavar="F", help="lingjun/topo.csv.gz; else a made-up Clos")
    parser.add_argument("--trace", type=Path, nargs="+", metavar="F", help="itp/*.csv.gz; else made-up jobs")
    parser.add_argument("--tree", choices=tuple(LEVELS), default="asw")
    parser.add_argument("--load", type=float, default=0.85, help="part of the GPUs asked for, on the mean")
    parser.add_argument(
        "--arrivals", type=int, default=60_000, metavar="N", help="jobs of each trace at most"
    )
    parser.add_argument("--policy", choices=("all", *POLICIES), default="all")
    parser.add_argument("--json", action="store_true", help="nothing on stdout but the result, last")
    parser.add_argument("--out", type=Path, help="also write the result here")
    args = parser.parse_args(argv)
    rows = synthetic_hosts() if args.topo is None else read_hosts(args.topo)
    topology = topology_of(rows, args.tree)
    traces = {"synthetic": synthetic_trace()} if args.trace is None else dict(map(read_trace, args.trace))
    if args.topo is None or args.trace is None:
        print("fabric: made-up hosts or jobs, of the shape of the real ones", file=sys.stderr)
    asked = tuple(POLICIES) if args.policy == "all" else (args.policy,)
    found = {}
    for policy in asked:
        found[policy] = _run(policy, topology, traces, args)
        print(f"{args.tree} {policy}: {found[policy]}", file=sys.stderr)
    first = asked[0]
    result = {
        "policy": first,
        **found[first],
        "others": {policy: found[policy] for policy in asked[1:]},
        "tree": args.tree,
        "hosts": len(topology.nodes),
        "load": args.load,
        "arrivals": args.arrivals,
        "traces": list(traces),
        "hosts_from": "synthetic" if args.topo is None else args.topo.name,
        "commit": commit(),
    }
    if args.out is not None:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0


def _run(
    policy: str, topology: Topology, traces: Mapping[str, Sequence[Asked]], args: argparse.Namespace
) -> dict[str, float]:
    every, gpus = Spans(), len(topology.nodes) * GPUS_PER_HOST
    for asked in traces.values():
        snapshot = snapshot_of(topology)
        tree = snapshot.inventory.tree
        jobs = jobs_of(asked, args.load, gpus, arrivals_max=args.arrivals)
        spans = replay(jobs, POLICIES[policy](snapshot), tree)
        every.leaves += spans.leaves
        every.spines += spans.spines
        every.ring_costs += spans.ring_costs
        every.waits_s += spans.waits_s
        every.wall_s += spans.wall_s
    return every.means()


POLICIES: dict[str, Callable[[ClusterSnapshot], Baseline | Ours]] = {
    "ours": Ours,
    "first-fit": lambda snapshot: Baseline(snapshot.inventory.tree, first_fit),
    "best-fit": lambda snapshot: Baseline(snapshot.inventory.tree, best_fit),
    "slurm-tree": lambda snapshot: Baseline(snapshot.inventory.tree, slurm_tree),
}

if __name__ == "__main__":
    sys.exit(main())
