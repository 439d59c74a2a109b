"""Jobs of changing size: first the least that each can run with, then one more task at a time in turn.

The rules of NVIDIA's KAI-Scheduler. A job has pod sets, each with a least number of tasks; below it,
nothing of the job starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


@dataclass(frozen=True, slots=True)
class PodSet:
    """Tasks of one kind: the least number to run with, how many run, and who waits, best first."""

    name: str
    least: int
    running: int
    waiting: tuple[str, ...]


class Fullness(IntEnum):
    """How much of a job runs; lower goes first."""

    BELOW_LEAST = 0
    AT_LEAST = 1  # every pod set exactly at its least number
    ABOVE_LEAST = 2


def fullness(pod_sets: Sequence[PodSet]) -> Fullness:
    """Tell how much of a job runs."""
    if any(pod_set.running < pod_set.least for pod_set in pod_sets):
        return Fullness.BELOW_LEAST
    above = any(pod_set.running > pod_set.least for pod_set in pod_sets)
    return Fullness.ABOVE_LEAST if above else Fullness.AT_LEAST


def next_tasks(pod_sets: Sequence[PodSet]) -> dict[str, tuple[str, ...]] | None:
    """Choose the tasks that start together next, all or none.

    Returns:
        Per pod set, its tasks: what every pod set lacks to its least number, or one more task of the
        pod set that is least above it. None if a pod set has too few tasks to ever reach its least
        number; empty if nothing waits.
    """
    lacking = [pod_set for pod_set in pod_sets if pod_set.running < pod_set.least]
    if any(pod_set.running + len(pod_set.waiting) < pod_set.least for pod_set in lacking):
        return None
    if lacking:
        return {pod_set.name: pod_set.waiting[: pod_set.least - pod_set.running] for pod_set in lacking}
    growing = [pod_set for pod_set in pod_sets if pod_set.waiting]
    if not growing:
        return {}
    least_grown = min(growing, key=lambda pod_set: pod_set.running / max(pod_set.least, 1))
    return {least_grown.name: least_grown.waiting[:1]}
