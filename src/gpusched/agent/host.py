"""What this machine is besides its GPUs: CPUs, memory, NUMA, kernel, and its way to the head.

Linux only. ``root`` is ``/`` except in tests, which lay out a machine of their own.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

from gpusched.agent.sysfs import parse_cpu_list, read_text
from gpusched.domain.errors import Broken, HeadUnavailable, InvalidSpec, Violation

LOOPBACK = "127.0.0.1"
DISCARD_PORT = 9  # RFC 863; nothing is ever sent to it
CPUS_MAX = 65_536
MEMORY_MIN_BYTES = 1024**2


@dataclass(frozen=True, slots=True)
class Route:
    """Where other nodes reach this one: the address that its packets to the head carry."""

    address: str
    interface: str | None


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface and its IP addresses, without scope suffixes."""

    name: str
    addresses: tuple[str, ...]
    is_up: bool


@dataclass(frozen=True, slots=True)
class CpuGrant:
    """The CPUs that jobs may be given. Those that are only declared cannot be pinned to."""

    cpu_ids: tuple[int, ...]
    pinnable: bool


def read_boot_id(root: Path = Path("/")) -> str:
    """The kernel's random id of this boot (random(4)); a new one means every process is gone.

    Raises:
        Broken: /proc is not mounted.
    """
    boot_id = read_text(root / "proc/sys/kernel/random/boot_id")
    if not boot_id:
        raise Broken("cannot read /proc/sys/kernel/random/boot_id: mount /proc for the agent")
    return boot_id


def read_kernel() -> str:
    """The kernel release, ``6.1.0-18-amd64``."""
    return os.uname().release


def grant_cpus(declared: int | None) -> CpuGrant:
    """The first ``declared`` schedulable CPUs, or all of them for None.

    A process's affinity mask never leaves the cpuset of its cgroup (cpuset(7)), so the mask alone
    honours both. More CPUs than that are numbered from 0 and cannot be pinned to.

    Raises:
        InvalidSpec: ``declared`` is not between 1 and 65,536.
    """
    present = tuple(sorted(os.sched_getaffinity(0)))
    if declared is None:
        return CpuGrant(present, pinnable=True)
    if not 1 <= declared <= CPUS_MAX:
        raise _refusal("cpus", f"{declared} CPUs cannot be declared; declare from 1 to {CPUS_MAX}")
    if declared <= len(present):
        return CpuGrant(present[:declared], pinnable=True)
    return CpuGrant(tuple(range(declared)), pinnable=False)


def grant_memory(declared_bytes: int | None, root: Path = Path("/")) -> int:
    """Bytes that jobs may be given: as declared, else the machine's or its cgroup's, if less.

    Raises:
        InvalidSpec: Less than 1 MiB is declared.
    """
    if declared_bytes is None:
        total = int(psutil.virtual_memory().total)
        limit = read_cgroup_memory_max(root)
        return total if limit is None else min(total, limit)
    if declared_bytes < MEMORY_MIN_BYTES:
        raise _refusal("memory", f"{declared_bytes} bytes of memory are declared; declare 1 MiB or more")
    return declared_bytes


def grant_disk(declared_bytes: int | None, scratch: Path = Path("/tmp")) -> int:  # noqa: S108
    """Bytes of local disk that jobs may be given: as declared, else of the file system of ``scratch``.

    Its whole size, as what is free on it changes all the time. Nothing keeps a job to what it was given.

    Raises:
        InvalidSpec: Less than none is declared.
    """
    if declared_bytes is None:
        return int(psutil.disk_usage(str(scratch)).total)
    if declared_bytes < 0:
        raise _refusal("disk", f"{declared_bytes} bytes of disk are declared; declare 0 or more")
    return declared_bytes


def read_cgroup_memory_max(root: Path = Path("/")) -> int | None:
    """The tightest memory limit on this process's cgroup and those above it; None if there is none.

    Reads v2 ``memory.max`` and v1 ``memory.limit_in_bytes``
    (kernel documentation: admin-guide/cgroup-v2 and admin-guide/cgroup-v1/memory).
    """
    limits: list[int] = []
    for line in (read_text(root / "proc/self/cgroup") or "").splitlines():
        number, controllers, inside = line.split(":", 2)
        if number == "0" and controllers == "":
            top, name = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        parts = Path(inside.lstrip("/")).parts
        folders = [top.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
        texts = (read_text(folder / name) for folder in folders)
        limits.extend(int(text) for text in texts if text is not None and text.isdigit())
    return min(limits, default=None)


def read_numa_cpu_ids(root: Path = Path("/")) -> tuple[tuple[int, ...], ...]:
    """CPUs of each NUMA node, by node number; empty for a number that is not there."""
    nodes = root / "sys/devices/system/node"
    numbers = parse_cpu_list(read_text(nodes / "online") or "")
    lists = {number: read_text(nodes / f"node{number}/cpulist") for number in numbers}
    return tuple(parse_cpu_list(lists.get(number) or "") for number in range(max(numbers, default=-1) + 1))


def list_interfaces() -> tuple[Interface, ...]:
    """Every network interface with its IPv4 and IPv6 addresses, by name."""
    states = psutil.net_if_stats()
    return tuple(
        Interface(
            name,
            tuple(
                entry.address.partition("%")[0]
                for entry in entries
                if entry.family in (socket.AF_INET, socket.AF_INET6)
            ),
            is_up=name in states and states[name].isup,
        )
        for name, entries in sorted(psutil.net_if_addrs().items())
    )


def find_route(head: str) -> Route:
    """The address and interface with which this machine reaches ``head``.

    Asks the kernel's routing table by connecting a UDP socket, which sends nothing.

    Args:
        head: ``host:port``, ``[v6]:port``, or ``unix:<path>``, which is this machine itself.

    Raises:
        HeadUnavailable: The host has no address, or no route leads there.
    """
    if head.startswith("unix:"):
        return Route(LOOPBACK, _interface_with(LOOPBACK))
    host, port = _split(head)
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(target)
            address = str(probe.getsockname()[0]).partition("%")[0]
    except OSError as error:
        raise HeadUnavailable(
            f"no way to the head at {head}: {error}; check the name and the network"
        ) from error
    return Route(address, _interface_with(address))


def _split(head: str) -> tuple[str, int]:
    host, colon, port = head.rpartition(":")
    if not colon or not port.isdigit():
        host, port = head, str(DISCARD_PORT)
    return host.strip("[]"), int(port)


def _interface_with(address: str) -> str | None:
    return next((found.name for found in list_interfaces() if address in found.addresses), None)


def _refusal(field: str, message: str) -> InvalidSpec:
    return InvalidSpec((Violation(field, message),))
