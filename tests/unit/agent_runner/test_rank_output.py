"""What a rank wrote is read back whole, or the loss is accounted for to the byte."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusched.agent.attempt_dir import attempt_dir, write_order
from gpusched.agent.logs import last_lines, read_logs
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.order import Order, read_order
from gpusched.agent.shim.output import RankOutput
from gpusched.agent.shim.record import Phase, RankRecord, Record, RecordFile
from gpusched.domain.identity import Identity
from gpusched.domain.ids import AttemptId, DeviceUuid, Epoch, JobId, NodeName
from gpusched.domain.job_spec import WarningSignal
from gpusched.domain.launch_plan import NodeLaunch, TaskLaunch
from gpusched.domain.logs import LogChunk, LogQuery

ID = AttemptId(JobId(1), Epoch(1))
NODE = NodeName("n0")
QUERY = LogQuery(job_id=ID.job_id, epoch=ID.epoch)


def an_order(*, ranks: int = 1, env: tuple[tuple[str, str], ...] = ()) -> Order:
    tasks = tuple(
        TaskLaunch(
            global_rank=4 + rank,
            local_rank=rank,
            argv=("python", "train.py"),
            env=env,
            cpu_ids=(rank, rank + 8),
            devices=(DeviceUuid(f"GPU-{rank}"),),
        )
        for rank in range(ranks)
    )
    launch = NodeLaunch(
        job_id=ID.job_id,
        epoch=ID.epoch,
        node=NODE,
        node_rank=1,
        owner=Identity("ada", 1000, 100),
        workdir="/home/ada",
        tasks=tasks,
        devices=(DeviceUuid("GPU-0"),),
        script="#!/bin/sh\n",
        time_limit_s=None,
        signal=WarningSignal("SIGUSR2", 30),
        kill_wait_s=30,
        log_cap_bytes=1 << 20,
    )
    return Order(boot_id="b", token="t", cgroup_parent=None, launch=launch)


@given(
    env=st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=5).map(tuple),
    ranks=st.integers(1, 4),
)
def test_the_shim_reads_the_order_that_the_agent_wrote(env: tuple[tuple[str, str], ...], ranks: int) -> None:
    order = an_order(ranks=ranks, env=env)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "launch.json"
        path.write_bytes(msgspec.json.encode(order))
        assert read_order(path) == order


def written(home: Path, pieces: Sequence[bytes], *, cap_bytes: int) -> AttemptDir:
    """An ended attempt whose rank 4 wrote ``pieces``, one a second from 1 s on."""
    (home / "attempts").mkdir()
    files = attempt_dir(home, ID)
    write_order(files, an_order())
    files.rank_logs(4).mkdir(parents=True)
    output = RankOutput(files.rank_logs(4), cap_bytes)
    for second, piece in enumerate(pieces, start=1):
        output.write(piece, second * 1_000_000)
    output.close()
    rank = RankRecord(global_rank=4, pid=1, start_ticks=1, exit_code=0, output_bytes=output.offset)
    assert RecordFile(files).claim(Record(phase=Phase.ENDED, boot_id="b", ranks=(rank,)))
    return files


def chunks_of(home: Path, query: LogQuery) -> list[LogChunk]:
    async def collect() -> list[LogChunk]:
        return [chunk async for chunk in read_logs(home, NODE, query)]

    return asyncio.run(collect())


def text_of(home: Path, query: LogQuery) -> bytes:
    return b"".join(chunk.data for chunk in chunks_of(home, query))


PIECES = st.lists(st.integers(0, 50_000).map(lambda size: bytes(range(256)) * (size // 256 + 1)), max_size=20)


@settings(deadline=None, max_examples=50)
@given(pieces=PIECES, cap_bytes=st.integers(0, 600_000))
def test_what_is_read_is_the_newest_output_and_marks_account_for_the_rest(
    pieces: list[bytes], cap_bytes: int
) -> None:
    everything = b"".join(pieces)
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder), pieces, cap_bytes=cap_bytes)
        chunks = chunks_of(Path(folder), QUERY)
    data = b"".join(chunk.data for chunk in chunks)
    assert everything.endswith(data)
    assert sum(chunk.dropped_bytes for chunk in chunks) + len(data) == len(everything)
    assert len(data) >= min(len(everything), cap_bytes * 6 // 8, 64 * 1024)
    assert len(data) <= max(cap_bytes, 2 * 64 * 1024)
    assert all(len(chunk.data) <= 64 * 1024 for chunk in chunks)
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


LINES = st.lists(st.sampled_from([b"", b"a", b"bb", b"c" * 70_000]), max_size=8)


@settings(deadline=None, max_examples=50)
@given(lines=LINES, ends_with_newline=st.booleans(), count=st.integers(0, 10))
def test_the_tail_is_the_last_lines_however_they_lie_on_the_disk(
    lines: list[bytes], ends_with_newline: bool, count: int
) -> None:
    text = b"\n".join(lines) + (b"\n" if ends_with_newline and lines else b"")
    expected = b"".join(text.splitlines(keepends=True)[-count:]) if count else b""
    query = LogQuery(job_id=ID.job_id, epoch=ID.epoch, tail_lines=count)
    with tempfile.TemporaryDirectory() as folder:
        written(Path(folder), [text], cap_bytes=8 << 20)
        assert text_of(Path(folder), query) == expected


def test_since_begins_with_the_first_piece_of_that_second(tmp_path: Path) -> None:
    written(tmp_path, [b"one\n", b"two\n", b"three\n"], cap_bytes=1 << 20)

    def since(second: float) -> bytes:
        at_us = int(second * 1_000_000)
        return text_of(tmp_path, LogQuery(job_id=ID.job_id, epoch=ID.epoch, since_us=at_us))

    assert since(0) == b"one\ntwo\nthree\n"
    assert since(2) == b"two\nthree\n"
    assert since(2.5) == b"three\n"
    assert since(9) == b""


def test_tail_and_since_together_give_what_both_allow(tmp_path: Path) -> None:
    written(tmp_path, [b"one\n", b"two\n", b"three\n"], cap_bytes=1 << 20)
    query = LogQuery(job_id=ID.job_id, epoch=ID.epoch, since_us=2_000_000, tail_lines=9)
    assert text_of(tmp_path, query) == b"two\nthree\n"


def test_output_lost_at_the_very_end_is_marked_too(tmp_path: Path) -> None:
    files = written(tmp_path, [b"kept"], cap_bytes=1 << 20)
    rank = RankRecord(global_rank=4, pid=1, start_ticks=1, exit_code=0, output_bytes=14)
    RecordFile(files).save(Record(phase=Phase.ENDED, boot_id="b", ranks=(rank,)))
    last = chunks_of(tmp_path, QUERY)[-1]
    assert (last.dropped_bytes, last.offset, last.data, last.is_last) == (10, 14, b"", True)


def test_last_lines_reach_over_a_segments_border_and_bad_utf8(tmp_path: Path) -> None:
    files = written(tmp_path, [b"x" * 65_530 + b"\nbefore\n", b"\xffafter"], cap_bytes=0)
    assert last_lines(files, 4, 2) == ("before", "\ufffdafter")


def test_only_the_first_claim_on_a_record_holds(tmp_path: Path) -> None:
    files = AttemptDir(tmp_path)
    first, second = (Record(phase=Phase.STARTING, boot_id="b", shim_pid=pid) for pid in (1, 2))
    assert RecordFile(files).claim(first)
    assert not RecordFile(files).claim(second)
    assert msgspec.json.decode(files.record.read_bytes(), type=Record) == first
