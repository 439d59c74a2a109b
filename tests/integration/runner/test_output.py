"""Ranks' output: followed live, capped, on a full disk, and to the last byte."""

from __future__ import annotations

import ctypes
import resource
import time
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from integration.runner.rig import Node, end_everything, launch_of, python, shell, task, until

from gpusched.agent.shim.record import Phase
from gpusched.domain.errors import NotFound
from gpusched.domain.events import TasksEnded, TasksStarted
from gpusched.domain.ids import Epoch, JobId
from gpusched.domain.logs import LogChunk, LogQuery

ALL = LogQuery(job_id=JobId(1), epoch=Epoch(1), follow=True)


def lost(chunks: list[LogChunk]) -> int:
    return sum(chunk.dropped_bytes for chunk in chunks)


def is_gapless(chunks: list[LogChunk]) -> bool:
    """Whether bytes and marks together account for every offset from 0."""
    position = 0
    for chunk in chunks:
        if chunk.offset != position + chunk.dropped_bytes:
            return False
        position = chunk.offset + len(chunk.data)
    return True


async def test_the_last_line_arrives_even_without_a_newline(node: Node) -> None:
    await node.run(launch_of(shell("echo first; printf last")))
    chunks = await node.logs()
    assert b"".join(chunk.data for chunk in chunks) == b"first\nlast"
    assert [chunk.is_last for chunk in chunks].count(True) == 1 and chunks[-1].is_last


async def test_what_was_in_the_pipe_when_the_rank_died_arrives(node: Node) -> None:
    await node.run(
        launch_of(python("import os; os.write(1, b'x' * 60000 + b'end'); os.kill(os.getpid(), 9)"))
    )
    assert (await node.output()).endswith("xend")


async def test_following_shows_lines_while_the_rank_runs_and_ends_with_it(node: Node) -> None:
    assert node.runner is not None
    code = (
        "import os, time\nprint('one', flush=True)\n"
        "while not os.path.exists(os.environ['GO']): time.sleep(0.01)\nprint('two', end='')"
    )
    await node.runner.launch(launch_of(python(code, GO=str(node.home / "go"))))
    seen = b""
    async with aclosing(node.runner.read_logs(ALL)) as chunks:
        async for chunk in chunks:
            seen += chunk.data
            if seen == b"one\n":
                (node.home / "go").touch()  # only now can the rank go on
    assert seen == b"one\ntwo"


async def test_following_before_the_rank_has_started_waits_for_it(node: Node) -> None:
    assert node.runner is not None
    await node.runner.launch(launch_of(shell("sleep 0.2; echo late")))
    assert await node.output(follow=True) == "late\n"


async def test_ranks_are_merged_and_each_ends_once(node: Node) -> None:
    await node.run(launch_of(*(shell(f"echo rank {rank}", rank) for rank in range(4))))
    chunks = await node.logs(follow=True)
    assert sorted(chunk.global_rank for chunk in chunks if chunk.is_last) == [0, 1, 2, 3]
    assert {chunk.global_rank: chunk.data for chunk in chunks if chunk.data} == {
        rank: f"rank {rank}\n".encode() for rank in range(4)
    }


async def test_past_the_cap_the_oldest_output_goes_and_a_mark_says_how_much(node: Node) -> None:
    code = "for i in range(60_000): print(f'{i:09}')"  # 600,000 bytes
    launch = replace(launch_of(python(code)), log_cap_bytes=256 * 1024)
    await node.run(launch)
    chunks = await node.logs()
    data = b"".join(chunk.data for chunk in chunks)
    assert data.endswith(b"000059998\n000059999\n")
    assert lost(chunks) + len(data) == 600_000
    assert lost(chunks) == chunks[0].dropped_bytes  # the mark stands where the gap is
    assert is_gapless(chunks)
    on_disk = sum(path.stat().st_size for path in node.files().rank_logs(0).glob("*.log"))
    assert 128 * 1024 <= on_disk <= 256 * 1024


async def test_a_reader_that_falls_behind_the_cap_is_told_what_it_missed(node: Node) -> None:
    assert node.runner is not None
    code = (
        "import os, time\nprint('head', flush=True)\n"
        "while not os.path.exists(os.environ['GO']): time.sleep(0.01)\n"
        "for i in range(60_000): print(f'{i:09}')"
    )
    launch = replace(launch_of(python(code, GO=str(node.home / "go"))), log_cap_bytes=128 * 1024)
    await node.runner.launch(launch)
    chunks: list[LogChunk] = []
    async with aclosing(node.runner.read_logs(ALL)) as stream:
        async for chunk in stream:
            chunks.append(chunk)
            if len(chunks) == 1:
                (node.home / "go").touch()
                await node.report(TasksEnded)
    assert chunks[0].data == b"head\n"
    assert lost(chunks) > 0
    assert is_gapless(chunks)
    assert chunks[-1].offset + len(chunks[-1].data) == 600_005


async def test_since_leaves_out_what_came_before(node: Node) -> None:
    assert node.runner is not None
    code = (
        "import os, time\nprint('early', flush=True)\n"
        "while not os.path.exists(os.environ['GO']): time.sleep(0.01)\n"
        "print('late', flush=True)"
    )
    await node.runner.launch(launch_of(python(code, GO=str(node.home / "go"))))
    await node.report(TasksStarted)
    log = node.files().rank_logs(0)
    await until(lambda: any(path.stat().st_size for path in log.glob("*.log")), "early is written")
    early_us = next(log.glob("*.times")).stat().st_mtime_ns // 1000
    await until(lambda: _now_us() > early_us + 300_000, "time passes")
    (node.home / "go").touch()
    await node.report(TasksEnded)
    assert await node.output(since_us=early_us + 250_000) == "late\n"
    assert await node.output(since_us=early_us - 1_000_000) == "early\nlate\n"
    assert await node.output(since_us=_now_us() + 1_000_000) == ""


def _now_us() -> int:
    return time.time_ns() // 1000


async def test_asking_for_an_unknown_attempt_or_rank_is_not_found(node: Node) -> None:
    await node.run(launch_of(task(0, "true")))
    with pytest.raises(NotFound, match=r"attempt 2\.1"):
        await node.logs(job_id=JobId(2))
    with pytest.raises(NotFound, match="ranks \\[0\\]"):
        await node.logs(ranks=(7,))


async def test_a_log_that_was_replaced_by_a_link_is_not_read(node: Node, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    await node.run(launch_of(shell("echo hi")))
    segment = next(node.files().rank_logs(0).glob("*.log"))
    segment.unlink()
    segment.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic links"):
        await node.logs()


# ── a full disk ─────────────────────────────────────────────────────────────────────────────

LIBC = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A home on a file system of 1 MiB; needs the right to mount."""
    where = tmp_path / "disk"
    where.mkdir()
    if LIBC.mount(b"none", bytes(where), b"tmpfs", 0, b"size=1m") != 0:
        pytest.skip("this user cannot mount a small file system; the twin with a file size limit runs anyway")
    yield where / "agent"
    end_everything(where / "agent")
    LIBC.umount2(bytes(where), 2)


async def test_a_full_disk_blocks_neither_the_job_nor_its_end(small_disk: Path) -> None:
    node = Node(small_disk)
    await node.start()
    code = (
        "import os\nfor i in range(300_000): print(f'{i:09}')\n"  # 3 MB
        "open(os.environ['FULL'], 'w').close()"
    )
    full = small_disk.parent.parent / "was-full"
    launch = replace(launch_of(python(code, FULL=str(full))), log_cap_bytes=64 << 20)
    ended = await node.run(launch)
    assert ended.exits[0].exit_code == 0
    assert full.exists()
    chunks = await node.logs(follow=True)
    data = b"".join(chunk.data for chunk in chunks)
    assert data.startswith(b"000000000\n000000001\n")
    assert lost(chunks) > 1_000_000
    assert lost(chunks) + len(data) == 3_000_000
    assert is_gapless(chunks)
    await node.stop()


async def test_output_goes_on_once_the_disk_has_room_again(small_disk: Path) -> None:
    node = Node(small_disk)
    await node.start()
    assert node.runner is not None
    code = (
        "import os, time\nprint('before', flush=True)\n"
        "def wait(name):\n    while not os.path.exists(os.environ[name]): time.sleep(0.01)\n"
        # More than the pipe holds: once it is written, the shim has taken most of it.
        "wait('FULL')\nprint('lost ' * 100_000, flush=True)\nopen(os.environ['WROTE'], 'w').close()\n"
        "wait('FREE')\nfor _ in range(200): print('after', flush=True); time.sleep(0.01)"
    )
    marks = {name: small_disk.parent.parent / name for name in ("FULL", "WROTE", "FREE")}
    env = {name: str(path) for name, path in marks.items()}
    await node.runner.launch(launch_of(python(code, **env)))
    await node.report(TasksStarted)
    log = node.files().rank_logs(0)
    await until(lambda: any(path.stat().st_size for path in log.glob("*.log")), "before is written")
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        while True:
            file.write(bytes(4096))
    marks["FULL"].touch()
    await until(marks["WROTE"].exists, "a full disk does not block the rank")
    ballast.unlink()
    marks["FREE"].touch()
    await node.report(TasksEnded)
    chunks = await node.logs()
    data = b"".join(chunk.data for chunk in chunks)
    assert data.startswith(b"before\n") and data.endswith(b"after\n")
    assert lost(chunks) > 300_000
    assert is_gapless(chunks)
    await node.stop()


async def test_a_file_size_limit_blocks_neither_the_job_nor_its_end(home: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    node = Node(home)
    await node.start()
    resource.setrlimit(resource.RLIMIT_FSIZE, (128 * 1024, hard))
    try:
        code = "for i in range(100_000): print(f'{i:09}')"
        launch = replace(launch_of(python(code)), log_cap_bytes=64 << 20)  # segments of 8 MiB: too large
        ended = await node.run(launch)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert ended.exits[0].exit_code == 0
    assert node.record().phase is Phase.ENDED
    chunks = await node.logs()
    assert lost(chunks) > 0
    assert lost(chunks) + sum(len(chunk.data) for chunk in chunks) == 1_000_000
    assert is_gapless(chunks)
    await node.stop()
