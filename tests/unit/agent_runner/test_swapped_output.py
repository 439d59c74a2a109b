"""S4: whatever lies where a rank's output or stacks lay, nothing but these is ever read."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.swaps import CANARY, NODE, attempt_with_output, swap

from gpusched.agent.logs import last_lines, read_logs
from gpusched.agent.shim.output import segment_path
from gpusched.domain.ids import Epoch, JobId
from gpusched.domain.logs import LogQuery, LogSource

KINDS = ["symlink", "symlink to a device", "hard link", "FIFO", "folder", "socket"]
STACKS = LogQuery(job_id=JobId(1), epoch=Epoch(1), source=LogSource.STACKS)


@pytest.fixture
def files(tmp_path):
    return attempt_with_output(tmp_path)


@pytest.fixture
def canary(tmp_path) -> Path:
    path = tmp_path / "canary"
    path.write_bytes(CANARY)
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_else_is_read_in_its_place(files, canary, kind):
    assert last_lines(files, 0, 10) == ("what was written",)
    swap(kind, segment_path(files.rank_logs(0), 0), canary)
    with pytest.raises(OSError):
        last_lines(files, 0, 10)
    assert canary.read_bytes() == CANARY


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_else_is_read_in_the_place_of_stacks(files, canary, tmp_path, kind):
    assert [chunk.data async for chunk in read_logs(tmp_path, NODE, STACKS)] == [b"what was written\n"]
    swap(kind, files.rank_stacks(0), canary)
    with pytest.raises(OSError):
        [chunk async for chunk in read_logs(tmp_path, NODE, STACKS)]
    assert canary.read_bytes() == CANARY
