"""What a job did with what it was given, from the use its nodes measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gpusched.domain.ids import NodeName
from gpusched.domain.telemetry import DeviceUse, NodeUse
from gpusched.wire.handlers import JobView


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """Fractions from 0 to 1 (NVML's busy time is time busy, not efficiency of use). None: not measured."""

    wall_s: float | None
    cpu_busy: float | None  # CPU seconds / (wall seconds x CPUs granted)
    gpu_busy: float | None  # mean over the measured devices
    gpus_measured: int
    gpus_granted: int
    memory_peak_bytes: int | None  # of the node that used most: its largest rank
    gpu_memory_peak_bytes: int | None
    energy_j: float | None


def of_view(view: JobView, now_us: int) -> Efficiency:
    """Sum up a job's last attempt. ``now_us`` ends the wall time of one that still runs."""
    attempt = view.job.attempt
    granted = {} if attempt is None else {part.node: len(part.cpu_ids) for part in attempt.allocation.nodes}
    uses = [use for _, use in view.uses]
    devices = [device for use in uses for device in use.devices]
    busy = [
        (device.busy_s, use.wall_s) for use in uses for device in use.devices if device.busy_s is not None
    ]
    return Efficiency(
        wall_s=_wall_s(view, uses, now_us),
        cpu_busy=_cpu_busy(view, granted),
        gpu_busy=_ratio(sum(seconds for seconds, _ in busy), sum(wall for _, wall in busy)),
        gpus_measured=len(busy),
        gpus_granted=0 if attempt is None else attempt.allocation.device_count,
        memory_peak_bytes=_largest(use.memory_peak_bytes for use in uses),
        gpu_memory_peak_bytes=_largest(device.memory_peak_bytes for device in devices),
        energy_j=_total(devices),
    )


def _wall_s(view: JobView, uses: list[NodeUse], now_us: int) -> float | None:
    if uses:
        return max(use.wall_s for use in uses)
    if view.job.started_at_us is None:
        return None
    return max(0, (view.job.ended_at_us or now_us) - view.job.started_at_us) / 1_000_000


def _cpu_busy(view: JobView, granted: dict[NodeName, int]) -> float | None:
    measured = [(node, use) for node, use in view.uses if use.cpu_s is not None]
    used = sum(use.cpu_s or 0.0 for _, use in measured)
    return _ratio(used, sum(use.wall_s * granted.get(node, 0) for node, use in measured))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None


def _largest(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _total(devices: list[DeviceUse]) -> float | None:
    energies = [device.energy_j for device in devices if device.energy_j is not None]
    return sum(energies) if energies else None
