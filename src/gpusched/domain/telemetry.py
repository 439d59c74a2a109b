"""Measurements. They may be lost; events may not, so they travel another way.

Zero is a measurement; missing is None.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpusched.domain.ids import DeviceUuid, NodeName


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSample:
    """One device at one instant, over the window since the last sample where a mean is meant."""

    uuid: DeviceUuid
    busy_percent: float | None = None  # NVML's ``gpu`` utilisation: time busy, not efficiency
    memory_used_bytes: int | None = None
    power_w: float | None = None
    energy_j: float | None = None  # counter since the driver loaded
    temperature_c: float | None = None
    ecc_uncorrected: int | None = None  # volatile count
    process_pids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSample:
    """A node's host and devices at one instant."""

    node: NodeName
    sampled_at_us: int
    cpu_percent: float | None = None
    memory_used_bytes: int | None = None
    load_1m: float | None = None
    devices: tuple[DeviceSample, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    """What one device did during one attempt. None where it could not be measured."""

    uuid: DeviceUuid
    busy_s: float | None = None  # integral of NVML time busy
    energy_j: float | None = None
    memory_peak_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """What one attempt used on one node."""

    wall_s: float
    cpu_s: float | None = None  # user + system, all processes waited for
    memory_peak_bytes: int | None = None  # largest resident set of one rank
    devices: tuple[DeviceUse, ...] = ()
