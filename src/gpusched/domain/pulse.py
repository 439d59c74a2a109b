"""Signs of work: what a node can see of a rank without asking it, and what the rank writes of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gpusched.domain.ids import AttemptId

STOPPED_STATES = frozenset("Tt")
"""Letters of proc(5) for a process that was stopped: by a signal, by a debugger."""


class GpuPulse(StrEnum):
    """What a rank's GPUs do, as far as NVML tells."""

    WORKS = "works"
    IDLE = "idle"
    SPINS = "spins"  # busy all the time on little power: a kernel that waits for others
    UNKNOWN = "unknown"  # a real GPU that could not be read


@dataclass(frozen=True, slots=True, kw_only=True)
class QuietRank:
    """A rank without any sign of work for ``quiet_s``: output, steps, CPU time, I/O or GPU work."""

    attempt_id: AttemptId
    global_rank: int
    quiet_s: float
    state: str  # letter of proc(5) of its main process: R S D T ...
    waits_in: str | None = None  # the kernel function in which that process sleeps (wchan of proc(5))
    gpu: GpuPulse | None = None  # None: it has none
    step: int | None = None  # the last it wrote to its progress file

    @property
    def is_stopped(self) -> bool:
        """Whether a signal or a debugger holds it."""
        return self.state in STOPPED_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPace:
    """How far a rank said it had come when its node looked. Only differences of the times mean anything."""

    attempt_id: AttemptId
    global_rank: int
    step: int
    at_s: float  # of the look, on the node's monotonic clock
    own_s: float | None = None  # spent on its own work so far, outside collectives, if it writes that
