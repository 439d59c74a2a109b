"""S4: a racer swaps a rank's output for links and devices while it is read; nothing else comes back."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cluster import temporary_home, until
from benchmarks.report import Figure, Measured, at_least, at_most, run_benchmark
from gpusched.agent.attempt_dir import attempt_dir, attempts_folder, write_order
from gpusched.agent.logs import last_lines, read_logs
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.order import Order
from gpusched.agent.shim.output import RankOutput, segment_path
from gpusched.domain.identity import Identity
from gpusched.domain.ids import AttemptId, Epoch, JobId, NodeName
from gpusched.domain.job_spec import WarningSignal
from gpusched.domain.launch_plan import NodeLaunch, TaskLaunch
from gpusched.domain.logs import LogQuery, LogSource

CANARY = b"the canary of another user\n"
WRITTEN = b"what was written\n"
NODE = NodeName("n")
SWAPS = ("symlink", "hard link", "FIFO", "symlink to a device", "socket")


@dataclass(frozen=True, slots=True)
class Sizes:
    """Reads and swaps: at least so many of each."""

    rounds: int = 100_000


FULL = Sizes()
QUICK = Sizes(rounds=300)


def measure(sizes: Sizes) -> Measured:
    """Measure what leaks to readers of output that is swapped under their hands."""
    seen: Counter[bytes] = Counter()
    refused = 0
    with temporary_home() as home:
        canary = home / "canary"
        canary.write_bytes(CANARY)
        files = attempt_with_output(home)
        with _racer(files, canary) as swaps:
            while sum(seen.values()) + refused < sizes.rounds or swaps.value < sizes.rounds:
                for read in (_last_lines, _streamed, _stacks):
                    try:
                        seen[read(home, files)] += 1
                    except OSError:
                        refused += 1
            swapped = swaps.value
        changed = canary.read_bytes() != CANARY or canary.lstat().st_nlink > 2
    leaked = sum(len(data) * times for data, times in seen.items() if data not in (b"", WRITTEN))
    figures = [
        Figure("swaps of a rank's output", swapped, "", at_least(sizes.rounds)),
        Figure("reads meanwhile", sum(seen.values()) + refused, "", at_least(sizes.rounds)),
        Figure("reads that found the output", seen[WRITTEN], "", at_least(1)),
        Figure("reads that were refused", refused, ""),
        Figure("bytes read that were not output", leaked, "bytes", at_most(0)),
        Figure("foreign files changed", int(changed), "", at_most(0)),
    ]
    return Measured(figures, {"read": {str(data[:40]): times for data, times in seen.items()}})


def attempt_with_output(home: Path) -> AttemptDir:
    """An attempt of one rank that has written one line, and its stacks."""
    attempts_folder(home).mkdir()
    files = attempt_dir(home, AttemptId(JobId(1), Epoch(1)))
    task = TaskLaunch(global_rank=0, local_rank=0, argv=("x",), env=(), cpu_ids=(), devices=())
    launch = NodeLaunch(
        job_id=JobId(1),
        epoch=Epoch(1),
        node=NODE,
        node_rank=0,
        owner=Identity("me", os.getuid(), os.getgid()),
        workdir="/",
        tasks=(task,),
        devices=(),
        script=None,
        time_limit_s=None,
        signal=WarningSignal(),
        kill_wait_s=1,
        log_cap_bytes=1 << 20,
    )
    write_order(files, Order(boot_id="b", token="t", cgroup_parent=None, launch=launch))
    files.rank_logs(0).mkdir(parents=True)
    output = RankOutput(files.rank_logs(0), 1 << 20)
    output.write(WRITTEN, 1)
    output.close()
    files.stacks.mkdir()
    files.rank_stacks(0).write_bytes(WRITTEN)
    return files


def swap(kind: str, path: Path, canary: Path) -> None:
    """Put something else in the place of ``path``, at once as far as that can be done."""
    new = path.with_name("new")
    match kind:
        case "symlink":
            new.symlink_to(canary)
        case "symlink to a device":
            new.symlink_to("/dev/zero")
        case "hard link":
            new.hardlink_to(canary)
        case "FIFO":
            os.mkfifo(new)
        case "folder":
            path.unlink()
            path.mkdir()
            return
        case "socket":
            with socket.socket(socket.AF_UNIX) as bound:
                bound.bind(str(new))
    new.rename(path)


@contextmanager
def _racer(files: AttemptDir, canary: Path) -> Iterator[multiprocessing.sharedctypes.Synchronized[int]]:
    """A process that swaps as fast as it can. Yields how often it has."""
    context = multiprocessing.get_context("spawn")
    swaps = context.Value("q", 0)
    racer = context.Process(target=_race, args=(files, canary, swaps))
    racer.start()
    try:
        until(lambda: swaps.value > 0, "the first swap")
        yield swaps
    finally:
        racer.terminate()
        racer.join()


def _race(files: AttemptDir, canary: Path, swaps: multiprocessing.sharedctypes.Synchronized[int]) -> None:
    paths = (segment_path(files.rank_logs(0), 0), files.rank_stacks(0))
    while True:
        for kind in SWAPS:
            for path in paths:
                swap(kind, path, canary)
                honest = path.with_name("honest")
                honest.write_bytes(WRITTEN)
                honest.rename(path)
                swaps.value += 1


def _last_lines(_: Path, files: AttemptDir) -> bytes:
    return "".join(f"{line}\n" for line in last_lines(files, 0, 10)).encode()


def _streamed(home: Path, _: AttemptDir) -> bytes:
    return asyncio.run(_read(home, LogQuery(job_id=JobId(1), epoch=Epoch(1))))


def _stacks(home: Path, _: AttemptDir) -> bytes:
    return asyncio.run(_read(home, LogQuery(job_id=JobId(1), epoch=Epoch(1), source=LogSource.STACKS)))


async def _read(home: Path, query: LogQuery) -> bytes:
    return b"".join([chunk.data async for chunk in read_logs(home, NODE, query)])


if __name__ == "__main__":
    sys.exit(run_benchmark("fuzz.swaps", measure, full=FULL, quick=QUICK))
