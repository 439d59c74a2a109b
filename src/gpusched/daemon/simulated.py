"""A trace into a simulation, and a simulation into the figures that people compare."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import ceil, floor
from statistics import fmean, median
from typing import Any

from gpusched.agent.declared import declare_devices
from gpusched.daemon.traces import TraceJob
from gpusched.domain.identity import Identity, Principal, Role
from gpusched.domain.ids import NodeName
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import EndReason
from gpusched.domain.node import WHOLE_MILLI, NodeFacts
from gpusched.engine.core import EngineSettings
from gpusched.engine.simulation import Arrival, Simulated, SimulatedJob, simulate

SLOWDOWN_FLOOR_S = 60.0
"""Shorter jobs count as this long in slowdowns (bounded slowdown: Feitelson et al., JSSPP 1997)."""

_EPOCH_US = 1_577_836_800_000_000  # 2020-01-01: when virtual time begins, so that stamps read as dates


class TimeLimits(StrEnum):
    """Where the time limit of a job comes from: backfill lives on it."""

    TRACE = "trace"  # what the trace says, else none
    EXACT = "exact"  # the running time itself: perfect foresight
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Equal nodes, and what the operator would set."""

    nodes: int
    devices: str  # of each node, as ``gpusched agent --devices`` takes them
    cpus: int
    memory_bytes: int
    depth_max: int  # pending jobs that a cycle looks at


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The figures. Times in seconds; means over the jobs that ended."""

    jobs: int
    ended: int
    refused: int
    time_limited: int
    avg_jct_s: float | None
    median_jct_s: float | None
    p99_jct_s: float | None
    avg_wait_s: float | None
    median_wait_s: float | None
    p99_wait_s: float | None
    avg_slowdown: float | None
    makespan_s: float
    gpu_utilisation_percent: float | None  # GPU-seconds granted, of all GPUs over the makespan
    account_shares_percent: dict[str, float]  # of the GPU-seconds granted
    cycles: int
    first_refusal: str | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def run_trace(
    jobs: Sequence[TraceJob], cluster: Cluster, limits: TimeLimits, progress: Callable[[int], None]
) -> tuple[Simulated, Summary]:
    """Simulate a trace on a cluster and sum it up. Deterministic.

    Raises:
        InvalidSpec: The devices do not read as devices.
    """
    facts = [_node(number, cluster) for number in range(cluster.nodes)]
    gpus_per_node = len(facts[0].devices)
    arrivals = [_arrival(job, gpus_per_node, limits) for job in jobs]
    settings = EngineSettings(cycle_depth_max=cluster.depth_max)
    simulated = simulate(facts, arrivals, settings, progress=progress)
    return simulated, summarise(simulated, gpus=gpus_per_node * cluster.nodes)


def _node(number: int, cluster: Cluster) -> NodeFacts:
    name = NodeName(f"n{number + 1:05}")
    return NodeFacts(
        name=name,
        boot_id=f"simulated-{name}",
        agent_version="simulated",
        address=str(name),
        interface=None,
        cpu_ids=tuple(range(cluster.cpus)),
        cpus_pinnable=False,
        memory_bytes=cluster.memory_bytes,
        devices=declare_devices(cluster.devices, name),
    )


def _arrival(job: TraceJob, gpus_per_node: int, limits: TimeLimits) -> Arrival:
    nodes, per_node = shape_of(job, gpus_per_node)
    user = job.user or "trace"
    limit_s = {
        TimeLimits.TRACE: job.time_limit_s,
        TimeLimits.EXACT: max(1, ceil(job.duration_s)),
        TimeLimits.NONE: None,
    }[limits]
    spec = JobSpec(
        name="trace",
        command=("true",),
        nodes=nodes,
        gpus_per_node=per_node,
        cpus_per_task=1 if job.cpus is None else max(1, job.cpus // nodes),
        memory_bytes=0 if job.memory_bytes is None else job.memory_bytes // nodes,
        time_limit_s=limit_s,
        account=job.account or "default",
    )
    return Arrival(
        at_us=_EPOCH_US + round(job.submit_s * 1e6),
        who=Principal(Identity(user, 1, 1), frozenset({Role.USER})),
        spec=spec,
        run_us=round(job.duration_s * 1e6),
    )


def shape_of(job: TraceJob, gpus_per_node: int) -> tuple[int, int]:
    """Nodes, and GPUs on each: the fewest nodes that can give the same number of GPUs each.

    What the trace says of nodes counts where it divides the GPUs. Without GPUs the nodes are kept.
    """
    if job.nodes is not None and job.gpus % job.nodes == 0:
        return job.nodes, job.gpus // job.nodes
    fewest = max(1, ceil(job.gpus / max(1, gpus_per_node)))
    nodes = next(count for count in range(fewest, max(fewest, job.gpus) + 1) if job.gpus % count == 0)
    return nodes, job.gpus // nodes


def summarise(simulated: Simulated, *, gpus: int) -> Summary:
    """The figures of a finished simulation on so many GPUs. p99 is element floor(0.99 n) of the sorted."""
    ended = [job for job in simulated.jobs if job.ended_at_us is not None and job.started_at_us is not None]
    refusals = [job.refusal for job in simulated.jobs if job.refusal is not None]
    jct_s = sorted(_jct_s(job) for job in ended)
    wait_s = sorted(_wait_s(job) for job in ended)
    busy: dict[str, float] = defaultdict(float)
    for job in ended:
        busy[job.arrival.spec.account] += _ran_s(job) * job.arrival.spec.gpu_milli_total / WHOLE_MILLI
    granted_s = sum(busy.values())
    makespan_s = _makespan_s(ended)
    return Summary(
        jobs=len(simulated.jobs),
        ended=len(ended),
        refused=len(refusals),
        time_limited=sum(job.end_reason is EndReason.TIME_LIMIT for job in ended),
        avg_jct_s=_rounded(fmean(jct_s)) if ended else None,
        median_jct_s=_rounded(median(jct_s)) if ended else None,
        p99_jct_s=_rounded(_p99(jct_s)) if ended else None,
        avg_wait_s=_rounded(fmean(wait_s)) if ended else None,
        median_wait_s=_rounded(median(wait_s)) if ended else None,
        p99_wait_s=_rounded(_p99(wait_s)) if ended else None,
        avg_slowdown=_rounded(fmean(_slowdown(job) for job in ended)) if ended else None,
        makespan_s=_rounded(makespan_s),
        gpu_utilisation_percent=_rounded(100 * granted_s / (gpus * makespan_s))
        if gpus * makespan_s
        else None,
        account_shares_percent={
            name: _rounded(100 * seconds / granted_s) for name, seconds in sorted(busy.items()) if granted_s
        },
        cycles=simulated.cycles,
        first_refusal=str(refusals[0]) if refusals else None,
    )


def _makespan_s(ended: Sequence[SimulatedJob]) -> float:
    """From the first submission to the last end."""
    if not ended:
        return 0.0
    first_us = min(job.arrival.at_us for job in ended)
    return (max(job.ended_at_us or 0 for job in ended) - first_us) / 1e6


def _jct_s(job: SimulatedJob) -> float:
    return _wait_s(job) + _ran_s(job)


def _wait_s(job: SimulatedJob) -> float:
    assert job.started_at_us is not None
    return (job.started_at_us - job.arrival.at_us) / 1e6


def _ran_s(job: SimulatedJob) -> float:
    assert job.started_at_us is not None and job.ended_at_us is not None
    return (job.ended_at_us - job.started_at_us) / 1e6


def _slowdown(job: SimulatedJob) -> float:
    floor_s = max(_ran_s(job), SLOWDOWN_FLOOR_S)
    return max(1.0, _jct_s(job) / floor_s)


def _p99(ascending: Sequence[float]) -> float:
    return ascending[floor(0.99 * len(ascending))]


def _rounded(value: float) -> float:
    return round(value, 3)
