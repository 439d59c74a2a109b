"""Devices that an operator declares where no NVML stands behind them: ``--devices 4xH100``.

They are labelled ``declared`` and nothing of them is ever measured.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.node import Device, PeerLink
from gpusched.domain.spec_limits import IDENTIFIER, MIG_PROFILE

GIB = 1024**3
DEVICES_MAX = 64  # per node; the largest NVLink servers hold 16
NOTHING = frozenset({"0", "none"})
GROUP = re.compile(r"(?P<count>[0-9]{1,4})x(?P<model>[A-Za-z0-9][A-Za-z0-9 ._-]{0,63})")

LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class Product:
    """What NVML would say of a card of this model. ``nvlinks`` per card over NVSwitch, 0: PCIe only."""

    name: str
    memory_gib: int
    nvlinks: int = 0
    link_mb_s: int = 0  # one link, one direction


PRODUCTS = {
    "V100": Product("Tesla V100-SXM2-32GB", 32, 6, 25_000),
    "V100-16GB": Product("Tesla V100-SXM2-16GB", 16, 6, 25_000),
    "T4": Product("Tesla T4", 16),
    "A100": Product("NVIDIA A100-SXM4-80GB", 80, 12, 25_000),
    "A100-80GB": Product("NVIDIA A100-SXM4-80GB", 80, 12, 25_000),
    "A100-40GB": Product("NVIDIA A100-SXM4-40GB", 40, 12, 25_000),
    "A100-PCIE": Product("NVIDIA A100 80GB PCIe", 80),
    "A10": Product("NVIDIA A10", 24),
    "A30": Product("NVIDIA A30", 24),
    "A40": Product("NVIDIA A40", 48),
    "L4": Product("NVIDIA L4", 24),
    "L40": Product("NVIDIA L40", 48),
    "L40S": Product("NVIDIA L40S", 48),
    "H100": Product("NVIDIA H100 80GB HBM3", 80, 18, 25_000),
    "H100-80GB": Product("NVIDIA H100 80GB HBM3", 80, 18, 25_000),
    "H100-PCIE": Product("NVIDIA H100 PCIe", 80),
    "H200": Product("NVIDIA H200", 141, 18, 25_000),
    "B200": Product("NVIDIA B200", 180, 18, 50_000),
}
"""Names as NVML prints them; sizes and links from NVIDIA's data sheets."""


def declare_devices(text: str, node: NodeName) -> tuple[Device, ...]:
    """Turn ``4xH100`` or ``2xA100-80GB,1xL4`` into devices; ``0`` and ``none`` mean no devices.

    ``7xA100 MIG 1g.10gb`` declares slices. A model that ``PRODUCTS`` does not list keeps the name it was
    given and has no memory size.
    Cards of one group reach each other by NVLink where their model has it; nothing else is made up.

    Raises:
        InvalidSpec: The text does not read as a list of ``<count>x<model>``, or asks for too many.
    """
    if text.strip().lower() in NOTHING:
        return ()
    devices: list[Device] = []
    for part in text.split(","):
        count, model = _parse_group(part.strip(), text)
        if len(devices) + count > DEVICES_MAX:
            raise _refusal(f"{text!r} declares more than {DEVICES_MAX} devices on one node; declare fewer")
        devices.extend(_declare_group(count, model, first=len(devices), node=node))
    return tuple(devices)


def _parse_group(part: str, text: str) -> tuple[int, str]:
    found = GROUP.fullmatch(part)
    if found is None or int(found["count"]) == 0:
        raise _refusal(
            f"{part!r} in {text!r} is not <count>x<model> with a count of at least 1; "
            "write for example 4xH100 or 2xA100-80GB,1xL4, or none for no devices"
        )
    return int(found["count"]), found["model"].strip()


def _declare_group(count: int, model: str, *, first: int, node: NodeName) -> list[Device]:
    model, _, profile = model.partition(" MIG ")
    product = PRODUCTS.get(model.upper())
    name = model if product is None else product.name
    if profile:
        return _declare_slices(count, f"{name} MIG {profile}", profile, first=first, node=node)
    devices = [
        Device(
            uuid=DeviceUuid(f"DECLARED-{node}-{place}"),
            model=name,
            memory_bytes=None if product is None else product.memory_gib * GIB,
            declared=True,
        )
        for place in range(first, first + count)
    ]
    if product is None or product.nvlinks == 0:
        return devices
    return [replace(device, peers=_peers_of(device, devices, product)) for device in devices]


def _declare_slices(count: int, model: str, profile: str, *, first: int, node: NodeName) -> list[Device]:
    if MIG_PROFILE.fullmatch(profile) is None:
        raise _refusal(f"{profile!r} is no MIG profile; write for example 7xA100 MIG 1g.10gb, or 4xH100")
    memory_gib = int(profile.partition("gb")[0].rpartition(".")[2])
    return [
        Device(
            uuid=DeviceUuid(f"DECLARED-{node}-{place}"),
            model=model,
            memory_bytes=memory_gib * GIB,
            declared=True,
            mig_profile=profile,
        )
        for place in range(first, first + count)
    ]


def _peers_of(device: Device, group: list[Device], product: Product) -> tuple[PeerLink, ...]:
    return tuple(
        PeerLink(
            peer=other.uuid,
            nvlinks=product.nvlinks,
            bandwidth_mb_s=product.nvlinks * product.link_mb_s,
            ancestor=None,
        )
        for other in group
        if other.uuid != device.uuid
    )


def _refusal(message: str) -> InvalidSpec:
    return InvalidSpec((Violation("devices", message),))


def share_devices(devices: Sequence[Device]) -> tuple[Device, ...]:
    """Let several jobs hold shares of each whole GPU; a MIG slice stays one job's alone."""
    return tuple(replace(device, shareable=device.mig_profile is None) for device in devices)


def parse_counters(texts: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """Read counters like ``fpga=2``, sorted by name.

    Raises:
        InvalidSpec: One is no NAME=COUNT, or a name is given twice.
    """
    counters: dict[str, int] = {}
    for text in texts:
        name, _, count = text.partition("=")
        if IDENTIFIER.fullmatch(name) is None or not (count.isascii() and count.isdigit() and len(count) < 8):
            raise InvalidSpec((Violation("gres", f"{text!r}: give NAME=COUNT, like fpga=2"),))
        if name in counters:
            raise InvalidSpec((Violation("gres", f"{name} is given twice; keep one"),))
        counters[name] = int(count)
    return tuple(sorted(counters.items()))


def parse_labels(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Read labels like ``rack=r1``, sorted by name.

    Raises:
        InvalidSpec: One is no NAME=VALUE, or a name is given twice.
    """
    labels: dict[str, str] = {}
    for text in texts:
        name, given, value = text.partition("=")
        if not given or LABEL.fullmatch(name) is None or LABEL.fullmatch(value) is None:
            raise InvalidSpec(
                (Violation("label", f"{text!r}: give NAME=VALUE, each of letters, digits, . _ - /"),)
            )
        if name in labels:
            raise InvalidSpec((Violation("label", f"{name} is given twice; keep one"),))
        labels[name] = value
    return tuple(sorted(labels.items()))
