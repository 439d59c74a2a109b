"""A line in the kernel's log takes the device out; a log without faults takes nothing out (R17).

python -m torture.health --out FILE
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from fakes.nvml.build import build_fake_nvml, with_fake_nvml
from fakes.nvml.machines import Machine, hgx_a100, write_state

from benchmarks.cluster import Head, running_agents, running_head, temporary_home, until
from benchmarks.report import Figure, Measured, at_most, percentile, run_benchmark, say
from gpusched.domain.ids import NodeName
from gpusched.domain.node import Node, Schedulability
from gpusched.wire.client import Client

CLEAN = (
    "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  570.124.06",
    'level=info msg="exec" containerBoxID=Xid79Xid',
    "Xid 79 is what a careless pattern would find here",
    "NVRM: Xid (PCI:{bus}): 43, pid=77, name=python, Ch 00000008",
    "NVRM: Xid (PCI:{bus}): 31, pid=78, name=python, MMU Fault",
    "nvidia-nvlink: Nvlink Core is being initialized, major device number 240",
    "pcieport 0000:00:01.0: AER: Corrected error received",
)

RESETTING = (46, 62, 64, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158)
"""Xids whose action is a reset: each of one device is told again after a minute only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How often."""

    faults: int = 100
    clean_lines: int = 100_000


QUICK = Sizes(faults=3, clean_lines=700)


def measure(sizes: Sizes) -> Measured:
    """Write lines into what the agent takes for the kernel's log, and watch what the head makes of them."""
    machine = hgx_a100()
    with tempfile.TemporaryDirectory(prefix="gst-") as name, temporary_home() as home:
        folder = Path(name)
        os.mkfifo(folder / "kmsg")
        lines = [f'kmsg = "{folder}/kmsg"', "disks = []", 'reset = ["/bin/true", "{device}"]']
        (folder / "health.toml").write_text("\n".join(lines))
        library = build_fake_nvml(folder / "nvml")
        settings = with_fake_nvml(os.environ, library, write_state(machine, folder / "state"))
        options = ("--cpus", "4", "--health", str(folder / "health.toml"))
        with (
            running_head(Head(home)) as head,
            running_agents(head, ("n1",), *options, settings=settings),
            head.client() as client,
        ):
            wrong = _play_clean_log(client, folder / "kmsg", machine, sizes.clean_lines)
            seconds = [_time_fault(client, folder / "kmsg", machine, n) for n in range(sizes.faults)]
    worst_s = percentile(seconds, 100)
    said = f"{wrong} outages by {sizes.clean_lines} clean lines"
    say(f"R17 {sizes.faults} faults: out in {worst_s:.2f} s at most; {said}")
    return Measured(
        [
            Figure(f"outages by {sizes.clean_lines} lines of a clean log", wrong, "outages", at_most(0)),
            Figure(f"line in the log to device out, worst of {sizes.faults}", worst_s, "s", at_most(5)),
        ]
    )


def _play_clean_log(client: Client, kmsg: Path, machine: Machine, lines: int) -> int:
    """How much is out after a log without faults."""
    with kmsg.open("w", encoding="utf-8") as log:
        for seq in range(lines):
            text = CLEAN[seq % len(CLEAN)].format(bus=_bus(machine, seq % len(machine.gpus)))
            log.write(f"6,{seq},{seq},-;{text}\n")
        log.write(f"6,{lines},{lines},-;NVRM: Xid (PCI:{_bus(machine, 0)}): 92, the last line\n")

    def has_read_it() -> bool:
        return any(finding.condition.code == 92 for finding in _node(client).health.findings)

    until(has_read_it, "the end of the clean log")
    node = _node(client)
    return len(node.health.outages) + (node.schedulability is not Schedulability.OPEN)


def _time_fault(client: Client, kmsg: Path, machine: Machine, number: int) -> float:
    """Seconds from the line to the device being out; it is reset and back before this returns."""
    gpu = number % len(machine.gpus)
    code = RESETTING[number // len(machine.gpus) % len(RESETTING)]
    before = _node(client).health.repairs
    began_s = time.monotonic()
    with kmsg.open("w", encoding="utf-8") as log:
        log.write(f"3,{number},1,-;NVRM: Xid (PCI:{_bus(machine, gpu)}): {code}, pid=1, a fault\n")
    until(lambda: _node(client).health.repairs > before, "the outage")
    took_s = time.monotonic() - began_s
    until(lambda: not _node(client).health.outages, "the return")
    return took_s


def _node(client: Client) -> Node:
    return client.nodes.get(NodeName("n1")).node


def _bus(machine: Machine, index: int) -> str:
    """As the driver writes it: 0000:3b:00."""
    bus_id = machine.gpus[index].bus_id
    assert bus_id is not None
    return bus_id.lower().removeprefix("0000").rpartition(".")[0]


if __name__ == "__main__":
    sys.exit(run_benchmark("health", measure, full=Sizes(), quick=QUICK))
