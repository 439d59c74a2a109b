"""Measure one device once. Absent is None, zero is a measurement."""

from __future__ import annotations

import pynvml

from gpusched.agent.nvml_call import Handle, read_or_none
from gpusched.domain.ids import DeviceUuid
from gpusched.domain.telemetry import DeviceSample


def sample_card(handle: Handle, uuid: DeviceUuid) -> DeviceSample:
    """Measure a whole card.

    Raises:
        DeviceUnreadable: The card does not answer any more.
    """
    busy = read_or_none(pynvml.nvmlDeviceGetUtilizationRates, handle)
    power_mw = read_or_none(pynvml.nvmlDeviceGetPowerUsage, handle)
    energy_mj = read_or_none(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle)
    return DeviceSample(
        uuid=uuid,
        busy_percent=None if busy is None else float(busy.gpu),
        memory_used_bytes=_read_memory_used(handle),
        power_w=None if power_mw is None else power_mw / 1000,
        energy_j=None if energy_mj is None else energy_mj / 1000,
        temperature_c=_read_temperature(handle),
        ecc_uncorrected=read_or_none(
            pynvml.nvmlDeviceGetTotalEccErrors,
            handle,
            pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            pynvml.NVML_VOLATILE_ECC,
        ),
        process_pids=_read_pids(handle),
    )


def sample_slice(handle: Handle, uuid: DeviceUuid) -> DeviceSample:
    """Measure a MIG slice: NVML attributes nothing but memory and processes to it.

    Raises:
        DeviceUnreadable: Its card does not answer any more.
    """
    return DeviceSample(
        uuid=uuid,
        memory_used_bytes=_read_memory_used(handle),
        process_pids=_read_pids(handle),
    )


def _read_memory_used(handle: Handle) -> int | None:
    # Version 2 leaves out what the driver keeps for itself; drivers before 510 have only version 1.
    memory = read_or_none(pynvml.nvmlDeviceGetMemoryInfo, handle, version=pynvml.nvmlMemory_v2)
    if memory is None:
        memory = read_or_none(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return None if memory is None else int(memory.used)


def _read_temperature(handle: Handle) -> float | None:
    # The newer call replaces the older one in CUDA 14; drivers before 570 have only the older.
    degrees = read_or_none(pynvml.nvmlDeviceGetTemperatureV, handle, pynvml.NVML_TEMPERATURE_GPU)
    if degrees is None:
        degrees = read_or_none(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
    return None if degrees is None else float(degrees)


def _read_pids(handle: Handle) -> tuple[int, ...] | None:
    compute = read_or_none(pynvml.nvmlDeviceGetComputeRunningProcesses_v3, handle)
    graphics = read_or_none(pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3, handle)
    if compute is None and graphics is None:
        return None
    return tuple(sorted({int(process.pid) for process in (*(compute or ()), *(graphics or ()))}))
