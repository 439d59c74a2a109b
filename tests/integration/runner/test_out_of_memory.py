"""Ranks that the kernel killed for lack of memory are told from those that somebody killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.runner.rig import Node, launch_of, python, shell

from gpusched.agent.shim.oom import OomWitness
from gpusched.agent.shim.record import RankRecord
from gpusched.domain.events import TaskFailed
from gpusched.domain.job_state import EndReason

EATS = "with open('{}', 'w') as f: f.write('0')\nx = bytearray(1 << 30)"


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group of 64 MiB. What is in it may be killed; it is no attempt's own."""
    v1, v2 = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
    parent, limit = (v1, "memory.limit_in_bytes") if v1.is_dir() else (v2, "memory.max")
    path = parent / f"gpusched-test-{os.getpid()}"
    try:
        path.mkdir()
        (path / limit).write_text(str(64 << 20))
    except OSError:
        pytest.skip("this machine lets us limit no memory; the kernel's words below stand for it")
    yield path
    path.rmdir()


async def failure(node: Node, code: str, *, in_shell: bool) -> TaskFailed:
    assert node.runner is not None
    rank = shell(f'python3 -c "{code}"; exit $?') if in_shell else python(code)
    await node.runner.launch(launch_of(rank))
    fact = await node.report(TaskFailed)
    assert isinstance(fact, TaskFailed)
    return fact


@pytest.mark.parametrize("in_shell", [False, True])
async def test_a_rank_that_ate_more_than_there_is_ended_out_of_memory(
    node: Node, small_group: Path, in_shell: bool
) -> None:
    fact = await failure(node, EATS.format(small_group / "cgroup.procs"), in_shell=in_shell)
    assert fact.cause is EndReason.OUT_OF_MEMORY


async def test_a_rank_that_somebody_killed_did_not(node: Node) -> None:
    fact = await failure(node, "import os; os.kill(os.getpid(), 9)", in_shell=False)
    assert (fact.exit.signal, fact.cause) == (signal.SIGKILL, None)


@pytest.fixture
def kmsg(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "kmsg")
    return tmp_path / "kmsg"


def ended(**how: int) -> RankRecord:
    return RankRecord(global_rank=0, pid=4711, start_ticks=1, **how)


@pytest.mark.parametrize(
    ("pid", "uid", "rank", "is_oom"),
    [
        (4711, 1000, ended(signal=9), True),
        (4712, 1000, ended(signal=9), False),  # another process was killed for memory
        (4711, 1001, ended(signal=9), False),  # so was a namesake of another user
        (4711, 1000, ended(signal=15), False),
        (4712, 1000, ended(exit_code=137), True),  # a shell whose child was killed
        (4712, 1001, ended(exit_code=137), False),
        (4712, 1000, ended(exit_code=1), False),
    ],
)
def test_the_kernels_log_tells_whom_it_killed(
    kmsg: Path, pid: int, uid: int, rank: RankRecord, is_oom: bool
) -> None:
    fd = os.open(kmsg, os.O_RDWR)
    witness = OomWitness(1000, kmsg)
    os.write(fd, f"3,701,1544,-;Out of memory: Killed process {pid} (py) total-vm:1kB, UID:{uid} x".encode())
    assert witness.has_seen_end_of(rank, None) is is_oom
    os.close(fd)


def test_without_a_log_nothing_is_claimed(tmp_path: Path) -> None:
    assert not OomWitness(1000, tmp_path / "missing").has_seen_end_of(ended(signal=9), None)


@pytest.mark.parametrize("name", ["memory.events", "memory.oom_control"])
@pytest.mark.parametrize(("count", "is_oom"), [(0, False), (2, True)])
def test_the_count_of_the_attempts_own_group_tells_of_anything_in_it(
    tmp_path: Path, name: str, count: int, is_oom: bool
) -> None:
    (tmp_path / name).write_text(f"oom 7\noom_kill {count}\n")
    witness = OomWitness(1000, tmp_path / "missing")
    assert witness.has_seen_end_of(ended(exit_code=1), tmp_path) is is_oom
