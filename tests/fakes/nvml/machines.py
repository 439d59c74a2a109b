"""Machines for the fake NVML to be: what the driver would say of real ones, written to a state file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

MIB = 1024**2
GIB = 1024**3
SINGLE, MULTIPLE, HOSTBRIDGE, NODE, SYSTEM = 10, 20, 30, 40, 50
AMPERE, HOPPER = 7, 9  # NVML_DEVICE_ARCH_*
NVLINK_3_0, NVLINK_4_0, NVLINK_5_0 = 4, 6, 7  # NVML_NVLINK_VERSION_*
NOT_SUPPORTED, DRIVER_NOT_LOADED, GPU_IS_LOST, VERSION_MISMATCH, UNKNOWN = 3, 9, 15, 18, 999


@dataclass(frozen=True)
class Fails:
    """Instead of a value: the call returns this NVML error code."""

    code: int

    def __str__(self) -> str:
        return f"!{self.code}"


Number = int | Fails | None
Numbers = Sequence[int] | Fails | None


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A MIG slice. None: the driver answers NOT_SUPPORTED."""

    uuid: str
    name: str | None
    memory_total: Number = None
    memory_used: Number = 0
    compute: Numbers = ()


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A card. None: the driver answers NOT_SUPPORTED."""

    uuid: str
    name: str | Fails | None
    bus_id: str | None
    arch: Number = AMPERE
    memory_total: Number = 80 * GIB
    memory_used: Number = 0
    memory_reserved: Number = 600 * MIB
    pcie_gen: Number = 4
    pcie_width: Number = 16
    numa: Numbers = None
    cpus: Numbers = None
    mig: Number = 0
    mig_max: Number = None
    topology: Numbers = None  # level to each card of the machine, by index
    nvlink_version: Number = None
    links: Sequence[str] | None = None  # far end of each: a PCI bus id, "switch" or "off"
    busy: Number = 0
    power_mw: Number = 70_000
    energy_mj: Number = 1_000_000
    temperature: Number = 30
    ecc: Number = 0
    compute: Numbers = ()
    graphics: Numbers = ()
    error: int | None = None  # every call but the one for the handle fails with this code
    handle: Fails | None = None
    remap_pending: Number = 0
    remap_failed: Number = 0
    slowdowns: Number = 0  # nvmlClocksEventReasons
    recovery: Number = 0
    link_errors: Number = 0
    xid: str | None = None  # "79.1": another number after the point is another event
    slices: tuple[Slice, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A driver and its cards. ``init`` and ``count`` make these two calls fail."""

    driver: str | None = "570.124.06"
    init: Fails | None = None
    count: Fails | None = None
    hang: Number = None  # no call returns
    gpus: tuple[Gpu, ...] = field(default=())

    def changed(self, index: int, **changes: object) -> Machine:
        """The same machine with one card changed."""
        card = replace(self.gpus[index], **changes)  # type: ignore[arg-type]
        return replace(self, gpus=(*self.gpus[:index], card, *self.gpus[index + 1 :]))


def write_state(machine: Machine, path: Path) -> Path:
    """Write the state file, whole or not at all, so that a running reader never sees half of it."""
    lines = list(_lines(machine))
    for gpu in machine.gpus:
        lines += ["[gpu]", *_lines(gpu)]
        for part in gpu.slices:
            lines += ["[mig]", *_lines(part)]
    unfinished = path.with_name(path.name + ".new")
    unfinished.write_text("\n".join(lines) + "\n")
    return unfinished.replace(path)


def _lines(thing: Machine | Gpu | Slice) -> Iterable[str]:
    for entry in fields(thing):
        value = getattr(thing, entry.name)
        if value is None or entry.name in ("gpus", "slices"):
            continue
        if isinstance(value, tuple | list | range):
            value = ",".join(map(str, value))
        yield f"{entry.name}={value}"


def _uuid(model: str, index: int) -> str:
    return f"GPU-{model}-0000-4000-8000-{index:012x}"


def _two_socket_topology(index: int, count: int) -> tuple[int, ...]:
    """Neighbours share a PCIe switch, halves share a socket."""
    return tuple(
        0 if other == index
        else SINGLE if other // 2 == index // 2
        else NODE if other // (count // 2) == index // (count // 2)
        else SYSTEM
        for other in range(count)
    )  # fmt: skip


def hgx_h100() -> Machine:
    """8 H100 SXM5 behind NVSwitch, 18 NVLink 4 each; two sockets of 56 cores."""
    return Machine(
        gpus=tuple(
            Gpu(
                uuid=_uuid("11110100", index),
                name="NVIDIA H100 80GB HBM3",
                bus_id=f"00000000:{0x19 + 0x11 * index:02X}:00.0",
                arch=HOPPER,
                memory_total=81_559 * MIB,
                pcie_gen=5,
                numa=(index // 4,),
                cpus=range(56 * (index // 4), 56 * (index // 4) + 56),
                topology=_two_socket_topology(index, 8),
                nvlink_version=NVLINK_4_0,
                links=("switch",) * 18,
            )
            for index in range(8)
        )
    )


def hgx_a100() -> Machine:
    """8 A100 SXM4 behind NVSwitch, 12 NVLink 3 each."""
    return Machine(
        driver="535.183.01",
        gpus=tuple(
            Gpu(
                uuid=_uuid("a1000000", index),
                name="NVIDIA A100-SXM4-80GB",
                bus_id=f"00000000:{0x07 + 8 * index:02X}:00.0",
                memory_total=81_920 * MIB,
                numa=(index // 4,),
                cpus=range(64 * (index // 4), 64 * (index // 4) + 64),
                topology=_two_socket_topology(index, 8),
                nvlink_version=NVLINK_3_0,
                links=("switch",) * 12,
            )
            for index in range(8)
        ),
    )


def pcie_a10() -> Machine:
    """4 A10 on PCIe 4, two per NUMA node; no NVLink, no MIG."""
    return Machine(
        driver="550.54.15",
        gpus=tuple(
            Gpu(
                uuid=_uuid("a10a10a1", index),
                name="NVIDIA A10",
                bus_id=f"00000000:{0x17 + 0x20 * index:02X}:00.0",
                memory_total=23_028 * MIB,
                memory_reserved=450 * MIB,
                numa=(index // 2,),
                cpus=(*range(index // 2, 64, 2),),
                mig=None,
                topology=_two_socket_topology(index, 4),
            )
            for index in range(4)
        ),
    )


def bridged_pairs() -> Machine:
    """4 A100 PCIe whose pairs are joined by NVLink bridges: 12 links, straight from card to card."""
    buses = [f"00000000:{0x21 + 0x20 * index:02X}:00.0" for index in range(4)]
    return Machine(
        gpus=tuple(
            Gpu(
                uuid=_uuid("b21d6ed0", index),
                name="NVIDIA A100 80GB PCIe",
                bus_id=buses[index],
                topology=_two_socket_topology(index, 4),
                nvlink_version=NVLINK_3_0,
                links=(buses[index ^ 1],) * 12,
            )
            for index in range(4)
        )
    )


def split_a100() -> Machine:
    """Two A100: the first split into a 3g.40gb and two 1g.10gb slices, the second whole."""
    slices = (("3g.40gb", 40_192), ("1g.10gb", 9_728), ("1g.10gb", 9_728))
    whole = hgx_a100().gpus[:2]
    first = replace(
        whole[0],
        mig=1,
        mig_max=7,
        busy=None,
        slices=tuple(
            Slice(
                uuid=f"MIG-a1000000-0000-4000-8000-{place:012x}",
                name=f"NVIDIA A100-SXM4-80GB MIG {profile}",
                memory_total=mib * MIB,
                memory_used=mib * MIB // 4,
                compute=(4_000 + place,),
            )
            for place, (profile, mib) in enumerate(slices)
        ),
    )
    return Machine(gpus=(first, whole[1]))


def taciturn() -> Machine:
    """A passed-through card of which the driver tells no more than UUID and name."""
    told = {entry.name: None for entry in fields(Gpu) if entry.name not in ("uuid", "name", "slices")}
    return Machine(
        driver=None, count=None, gpus=(Gpu(uuid=_uuid("0ff0ff00", 0), name="GRID V100D-8Q", **told),)
    )
