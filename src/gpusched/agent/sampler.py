"""Measure the node once per tick, and add up what one attempt's devices did.

No clock here: instants are arguments. Zero is a measurement, None is not.
"""

from __future__ import annotations

from collections.abc import Iterable

import psutil

from gpusched.agent.nvml import DeviceReadings, NvmlReader, UnusableDevice
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.telemetry import DeviceSample, DeviceUse, NodeSample

MICROSECONDS_PER_S = 1_000_000


class Sampler:
    """Samples one node. ``unusable`` holds the devices that the last tick could not read."""

    def __init__(
        self, node: NodeName, reader: NvmlReader | None, declared: Iterable[DeviceUuid] = ()
    ) -> None:
        """Take a reader that has scanned, or None, and the declared devices, of which nothing is known."""
        self._node = node
        self._reader = reader
        self._released: NvmlReader | None = None
        self._declared = tuple(DeviceSample(uuid=uuid) for uuid in declared)
        self.unusable: tuple[UnusableDevice, ...] = ()
        # psutil's first answer has no window behind it and would read as 0 % busy.
        psutil.cpu_percent(interval=None)

    def release(self) -> None:
        """Let the driver go: a card that is open cannot be reset. Samples are empty until ``regain``."""
        self._released, self._reader = self._reader, None
        if self._released is not None:
            self._released.close()

    def regain(self) -> None:
        """Open the driver again.

        Raises:
            NvmlBroken: It does not start; it stays released.
        """
        if self._released is not None:
            self._released.reopen()
            self._reader, self._released = self._released, None

    def unknown(self, now_us: int) -> NodeSample:
        """The sample of an instant at which nothing could be measured."""
        return NodeSample(node=self._node, sampled_at_us=now_us)

    def sample(self, now_us: int) -> NodeSample:
        """Measure now. ``cpu_percent`` is the mean since the last call."""
        readings = DeviceReadings((), ()) if self._reader is None else self._reader.sample()
        self.unusable = readings.unusable
        return NodeSample(
            node=self._node,
            sampled_at_us=now_us,
            cpu_percent=psutil.cpu_percent(interval=None),
            memory_used_bytes=psutil.virtual_memory().used,
            load_1m=psutil.getloadavg()[0],
            devices=(*readings.samples, *self._declared),
        )


class AttemptMeter:
    """Adds up the samples of the devices that one attempt holds.

    Feed it one sample when the attempt starts, one per tick, and one when it ends. Each sample
    speaks for the time since the one before it, so the first only sets the mark.
    """

    def __init__(self, devices: Iterable[DeviceUuid]) -> None:
        self._meters = {uuid: _DeviceMeter(uuid) for uuid in devices}
        self._last_us: int | None = None

    def add(self, sample: NodeSample, now_us: int) -> None:
        """Count ``sample``, taken at ``now_us`` of a monotonic clock; a repeated instant adds no time."""
        elapsed_s = 0.0 if self._last_us is None else max(now_us - self._last_us, 0) / MICROSECONDS_PER_S
        self._last_us = now_us
        for device in sample.devices:
            if device.uuid in self._meters:
                self._meters[device.uuid].add(device, elapsed_s)

    def uses(self) -> tuple[DeviceUse, ...]:
        """What every device did so far, in the order they were given; None where nothing was measured."""
        return tuple(meter.use() for meter in self._meters.values())


class _DeviceMeter:
    """Sums of one device.

    Energy is the counter's increase. While the counter is silent the integral of power stands in, and
    the counter takes its place when it speaks again; if it fell (the driver was reloaded), power stays.
    """

    def __init__(self, uuid: DeviceUuid) -> None:
        self._uuid = uuid
        self._busy_s: float | None = None
        self._memory_peak_bytes: int | None = None
        self._energy_j: float | None = None  # up to the last reading of the counter
        self._energy_since_j: float | None = None  # by power, from there on
        self._counter_j: float | None = None

    def add(self, sample: DeviceSample, elapsed_s: float) -> None:
        if sample.memory_used_bytes is not None:
            self._memory_peak_bytes = max(self._memory_peak_bytes or 0, sample.memory_used_bytes)
        if elapsed_s > 0 and sample.busy_percent is not None:
            self._busy_s = _sum(self._busy_s, sample.busy_percent / 100 * elapsed_s)
        if elapsed_s > 0 and sample.power_w is not None:
            self._energy_since_j = _sum(self._energy_since_j, sample.power_w * elapsed_s)
        if sample.energy_j is not None:
            self._read_counter(sample.energy_j)

    def _read_counter(self, counter_j: float) -> None:
        if self._counter_j is not None and counter_j >= self._counter_j:
            self._energy_since_j = counter_j - self._counter_j
        self._energy_j = _sum(self._energy_j, self._energy_since_j)
        self._energy_since_j = None
        self._counter_j = counter_j

    def use(self) -> DeviceUse:
        return DeviceUse(
            uuid=self._uuid,
            busy_s=self._busy_s,
            energy_j=_sum(self._energy_j, self._energy_since_j),
            memory_peak_bytes=self._memory_peak_bytes,
        )


def _sum(total: float | None, more: float | None) -> float | None:
    if more is None:
        return total
    return more if total is None else total + more
