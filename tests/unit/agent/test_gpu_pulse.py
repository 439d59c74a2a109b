"""What a GPU's time busy and power say of the rank that holds it. Power figures are an H100's in kind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from gpusched.agent.pulse import Pulses, WatchedRank
from gpusched.agent.shim.proc import Process, read_process
from gpusched.domain.ids import AttemptId, DeviceUuid, Epoch, JobId
from gpusched.domain.pulse import GpuPulse, QuietRank
from gpusched.domain.telemetry import DeviceSample

GPU = DeviceUuid("GPU-1")


@pytest.fixture
def spinner() -> Iterator[Process]:
    """A process whose CPU is busy all the time."""
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", "while True: pass"]) as child:
        yield now(child.pid)
        child.kill()


def now(pid: int) -> Process:
    process = read_process(pid)
    assert process is not None
    return process


def looks(spinner: Process, *seen: tuple[float | None, float | None]) -> list[tuple[QuietRank, ...]]:
    """One look per (percent busy, watts) at a rank that spins meanwhile; a second apart by its own clock."""
    rank = WatchedRank(
        attempt_id=AttemptId(JobId(1), Epoch(1)),
        global_rank=0,
        pid=spinner.pid,
        start_ticks=spinner.start_ticks,
        output_bytes=0,
        devices=(GPU,),
    )
    pulses, found = Pulses(), []
    for second, (busy, watts) in enumerate(seen):
        sample = DeviceSample(uuid=GPU, busy_percent=busy, power_w=watts)
        ticks = now(spinner.pid).cpu_ticks
        while now(spinner.pid).cpu_ticks < ticks + 3:  # more than CPU_SHARE_MIN of a second
            pass
        found.append(pulses.look((rank,), (sample,), float(second)))
    return found


def test_a_gpu_that_computes_is_work(spinner: Process) -> None:
    assert looks(spinner, (100, 650), (100, 640), (100, 655))[1:] == [(), ()]


def test_a_gpu_that_is_busy_on_little_and_flat_power_waits_and_its_rank_is_quiet_since(
    spinner: Process,
) -> None:
    *_, last = looks(spinner, (100, 650), (100, 640), (100, 180), (100, 182), (100, 181))
    (rank,) = last
    assert rank.gpu is GpuPulse.SPINS
    assert rank.quiet_s == 2.0


def test_steady_training_on_little_power_is_not_taken_for_waiting(spinner: Process) -> None:
    assert looks(spinner, *[(100, 180.0)] * 5)[1:] == [()] * 4


def test_an_idle_gpu_leaves_the_judgement_to_the_cpu(spinner: Process) -> None:
    assert looks(spinner, (0, 70), (0, 70), (0, 70))[1:] == [(), ()]


def test_a_gpu_that_cannot_be_read_counts_as_work(spinner: Process) -> None:
    assert looks(spinner, (None, None), (None, None))[1:] == [()]
