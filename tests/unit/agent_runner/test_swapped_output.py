"""S4: whatever lies where a rank's output lay, nothing but that output is ever read."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from gpusched.agent.attempt_dir import attempt_dir, attempts_folder, write_order
from gpusched.agent.logs import last_lines
from gpusched.agent.shim.order import Order
from gpusched.agent.shim.output import RankOutput, segment_path
from gpusched.domain.identity import Identity
from gpusched.domain.ids import AttemptId, Epoch, JobId, NodeName
from gpusched.domain.job_spec import WarningSignal
from gpusched.domain.launch_plan import NodeLaunch, TaskLaunch

CANARY = b"the canary of another user\n"
ROUNDS = 2_000


@pytest.fixture
def files(tmp_path):
    attempts_folder(tmp_path).mkdir()
    files = attempt_dir(tmp_path, AttemptId(JobId(1), Epoch(1)))
    task = TaskLaunch(global_rank=0, local_rank=0, argv=("x",), env=(), cpu_ids=(), devices=())
    launch = NodeLaunch(
        job_id=JobId(1),
        epoch=Epoch(1),
        node=NodeName("n"),
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
    folder = files.rank_logs(0)
    folder.mkdir(parents=True)
    output = RankOutput(folder, 1 << 20)
    output.write(b"what was written\n", 1)
    output.close()
    return files


@pytest.fixture
def canary(tmp_path) -> Path:
    path = tmp_path / "canary"
    path.write_bytes(CANARY)
    return path


def swap(kind: str, path: Path, canary: Path) -> None:
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


@pytest.mark.parametrize("kind", ["symlink", "symlink to a device", "hard link", "FIFO", "folder", "socket"])
def test_nothing_else_is_read_in_its_place(files, canary, kind):
    assert last_lines(files, 0, 10) == ("what was written",)
    swap(kind, segment_path(files.rank_logs(0), 0), canary)
    with pytest.raises(OSError):
        last_lines(files, 0, 10)
    assert canary.read_bytes() == CANARY


def test_no_byte_of_a_canary_is_read_while_links_are_swapped(files, canary):
    """A racer puts links and the file in each other's place as fast as it can."""
    path = segment_path(files.rank_logs(0), 0)
    kept = path.with_name("kept")
    path.rename(kept)
    over = threading.Event()

    def race() -> None:
        while not over.is_set():
            for kind in ("symlink", "FIFO"):
                swap(kind, path, canary)
            path.unlink()
            path.write_bytes(b"what was written\n")

    racer = threading.Thread(target=race)
    racer.start()
    seen: set[tuple[str, ...]] = set()
    try:
        for _ in range(ROUNDS):
            try:
                seen.add(last_lines(files, 0, 10))
            except OSError:
                continue
    finally:
        over.set()
        racer.join()
    assert seen <= {("what was written",), ()}
    assert canary.read_bytes() == CANARY
