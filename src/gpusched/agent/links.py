"""How the GPUs of one node reach each other: NVLink ports, PCIe paths and their bandwidth.

Reading (``read_ports``) asks NVML about one card; joining (``join_peers``) is pure, so a card
that is lost between two questions can only spoil its own answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pynvml

from gpusched.agent.nvml_call import Handle, read_or_none
from gpusched.domain.ids import DeviceUuid
from gpusched.domain.node import PciAncestor, PeerLink

NVLINK_MB_S = {
    pynvml.NVML_NVLINK_VERSION_1_0: 20_000,
    pynvml.NVML_NVLINK_VERSION_2_0: 25_000,
    pynvml.NVML_NVLINK_VERSION_2_2: 25_000,
    pynvml.NVML_NVLINK_VERSION_3_0: 25_000,
    pynvml.NVML_NVLINK_VERSION_3_1: 25_000,
    pynvml.NVML_NVLINK_VERSION_4_0: 25_000,
    pynvml.NVML_NVLINK_VERSION_5_0: 50_000,
}
"""MB/s of one link in one direction, by NVML's version number.

Source: NVIDIA's data sheets give both directions over all links: P100 160 GB/s on 4, V100 300 on 6,
A100 600 on 12, H100 900 on 18, B200 1,800 on 18.
"""

PCIE_LANE_MB_S = {1: 250, 2: 500, 3: 985, 4: 1_969, 5: 3_938, 6: 7_563}
"""MB/s of one lane in one direction, by PCIe generation.

Source: PCI-SIG transfer rates (2.5 to 64 GT/s) after 8b/10b (1, 2), 128b/130b (3 to 5) and FLIT (6) coding.
"""

ANCESTORS = {
    pynvml.NVML_TOPOLOGY_INTERNAL: PciAncestor.INTERNAL,
    pynvml.NVML_TOPOLOGY_SINGLE: PciAncestor.SINGLE_SWITCH,
    pynvml.NVML_TOPOLOGY_MULTIPLE: PciAncestor.MULTI_SWITCH,
    pynvml.NVML_TOPOLOGY_HOSTBRIDGE: PciAncestor.HOST_BRIDGE,
    pynvml.NVML_TOPOLOGY_NODE: PciAncestor.NUMA_NODE,
    pynvml.NVML_TOPOLOGY_SYSTEM: PciAncestor.SYSTEM,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ways out of one card. ``gpu_links`` and ``switch_links`` count active NVLinks."""

    uuid: DeviceUuid
    pci_bus_id: str | None
    gpu_links: tuple[str, ...]  # PCI bus id at the other end, once per link
    switch_links: int
    link_mb_s: int | None
    pcie_mb_s: int | None


def read_ports(handle: Handle, uuid: DeviceUuid, pci_bus_id: str | None) -> Ports:
    """Ask one card for its active NVLinks and its PCIe width.

    Raises:
        DeviceUnreadable: The card does not answer any more.
    """
    active = [
        link
        for link in range(pynvml.NVML_NVLINK_MAX_LINKS)
        if read_or_none(pynvml.nvmlDeviceGetNvLinkState, handle, link)
    ]
    kinds = {link: read_or_none(pynvml.nvmlDeviceGetNvLinkRemoteDeviceType, handle, link) for link in active}
    through_switch = [link for link in active if kinds[link] == pynvml.NVML_NVLINK_DEVICE_TYPE_SWITCH]
    remotes = [
        read_or_none(pynvml.nvmlDeviceGetNvLinkRemotePciInfo, handle, link)
        for link in active
        if link not in through_switch
    ]
    return Ports(
        uuid=uuid,
        pci_bus_id=pci_bus_id,
        gpu_links=tuple(remote.busId.lower() for remote in remotes if remote is not None),
        switch_links=len(through_switch),
        link_mb_s=_read_link_mb_s(handle, active[0]) if active else None,
        pcie_mb_s=_read_pcie_mb_s(handle),
    )


def _read_link_mb_s(handle: Handle, link: int) -> int | None:
    version = read_or_none(pynvml.nvmlDeviceGetNvLinkVersion, handle, link)
    # Some drivers say 5.0 for the links of Hopper, which are 4.0: half as fast.
    if (
        version == pynvml.NVML_NVLINK_VERSION_5_0
        and read_or_none(pynvml.nvmlDeviceGetArchitecture, handle) == pynvml.NVML_DEVICE_ARCH_HOPPER
    ):
        version = pynvml.NVML_NVLINK_VERSION_4_0
    return None if version is None else NVLINK_MB_S.get(version)


def _read_pcie_mb_s(handle: Handle) -> int | None:
    # The most that card and slot can do together: the current speed drops whenever the card idles.
    generation = read_or_none(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, handle)
    width = read_or_none(pynvml.nvmlDeviceGetMaxPcieLinkWidth, handle)
    if generation is None or width is None or generation not in PCIE_LANE_MB_S:
        return None
    return PCIE_LANE_MB_S[generation] * int(width)


def join_peers(
    ports: Sequence[Ports], ancestor_of: Callable[[int, int], PciAncestor | None]
) -> tuple[tuple[PeerLink, ...], ...]:
    """Say for every card how it reaches every other one, in the order of ``ports``.

    NVLink counts where both ends see it: directly by PCI bus id, or through NVSwitch, which gives
    a pair as many links as the card with fewer has. A pair whose bandwidth nothing tells is left out.

    Args:
        ports: One entry per card.
        ancestor_of: How near the cards at two positions are on PCIe.
    """
    return tuple(
        tuple(
            link
            for there, peer in enumerate(ports)
            if there != here
            and (link := _join_pair(own, peer, ancestor=ancestor_of(here, there))) is not None
        )
        for here, own in enumerate(ports)
    )


def _join_pair(own: Ports, peer: Ports, *, ancestor: PciAncestor | None) -> PeerLink | None:
    direct = own.gpu_links.count(peer.pci_bus_id) if peer.pci_bus_id is not None else 0
    nvlinks = direct or min(own.switch_links, peer.switch_links)
    speed = _slower(own.link_mb_s, peer.link_mb_s)
    if nvlinks and speed is not None:
        return PeerLink(peer=peer.uuid, nvlinks=nvlinks, bandwidth_mb_s=nvlinks * speed, ancestor=ancestor)
    path = _slower(own.pcie_mb_s, peer.pcie_mb_s)
    if path is None:
        return None
    return PeerLink(peer=peer.uuid, nvlinks=nvlinks, bandwidth_mb_s=path, ancestor=ancestor)


def _slower(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else min(one, other)
