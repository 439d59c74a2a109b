"""Read this machine's GPUs through NVML (pynvml), keyed by UUID. Absent is None, never 0.

Functions and their meaning: NVIDIA, "NVML API Reference Guide", docs.nvidia.com/deploy/nvml-api.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import pynvml

from gpusched.agent.links import ANCESTORS, Ports, join_peers, read_ports
from gpusched.agent.measure import sample_card, sample_slice
from gpusched.agent.nvml_call import DeviceUnreadable, Handle, NvmlBroken, read, read_or_none
from gpusched.agent.sysfs import parse_cpu_list, read_text
from gpusched.domain.ids import DeviceUuid
from gpusched.domain.node import Device, PciAncestor, PeerLink
from gpusched.domain.telemetry import DeviceSample

MIG_MARK = " MIG "  # stands before the profile in NVML's name of a slice: "NVIDIA A100 80GB PCIe MIG 1g.10gb"
NVIDIA_VENDOR = "0x10de"
DISPLAY_CLASS = "0x03"  # PCI class of VGA and 3D controllers
BITS = 64  # of C's ``unsigned long`` in NVML's CPU and NUMA masks, on the 64-bit Linux that we support
CPU_WORDS = 128  # room for 8,192 CPUs, the most that Linux is built for on x86 (Kconfig: NR_CPUS, MAXSMP)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnusableDevice:
    """A GPU that NVML lists and that no job can have, with the reason in words."""

    index: int  # NVML's, only for people to find the card
    uuid: DeviceUuid | None
    reason: str


@dataclass(frozen=True, slots=True)
class DeviceScan:
    """What one look at the machine found, in NVML's order; slices stand where their card would."""

    devices: tuple[Device, ...]
    unusable: tuple[UnusableDevice, ...]


@dataclass(frozen=True, slots=True)
class DeviceReadings:
    """One sample per device of the last scan; those that cannot be read any more are all None."""

    samples: tuple[DeviceSample, ...]
    unusable: tuple[UnusableDevice, ...]


@dataclass(frozen=True, slots=True)
class _Card:
    """A whole GPU as it was read, before its peers are known."""

    index: int
    handle: Handle
    device: Device
    ports: Ports


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the samples of one device come from."""

    index: int
    uuid: DeviceUuid
    handle: Handle
    measure: Callable[[Handle, DeviceUuid], DeviceSample]


def open_nvml(sysfs: Path = Path("/sys")) -> NvmlReader | None:
    """Start NVML, or return None on a machine that has no NVIDIA driver and needs none.

    A driver library without a loaded driver is normal in a container image; it is a fault
    only where an NVIDIA card sits on the PCI bus.

    Raises:
        NvmlBroken: A driver is there and does not start.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND:
            return None
        if error.value == pynvml.NVML_ERROR_DRIVER_NOT_LOADED and not _has_nvidia_card(sysfs):
            return None
        raise NvmlBroken(
            f"NVML does not start: {error}; see whether nvidia-smi works, "
            "or start the agent with --devices none to run without GPUs"
        ) from error
    return NvmlReader(sysfs)


def _has_nvidia_card(sysfs: Path) -> bool:
    return any(
        read_text(card / "vendor") == NVIDIA_VENDOR
        and (read_text(card / "class") or "").startswith(DISPLAY_CLASS)
        for card in (sysfs / "bus/pci/devices").glob("*")
    )


class NvmlReader:
    """A started NVML. Made by ``open_nvml``; leaving its ``with`` block shuts NVML down.

    Not for use from two threads at once.
    """

    def __init__(self, sysfs: Path) -> None:
        self._sysfs = sysfs
        self._sources: tuple[_Source, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the driver; needed before anybody can reset a card."""
        # Nothing is left to do about a driver that refuses, or that was released before.
        with suppress(DeviceUnreadable):
            read(pynvml.nvmlShutdown)

    def reopen(self) -> None:
        """Start the driver again after ``close``, and find its cards anew.

        Raises:
            NvmlBroken: It does not start.
        """
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NvmlBroken(f"NVML does not start again: {error}; see whether nvidia-smi works") from error
        self.scan()

    def scan(self) -> DeviceScan:
        """Find every GPU, or its slices where MIG is on. A card that fails hides no other.

        Raises:
            NvmlBroken: The driver does not even count its cards any more.
        """
        try:
            count = read(pynvml.nvmlDeviceGetCount)
            driver = read_or_none(pynvml.nvmlSystemGetDriverVersion)
        except DeviceUnreadable as error:
            raise NvmlBroken(f"NVML lists no GPUs: {error}") from error
        cards: list[_Card] = []
        unusable: list[UnusableDevice] = []
        for index in range(count):
            uuid = None
            try:
                handle = read(pynvml.nvmlDeviceGetHandleByIndex, index)
                uuid = DeviceUuid(read(pynvml.nvmlDeviceGetUUID, handle))
                cards.append(_read_card(index, handle, uuid, driver=driver, sysfs=self._sysfs))
            except DeviceUnreadable as error:
                unusable.append(UnusableDevice(index=index, uuid=uuid, reason=str(error)))
        devices, sources, refused = _list_devices(cards)
        self._sources = sources
        unusable.extend(refused)
        return DeviceScan(devices, tuple(sorted(unusable, key=lambda card: card.index)))

    def sample(self) -> DeviceReadings:
        """Measure every device of the last scan once."""
        samples: list[DeviceSample] = []
        unusable: list[UnusableDevice] = []
        for source in self._sources:
            try:
                samples.append(source.measure(source.handle, source.uuid))
            except DeviceUnreadable as error:
                samples.append(DeviceSample(uuid=source.uuid))
                unusable.append(UnusableDevice(index=source.index, uuid=source.uuid, reason=str(error)))
        return DeviceReadings(tuple(samples), tuple(unusable))


def _read_card(index: int, handle: Handle, uuid: DeviceUuid, *, driver: str | None, sysfs: Path) -> _Card:
    pci = read_or_none(pynvml.nvmlDeviceGetPciInfo_v3, handle)
    bus_id = None if pci is None else pci.busId.lower()
    folder = None if bus_id is None else sysfs / "bus/pci/devices" / _kernel_bus_id(bus_id)
    mig_mode = read_or_none(pynvml.nvmlDeviceGetMigMode, handle)
    device = Device(
        uuid=uuid,
        model=read(pynvml.nvmlDeviceGetName, handle),
        memory_bytes=_read_memory_total(handle),
        pci_bus_id=bus_id,
        numa_node=_read_numa_node(handle, folder),
        cpu_ids=_read_cpu_ids(handle, folder),
        mig_enabled=None if mig_mode is None else mig_mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE,
        driver_version=driver,
    )
    return _Card(index, handle, device, read_ports(handle, uuid, bus_id))


def _list_devices(
    cards: Sequence[_Card],
) -> tuple[tuple[Device, ...], tuple[_Source, ...], tuple[UnusableDevice, ...]]:
    """Devices with their peers, where to sample them, and cards that MIG leaves without a device."""
    whole = [card for card in cards if not card.device.mig_enabled]

    def ancestor_of(here: int, there: int) -> PciAncestor | None:
        return _read_ancestor(whole[here].handle, whole[there].handle)

    peers = join_peers([card.ports for card in whole], ancestor_of)
    peers_of = {card.index: links for card, links in zip(whole, peers, strict=True)}
    found: list[tuple[Device, _Source]] = []
    refused: list[UnusableDevice] = []
    for card in cards:
        try:
            parts = _read_parts(card, peers_of.get(card.index))
        except DeviceUnreadable as error:
            refused.append(UnusableDevice(index=card.index, uuid=card.device.uuid, reason=str(error)))
        else:
            found.extend(parts)
    return tuple(device for device, _ in found), tuple(source for _, source in found), tuple(refused)


def _read_parts(card: _Card, peers: tuple[PeerLink, ...] | None) -> list[tuple[Device, _Source]]:
    """The card itself with its peers, or (peers None) its MIG slices, which reach no peer by NVLink."""
    whole = card.device
    if peers is not None:
        source = _Source(card.index, whole.uuid, card.handle, sample_card)
        return [(replace(whole, peers=peers), source)]
    parts = []
    for place in range(read_or_none(pynvml.nvmlDeviceGetMaxMigDeviceCount, card.handle) or 0):
        handle = read_or_none(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, card.handle, place)
        if handle is None:
            continue
        uuid = DeviceUuid(read(pynvml.nvmlDeviceGetUUID, handle))
        model = read_or_none(pynvml.nvmlDeviceGetName, handle) or ""
        profile = model.rpartition(MIG_MARK)[2] if MIG_MARK in model else None
        if profile is None:
            raise DeviceUnreadable(f"the driver does not tell the profile of MIG slice {uuid}: update it")
        device = replace(
            whole,
            uuid=uuid,
            model=model,
            memory_bytes=_read_memory_total(handle),
            mig_profile=profile,
            mig_parent=whole.uuid,
        )
        parts.append((device, _Source(card.index, uuid, handle, sample_slice)))
    if not parts:
        raise DeviceUnreadable("MIG is on and the card has no slices: make some, or turn MIG off")
    return parts


def _read_ancestor(here: Handle, there: Handle) -> PciAncestor | None:
    # An error here may be either card's: it costs the pair this one value, and no card its place.
    try:
        level = read_or_none(pynvml.nvmlDeviceGetTopologyCommonAncestor, here, there)
    except DeviceUnreadable:
        return None
    return None if level is None else ANCESTORS.get(level)


def _read_memory_total(handle: Handle) -> int | None:
    memory = read_or_none(pynvml.nvmlDeviceGetMemoryInfo, handle)
    return None if memory is None else int(memory.total)


def _read_numa_node(handle: Handle, folder: Path | None) -> int | None:
    """The NUMA node whose memory is near: NVML's affinity, else the kernel's word.

    Not ``nvmlDeviceGetNumaNodeId``: that names the node which the GPU's own memory *is*
    on coherent machines such as Grace Hopper.
    """
    mask = read_or_none(pynvml.nvmlDeviceGetMemoryAffinity, handle, 1, pynvml.NVML_AFFINITY_SCOPE_NODE)
    near = () if mask is None else _bits(mask)
    if near:
        return near[0]
    text = None if folder is None else read_text(folder / "numa_node")
    # The kernel writes -1 where the firmware does not say.
    return int(text) if text is not None and not text.startswith("-") else None


def _read_cpu_ids(handle: Handle, folder: Path | None) -> tuple[int, ...]:
    mask = read_or_none(pynvml.nvmlDeviceGetCpuAffinity, handle, CPU_WORDS)
    near = () if mask is None else _bits(mask)
    if near or folder is None:
        return near
    return parse_cpu_list(read_text(folder / "local_cpulist") or "")


def _bits(words: Sequence[int]) -> tuple[int, ...]:
    return tuple(
        place * BITS + bit
        for place, word in enumerate(words)
        for bit in range(word.bit_length())
        if word >> bit & 1
    )


def _kernel_bus_id(bus_id: str) -> str:
    """NVML writes eight digits of PCI domain, the kernel at least four."""
    domain, _, rest = bus_id.partition(":")
    return f"{int(domain, 16):04x}:{rest}"
