"""A rank that works on a CPU which others fill is not taken for one that has come to a halt."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from benchmarks.cluster import until
from gpusched.agent.pulse import CPU_SHARE_MIN, TICKS_PER_S, Pulses, WatchedRank
from gpusched.agent.shim.proc import Process, read_process
from gpusched.domain.ids import AttemptId, Epoch, JobId
from gpusched.domain.pulse import QuietRank

CPU = min(os.sched_getaffinity(0))
SPINS = "while True: pass"
WAITS = "import time\nwhile True: time.sleep(0.01)"  # as gloo's loop does


@contextmanager
def running(program: str, nice: int = 0) -> Iterator[Process]:
    """A process on the one CPU."""
    begin = f"import os; os.sched_setaffinity(0, [{CPU}]); os.nice({nice})\n"
    with subprocess.Popen([sys.executable, "-I", "-S", "-c", begin + program]) as child:
        try:
            until(lambda: os.sched_getaffinity(child.pid) == {CPU}, "the process to settle")
            yield now(child.pid)
        finally:
            child.kill()


@pytest.fixture(autouse=True)
def crowd() -> Iterator[None]:
    """Three processes that keep the CPU busy."""
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(running(SPINS))
        yield


def now(pid: int) -> Process:
    process = read_process(pid)
    assert process is not None
    return process


def second_look(process: Process) -> tuple[QuietRank, ...]:
    """What a look shows when the process has had some CPU time since the first, and a small share of it.

    It has run just then: the kernel counts a time without a CPU when it is over.
    """
    rank = WatchedRank(
        attempt_id=AttemptId(JobId(1), Epoch(1)),
        global_rank=0,
        pid=process.pid,
        start_ticks=process.start_ticks,
        output_bytes=0,
    )
    pulses, began_s = Pulses(), time.monotonic()
    pulses.look((rank,), (), began_s)
    at_first = last = now(process.pid).cpu_ticks

    def has_just_run_with_a_small_share() -> bool:
        nonlocal last
        before, last = last, now(process.pid).cpu_ticks
        share = (last - at_first) / TICKS_PER_S / (time.monotonic() - began_s)
        return last > before and last - at_first > 1 and share < CPU_SHARE_MIN

    until(has_just_run_with_a_small_share, "a little CPU time")
    return pulses.look((rank,), (), time.monotonic())


def test_a_rank_that_hardly_gets_a_cpu_works() -> None:
    with running(SPINS, nice=19) as starved:
        assert not second_look(starved)


def test_a_rank_that_waits_beside_busy_ones_is_quiet() -> None:
    with running(WAITS) as waiting:
        assert [rank.global_rank for rank in second_look(waiting)] == [0]
