"""What an idle agent costs the node it serves: eight GPUs read once a second, through the real pynvml.

The driver's library is the tests' fake one (8 H100 behind NVSwitch), so the time inside NVIDIA's
driver is not in the figure; everything of ours is.
"""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass

import psutil

from benchmarks.cluster import Head, running_agents, running_head, temporary_home
from benchmarks.report import Figure, Measured, at_most, run_benchmark, say
from tests.fakes.nvml.build import build_fake_nvml, with_fake_nvml
from tests.fakes.nvml.machines import hgx_h100, write_state

CONFIG = "[engine]\nheartbeat_interval_s = 1.0\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How long the agent is watched, after it was left to settle."""

    settle_s: float = 5.0
    window_s: float = 60.0


def measure(sizes: Sizes) -> Measured:
    """CPU and memory of one agent with 8 GPUs at 1 Hz, no job running."""
    with temporary_home() as home:
        library = build_fake_nvml(home / "nvml")
        environment = with_fake_nvml(os.environ, library, write_state(hgx_h100(), home / "machine"))
        with (
            running_head(Head(home, CONFIG)) as head,
            running_agents(head, ["n1"], settings=environment) as (pid,),
        ):
            _expect_measured_gpus(head)
            return _watch(psutil.Process(pid), sizes)


def _expect_measured_gpus(head: Head) -> None:
    with head.client() as client:
        devices = client.nodes.list()[0].node.facts.devices
    if len(devices) != 8 or any(device.declared for device in devices):
        raise RuntimeError(f"the agent should have read 8 GPUs and has {len(devices)}")


def _watch(agent: psutil.Process, sizes: Sizes) -> Measured:
    # The passage of time is what is measured over: there is no event to wait for.
    passing = threading.Event()
    passing.wait(sizes.settle_s)
    helpers = agent.children(recursive=True)
    say(f"watching the agent and {len(helpers)} helper processes for {sizes.window_s:.0f} s")
    before_s = _cpu_s(agent)
    helpers_before_s = sum(_cpu_s(helper) for helper in helpers)
    passing.wait(sizes.window_s)
    cpu_percent = 100 * (_cpu_s(agent) - before_s) / sizes.window_s
    helpers_percent = 100 * (sum(map(_cpu_s, helpers)) - helpers_before_s) / sizes.window_s
    helpers_mb = sum(helper.memory_full_info().pss for helper in helpers) / 1e6
    return Measured(
        [
            Figure("agent CPU, 8 GPUs at 1 Hz", cpu_percent, "% of a core", at_most(1)),
            Figure("agent RSS, 8 GPUs at 1 Hz", agent.memory_info().rss / 1e6, "MB", at_most(60)),
            Figure("agent's helper processes, CPU", helpers_percent, "% of a core"),
            Figure("agent's helper processes, PSS", helpers_mb, "MB"),
        ],
        {"agent_pss_mb": round(agent.memory_full_info().pss / 1e6, 1)},
    )


def _cpu_s(process: psutil.Process) -> float:
    """User and system seconds so far; to 10 ms, the kernel's tick."""
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    sys.exit(run_benchmark("agent_footprint", measure, full=Sizes(), quick=Sizes(settle_s=1.0, window_s=2.0)))
