"""Host facts, on this machine and on machines laid out in a folder."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusched.agent import host
from gpusched.agent.declared import declare_devices
from gpusched.agent.facts import Declared, read_facts
from gpusched.agent.sysfs import parse_cpu_list
from gpusched.domain.errors import Broken, HeadUnavailable, InvalidSpec
from gpusched.domain.ids import NodeName

NODE = NodeName("n0")


def lay_out(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


# ── CPUs ──────────────────────────────────────────────────────────────────────────────


def test_schedulable_cpus_are_those_of_the_affinity_mask() -> None:
    whole = os.sched_getaffinity(0)
    one = min(whole)
    os.sched_setaffinity(0, {one})
    try:
        assert host.grant_cpus(None) == host.CpuGrant((one,), pinnable=True)
    finally:
        os.sched_setaffinity(0, whole)


def test_fewer_declared_cpus_are_the_first_real_ones() -> None:
    assert host.grant_cpus(1) == host.CpuGrant((min(os.sched_getaffinity(0)),), pinnable=True)


def test_more_declared_cpus_than_exist_cannot_be_pinned_to() -> None:
    count = len(os.sched_getaffinity(0)) + 1
    assert host.grant_cpus(count) == host.CpuGrant(tuple(range(count)), pinnable=False)


@pytest.mark.parametrize("count", [0, -1, 65_537])
def test_absurd_cpu_counts_are_refused(count: int) -> None:
    with pytest.raises(InvalidSpec, match="cpus: "):
        host.grant_cpus(count)


@given(st.sets(st.integers(0, 300)))
def test_a_kernel_cpu_list_reads_back(cpus: set[int]) -> None:
    ranges: list[list[int]] = []
    for cpu in sorted(cpus):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    text = ",".join(f"{a}" if a == b else f"{a}-{b}" for a, b in ranges) + "\n"
    assert parse_cpu_list(text) == tuple(sorted(cpus))


def test_numa_nodes_keep_their_numbers_where_one_is_missing(tmp_path: Path) -> None:
    node = "sys/devices/system/node"
    root = lay_out(
        tmp_path,
        {f"{node}/online": "0,2\n", f"{node}/node0/cpulist": "0-3,8-11\n", f"{node}/node2/cpulist": "4-7\n"},
    )
    assert host.read_numa_cpu_ids(root) == ((0, 1, 2, 3, 8, 9, 10, 11), (), (4, 5, 6, 7))
    assert host.read_numa_cpu_ids(tmp_path / "nowhere") == ()


# ── memory ────────────────────────────────────────────────────────────────────────────


def test_memory_is_the_machines_where_no_cgroup_limits_it(tmp_path: Path) -> None:
    assert host.grant_memory(None, tmp_path) == psutil.virtual_memory().total


def test_the_tightest_cgroup_v2_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "0::/slurm/job_7\n",
            "sys/fs/cgroup/slurm/memory.max": "1048576000\n",
            "sys/fs/cgroup/slurm/job_7/memory.max": "max\n",
        },
    )
    assert host.grant_memory(None, root) == 1_048_576_000


def test_a_cgroup_v1_limit_counts_and_its_unlimited_value_does_not(tmp_path: Path) -> None:
    v1 = "sys/fs/cgroup/memory"
    root = lay_out(
        tmp_path,
        {
            "proc/self/cgroup": "9:name=systemd:/\n4:memory:/box\n1:cpu,cpuacct:/\n0::/\n",
            f"{v1}/memory.limit_in_bytes": "9223372036854771712\n",
            f"{v1}/box/memory.limit_in_bytes": "734003200\n",
        },
    )
    assert host.grant_memory(None, root) == 734_003_200
    lay_out(tmp_path, {f"{v1}/box/memory.limit_in_bytes": "9223372036854771712\n"})
    assert host.grant_memory(None, root) == psutil.virtual_memory().total


def test_declared_memory_wins_over_the_measured() -> None:
    assert host.grant_memory(4 * 1024**4) == 4 * 1024**4


@pytest.mark.parametrize("size", [0, -5, 1_000])
def test_absurd_declared_memory_is_refused(size: int) -> None:
    with pytest.raises(InvalidSpec, match="1 MiB or more"):
        host.grant_memory(size)


# ── network, kernel ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("head", ["unix:/run/head.sock", "127.0.0.1:7070", "localhost:7070"])
def test_a_head_on_this_machine_is_reached_over_lo(head: str) -> None:
    assert host.find_route(head) == host.Route("127.0.0.1", "lo")


def test_the_route_to_an_own_address_holds_an_address_of_its_interface() -> None:
    for interface in host.list_interfaces():
        for address in interface.addresses:
            if interface.is_up and ":" not in address:
                assert host.find_route(f"{address}:7070").address == address


def test_every_interface_is_listed_once_with_ip_addresses_only() -> None:
    found = host.list_interfaces()
    assert [interface.name for interface in found] == sorted(psutil.net_if_addrs())
    for interface in found:
        for address in interface.addresses:
            socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def test_a_head_whose_name_does_not_resolve_is_unavailable() -> None:
    with pytest.raises(HeadUnavailable, match=r"no way to the head at head\.invalid:7070"):
        host.find_route("head.invalid:7070")


def test_a_missing_proc_is_said_and_not_papered_over(tmp_path: Path) -> None:
    with pytest.raises(Broken, match="boot_id"):
        host.read_boot_id(tmp_path)


# ── all of it ─────────────────────────────────────────────────────────────────────────


def test_facts_join_host_and_devices_and_do_not_change_between_two_readings() -> None:
    devices = declare_devices("2xL4", NODE)

    def read() -> object:
        return read_facts(NODE, "127.0.0.1:7070", devices=devices, agent_version="1.2.3")

    facts = read_facts(
        NODE,
        "127.0.0.1:7070",
        devices=devices,
        agent_version="1.2.3",
        declared=Declared(cpus=1_000, memory_bytes=512 * 1024**3),
    )
    assert (facts.name, facts.agent_version, facts.devices) == (NODE, "1.2.3", devices)
    assert (facts.cpu_ids, facts.cpus_pinnable) == (tuple(range(1_000)), False)
    assert facts.memory_bytes == 512 * 1024**3
    assert (facts.address, facts.interface) == ("127.0.0.1", "lo")
    assert facts.kernel == os.uname().release
    assert facts.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert read() == read()
