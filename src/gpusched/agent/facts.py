"""Put together what an agent says of its machine when it connects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gpusched.agent.host import (
    find_route,
    grant_cpus,
    grant_disk,
    grant_memory,
    read_boot_id,
    read_kernel,
    read_numa_cpu_ids,
)
from gpusched.domain.ids import NodeName
from gpusched.domain.node import Device, NodeFacts


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """What the operator says of the machine instead of what is measured; None: measure."""

    cpus: int | None = None
    memory_bytes: int | None = None
    labels: tuple[tuple[str, str], ...] = ()
    disk_bytes: int | None = None
    gres: tuple[tuple[str, int], ...] = ()


def read_facts(
    name: NodeName,
    head: str,
    *,
    devices: Sequence[Device],
    agent_version: str,
    declared: Declared | None = None,
) -> NodeFacts:
    """Read the host and join it with its devices.

    Two calls on an unchanged machine return equal facts: nothing here varies with load.

    Args:
        name: The node's name in the cluster.
        head: Where the head is, as ``find_route`` takes it.
        devices: From ``NvmlReader.scan`` or ``declare_devices``.
        agent_version: Version of gpusched.
        declared: What overrides the measured host.

    Raises:
        InvalidSpec: A declared size is absurd.
        HeadUnavailable: No route leads to the head.
    """
    declared = declared or Declared()
    cpus = grant_cpus(declared.cpus)
    memory_bytes = grant_memory(declared.memory_bytes)
    route = find_route(head)
    return NodeFacts(
        name=name,
        boot_id=read_boot_id(),
        agent_version=agent_version,
        address=route.address,
        interface=route.interface,
        cpu_ids=cpus.cpu_ids,
        cpus_pinnable=cpus.pinnable,
        memory_bytes=memory_bytes,
        devices=tuple(devices),
        kernel=read_kernel(),
        numa_cpu_ids=read_numa_cpu_ids(),
        labels=declared.labels,
        disk_bytes=grant_disk(declared.disk_bytes),
        gres=declared.gres,
    )
