"""Devices that are held though no attempt has them: a stray process, or memory that nobody owns.

Memory can stay taken with no process left to own it; starting a job there fails it. The threshold is
that of NVIDIA's resiliency extension, which waits for less than 512 MB before it starts ranks again
(nvidia_resiliency_ext, ft_launcher).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from gpusched.domain.health import Condition, Signal
from gpusched.domain.ids import DeviceUuid
from gpusched.domain.telemetry import DeviceSample, NodeSample

MEMORY_MAX_BYTES = 512_000_000


class HeldDevices:
    """Remembers since when each device is held."""

    def __init__(self, held_max_s: float) -> None:
        self._held_max_s = held_max_s
        self._since_s: dict[DeviceUuid, float] = {}
        self._last: tuple[Condition, ...] = ()

    def look(self, sample: NodeSample, in_use: Collection[DeviceUuid], now_s: float) -> tuple[Condition, ...]:
        """What is held for too long now; as before, if the sample says nothing of devices."""
        if sample.devices:
            self._last = tuple(self._look(sample, in_use, now_s))
        return self._last

    def _look(self, sample: NodeSample, in_use: Collection[DeviceUuid], now_s: float) -> Iterator[Condition]:
        for device in sample.devices:
            why = None if device.uuid in in_use else _held_by(device)
            if why is None:
                self._since_s.pop(device.uuid, None)
            elif now_s - self._since_s.setdefault(device.uuid, now_s) > self._held_max_s:
                yield Condition(signal=Signal.DEVICE_HELD, detail=why, devices=(device.uuid,))


def _held_by(device: DeviceSample) -> str | None:
    if device.process_pids:
        return f"processes {', '.join(map(str, device.process_pids[:5]))} are on it, and no job"
    if device.memory_used_bytes is not None and device.memory_used_bytes > MEMORY_MAX_BYTES:
        return f"{device.memory_used_bytes >> 20} MiB are taken, and no job has it"
    return None
