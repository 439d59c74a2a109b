"""Reading ranks' output: what is there, the tail of it, since a time, and what comes.

The segments that a shim writes (``shim/output.py``) are the interface; nothing is asked of the
shim. At most one chunk is held in memory.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from gpusched.agent.attempt_dir import attempt_dir, read_order, read_record
from gpusched.agent.shim.files import AttemptDir
from gpusched.agent.shim.output import TIME_ROW, TIME_STEP_US, segment_path
from gpusched.agent.shim.record import Phase, Record
from gpusched.domain.errors import NotFound
from gpusched.domain.ids import AttemptId, NodeName
from gpusched.domain.logs import LogChunk, LogQuery, LogSource

CHUNK_BYTES_MAX = 64 * 1024
POLL_FIRST_S = 0.01
POLL_MAX_S = 0.2
LAST_LINES_BYTES_MAX = 16 * 1024


@dataclass(slots=True)
class _Rank:
    """How far one rank's stream has come."""

    global_rank: int
    folder: Path
    position: int
    is_done: bool = False


async def read_logs(home: Path, node: NodeName, query: LogQuery) -> AsyncIterator[LogChunk]:
    """Yield the output that ``query`` asks for, of the ranks that ran on this node.

    Each rank's bytes come in order and its stream ends with a chunk that ``is_last``, also if it is
    empty. Ranks are interleaved. ``since_us`` may give up to 0.2 s more than asked for.

    Raises:
        NotFound: This node knows no such attempt, or none of the ranks asked for.
    """
    attempt_id = AttemptId(query.job_id, query.epoch)
    files = attempt_dir(home, attempt_id)
    if query.source is LogSource.STACKS:
        for number in _ranks_asked_for(files, query, node):
            yield _stacks_of(files, number, node, query)
        return
    ranks = [
        _Rank(number, files.rank_logs(number), _start(files.rank_logs(number), number, query))
        for number in _ranks_asked_for(files, query, node)
    ]
    pause_s = POLL_FIRST_S
    while ranks:
        has_news = False
        record = read_record(files)  # before the segments: what it says was written is there
        for rank in ranks:
            chunk = _next_chunk(rank, record, node, query)
            if chunk is not None:
                has_news = True
                yield chunk
        ranks = [rank for rank in ranks if not rank.is_done]
        pause_s = POLL_FIRST_S if has_news else min(2 * pause_s, POLL_MAX_S)
        if ranks:
            await asyncio.sleep(0 if has_news else pause_s)


def last_lines(files: AttemptDir, global_rank: int, count_max: int) -> tuple[str, ...]:
    """The last lines of one rank's output, as text."""
    folder = files.rank_logs(global_rank)
    segments = _segments(folder)
    data = b""
    for start in reversed(segments):
        size = _size(folder, start)
        data = _read_at(folder, start, max(size - LAST_LINES_BYTES_MAX, 0), LAST_LINES_BYTES_MAX) + data
        if len(data) >= LAST_LINES_BYTES_MAX:
            break
    lines = data[-LAST_LINES_BYTES_MAX:].decode(errors="replace").splitlines()
    return tuple(lines[-count_max:])


def _stacks_of(files: AttemptDir, global_rank: int, node: NodeName, query: LogQuery) -> LogChunk:
    """All that is kept of one rank; empty if its stacks were never taken."""
    data = _read_own(files.rank_stacks(global_rank))
    return LogChunk(global_rank=global_rank, node=node, offset=0, data=data, is_last=True, epoch=query.epoch)


def output_end(files: AttemptDir, global_rank: int) -> int:
    """The offset after the last byte of a rank's output that is on disk."""
    folder = files.rank_logs(global_rank)
    segments = _segments(folder)
    return segments[-1] + _size(folder, segments[-1]) if segments else 0


def _ranks_asked_for(files: AttemptDir, query: LogQuery, node: NodeName) -> list[int]:
    order = read_order(files)
    if order is None:
        raise NotFound(f"node {node} has no output of attempt {files.path.name}: never launched, or removed")
    here = [task.global_rank for task in order.launch.tasks]
    wanted = [rank for rank in here if query.ranks is None or rank in query.ranks]
    if not wanted:
        raise NotFound(f"node {node} ran ranks {here} of attempt {files.path.name}, none of {query.ranks}")
    return wanted


def _next_chunk(rank: _Rank, record: Record | None, node: NodeName, query: LogQuery) -> LogChunk | None:
    """What comes next, None if that has not been written yet."""
    data, dropped = _read_on(rank)
    if not data:
        has_ended = record is not None and record.phase is Phase.ENDED
        if query.follow and not has_ended:
            return None
        rank.is_done = True
        dropped = _lost_at_end(rank, record) if has_ended else 0
    chunk = LogChunk(
        global_rank=rank.global_rank,
        node=node,
        offset=rank.position + dropped,
        data=data,
        dropped_bytes=dropped,
        is_last=rank.is_done,
        epoch=query.epoch,
    )
    rank.position = chunk.offset + len(data)
    return chunk


def _read_on(rank: _Rank) -> tuple[bytes, int]:
    """The bytes at the rank's position, or after the gap there: (data, length of the gap)."""
    while True:
        segments = _segments(rank.folder)
        before = [start for start in segments if start <= rank.position]
        after = [start for start in segments if start > rank.position]
        if before:
            data = _read_at(rank.folder, before[-1], rank.position - before[-1], CHUNK_BYTES_MAX)
            if data:
                return data, 0
        if not after:
            return b"", 0
        # ``after`` was listed before the read found nothing: the segment before it is complete.
        data = _read_at(rank.folder, after[0], 0, CHUNK_BYTES_MAX)
        if data:
            return data, after[0] - rank.position
        if after[0] in _segments(rank.folder):
            return b"", 0  # just begun
        # It was removed by rotation meanwhile: look again.


def _lost_at_end(rank: _Rank, record: Record | None) -> int:
    for written in () if record is None else record.ranks:
        if written.global_rank == rank.global_rank:
            return max(written.output_bytes - rank.position, 0)
    return 0


def _start(folder: Path, global_rank: int, query: LogQuery) -> int:
    for position in query.positions:
        if position.global_rank == global_rank:
            return position.offset
    start = 0 if query.since_us is None else _offset_at(folder, query.since_us)
    return start if query.tail_lines is None else max(start, _tail_offset(folder, query.tail_lines))


def _offset_at(folder: Path, since_us: int) -> int:
    """The first offset whose bytes may have come at ``since_us`` or later."""
    end = 0
    for start in _segments(folder):
        end = start + _size(folder, start)
        try:
            rows = _read_own(segment_path(folder, start).with_suffix(".times"))
        except OSError:
            continue
        usable = len(rows) // TIME_ROW.size * TIME_ROW.size
        for offset, at_us in TIME_ROW.iter_unpack(rows[:usable]):
            if at_us >= since_us - TIME_STEP_US:
                return int(offset)
    return end


def _tail_offset(folder: Path, lines: int) -> int:
    """Where the last ``lines`` lines begin; a last line without its newline counts as one."""
    segments = _segments(folder)
    end = segments[-1] + _size(folder, segments[-1]) if segments else 0
    if lines <= 0:
        return end
    newlines = 0
    for start in reversed(segments):
        position = _size(folder, start)
        while position > 0:
            block_start = max(position - CHUNK_BYTES_MAX, 0)
            block = _read_at(folder, start, block_start, position - block_start)
            index = len(block)
            while (index := block.rfind(b"\n", 0, index)) >= 0:
                is_final = start + block_start + index == end - 1
                newlines += not is_final
                if newlines == lines:
                    return start + block_start + index + 1
            position = block_start
    return 0


def _segments(folder: Path) -> list[int]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 (names are all that is needed)
    except FileNotFoundError:
        return []
    return sorted(int(name[:-4]) for name in names if name.endswith(".log"))


def _size(folder: Path, start: int) -> int:
    try:
        return segment_path(folder, start).lstat().st_size
    except FileNotFoundError:
        return 0


def _read_at(folder: Path, start: int, skip: int, length: int) -> bytes:
    return _read_own(segment_path(folder, start), skip, length)


def _read_own(path: Path, skip: int = 0, length: int | None = None) -> bytes:
    """A file, or a part of it, that the agent or a shim wrote; empty if there is none.

    Raises:
        OSError: Something else lies in its place.
    """
    # O_NONBLOCK: a FIFO in its place must not hold the agent up, and it is no output either.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags)
    except FileNotFoundError:  # rotated away
        return b""
    try:
        found = os.fstat(fd)
        # Asked by its name too: a file behind a hard link that is gone again has one name left, its own.
        named = path.lstat()
        is_regular = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid()
        if not (is_regular and found.st_nlink == named.st_nlink == 1 and os.path.samestat(found, named)):
            raise OSError(errno.EPERM, f"{path} is not what was written there")
        return os.pread(fd, found.st_size if length is None else length, skip)
    except FileNotFoundError:  # rotated away meanwhile
        return b""
    finally:
        os.close(fd)
