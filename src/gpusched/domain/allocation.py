"""A grant: these devices and CPUs, to this attempt, from then until released."""

from __future__ import annotations

from dataclasses import dataclass

from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.node import WHOLE_MILLI


@dataclass(frozen=True, slots=True)
class GrantedDevice:
    """One device of a grant, with what later readers need though the device may be gone by then."""

    uuid: DeviceUuid
    model: str
    declared: bool
    milli: int = WHOLE_MILLI  # the thousandths of it that are granted


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeAllocation:
    """One node's part. Its position in ``Allocation.nodes`` is its node rank."""

    node: NodeName
    address: str
    interface: str | None
    devices: tuple[GrantedDevice, ...]  # local rank i uses the i-th share
    cpu_ids: tuple[int, ...]
    cpus_pinnable: bool
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Allocation:
    """Everything granted to one attempt. ``nodes`` is in rank order.

    Together with the spec this is all that a LaunchPlan is made from, so the plan of any
    past attempt can be made again and shown.
    """

    nodes: tuple[NodeAllocation, ...]
    master_port: int  # leased on ``nodes[0]`` for as long as the allocation lives
    granted_at_us: int

    @property
    def device_count(self) -> int:
        """Devices over all nodes, whole or shared."""
        return sum(len(part.devices) for part in self.nodes)
