"""A scenario into the figures that people compare."""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import ceil, floor
from statistics import fmean, median
from typing import Any

from gpusched.daemon.scenario import Cluster, Scenario, arrival_of
from gpusched.daemon.traces import TraceJob
from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.job_state import EndReason
from gpusched.domain.node import WHOLE_MILLI
from gpusched.engine.core import EngineSettings
from gpusched.engine.series import Sample, Series
from gpusched.engine.simulation import Simulated, SimulatedJob, simulate

SLOWDOWN_FLOOR_S = 60.0
"""Shorter jobs count as this long in slowdowns (bounded slowdown: Feitelson et al., JSSPP 1997)."""

_SAMPLES_WANTED = 200  # between the first and the last submission


class TimeLimits(StrEnum):
    """Where the time limit of a job comes from: backfill lives on it."""

    TRACE = "trace"  # what the trace says, else none
    EXACT = "exact"  # the running time itself: perfect foresight
    NONE = "none"


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
    fragmentation_percent: float | None  # of the free GPU milli: mean over the samples that have one
    cycles: int
    refused_jobs: tuple[str, ...]  # their names
    first_refusal: str | None

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished simulation: every job, the cluster over time, and the figures."""

    scenario: Scenario
    simulated: Simulated
    samples: tuple[Sample, ...]
    summary: Summary

    @property
    def start_us(self) -> int:
        """The first submission; virtual times are shown as seconds from it."""
        return self.simulated.jobs[0].arrival.at_us

    def as_json(self) -> dict[str, Any]:
        """The figures, and the samples as columns."""
        return {**self.summary.as_json(), "over_time": self.columns()}

    def columns(self) -> dict[str, list[float | None]]:
        """The samples, a list for each thing that is measured."""
        return {
            "time_s": [(sample.at_us - self.start_us) / 1e6 for sample in self.samples],
            "jobs_waiting": [sample.jobs_waiting for sample in self.samples],
            "gpus_held": [sample.gpus_held for sample in self.samples],
            "gpus_up": [sample.gpus_up for sample in self.samples],
            "fragmentation_percent": [
                None if sample.fragmentation_percent is None else _rounded(sample.fragmentation_percent)
                for sample in self.samples
            ],
        }


def scenario_of(jobs: Sequence[TraceJob], cluster: Cluster, limits: TimeLimits) -> Scenario:
    """A trace on a cluster of equal nodes.

    Raises:
        InvalidSpec: There is no job, or the devices do not read as devices.
    """
    if not jobs:
        raise InvalidSpec((Violation("trace", "holds no job that ran: give another trace"),))
    nodes = cluster.facts()
    return Scenario(
        nodes=nodes,
        jobs=tuple(arrival_of(job, len(nodes[0].devices), _limit_s(job, limits)) for job in jobs),
        settings=EngineSettings(cycle_depth_max=cluster.depth_max),
    )


def _limit_s(job: TraceJob, limits: TimeLimits) -> int | None:
    match limits:
        case TimeLimits.TRACE:
            return job.time_limit_s
        case TimeLimits.EXACT:
            return max(1, ceil(job.duration_s))
        case TimeLimits.NONE:
            return None


def run_scenario(scenario: Scenario, progress: Callable[[int], None] = lambda ended: None) -> Outcome:
    """Simulate and sum up. Deterministic."""
    arrivals = [job.arrival for job in scenario.jobs]
    span_us = arrivals[-1].at_us - arrivals[0].at_us
    series = Series(arrivals[0].at_us, max(1_000_000, span_us // _SAMPLES_WANTED))
    # Jobs and events stay until the end: looking for garbage among them finds none and costs 3 %.
    gc.set_threshold(200_000, 50, 50)
    simulated = simulate(
        scenario.nodes,
        arrivals,
        scenario.settings,
        happenings=scenario.happenings,
        progress=progress,
        observe=series.observe,
    )
    samples = tuple(series.samples)
    summary = summarise(simulated, [job.name for job in scenario.jobs], samples, gpus=scenario.gpus)
    return Outcome(scenario, simulated, samples, summary)


def summarise(simulated: Simulated, names: Sequence[str], samples: Sequence[Sample], *, gpus: int) -> Summary:
    """The figures of a finished simulation on so many GPUs. p99 is element floor(0.99 n) of the sorted."""
    ended = [job for job in simulated.jobs if job.ended_at_us is not None and job.started_at_us is not None]
    refusals = [job.refusal for job in simulated.jobs if job.refusal is not None]
    fragmented = [s.fragmentation_percent for s in samples if s.fragmentation_percent is not None]
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
        fragmentation_percent=_rounded(fmean(fragmented)) if fragmented else None,
        cycles=simulated.cycles,
        refused_jobs=tuple(
            name for name, job in zip(names, simulated.jobs, strict=True) if job.refusal is not None
        ),
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
