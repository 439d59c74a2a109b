"""Epochs that have passed stay passed, also when the folders are gone."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusched.agent import fence as fence_module
from gpusched.agent.archive import Archive, Retention
from gpusched.agent.attempt_dir import attempt_dir, parse_attempt_id
from gpusched.agent.fence import Fence
from gpusched.domain.ids import AttemptId, Epoch, JobId

ATTEMPTS = st.builds(AttemptId, st.integers(1, 5).map(JobId), st.integers(1, 9).map(Epoch))


@given(batches=st.lists(st.lists(ATTEMPTS, max_size=5), max_size=5))
def test_the_highest_epoch_of_each_job_is_remembered_across_restarts(batches: list[list[AttemptId]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "retired"
        for batch in batches:
            Fence(path).remember(batch)
        fence = Fence(path)
    flat = [attempt_id for batch in batches for attempt_id in batch]
    for job_id in map(JobId, range(1, 6)):
        epochs = [attempt_id.epoch for attempt_id in flat if attempt_id.job_id == job_id]
        assert fence.highest(job_id) == max(epochs, default=0)


def test_the_memory_is_bounded_and_keeps_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence_module, "KEPT_MAX", 10)
    fence = Fence(tmp_path / "retired")
    for job in range(1, 101):
        fence.remember([AttemptId(JobId(job), Epoch(2))])
    again = Fence(tmp_path / "retired")
    assert all(again.highest(JobId(job)) == 2 for job in range(91, 101))
    assert len((tmp_path / "retired").read_text().split()) <= 20


def test_a_line_cut_short_by_a_crash_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "retired").write_text("1.2\n3.")
    fence = Fence(tmp_path / "retired")
    assert fence.highest(JobId(1)) == 2
    assert fence.highest(JobId(3)) == 0
    fence.remember([AttemptId(JobId(4), Epoch(1))])
    assert Fence(tmp_path / "retired").highest(JobId(4)) == 1


@pytest.mark.parametrize("name", ["", "1", "1.", ".1", "1.1.1", "../1.1", "-1.1", "1.x", "wake", "1.1 "])
def test_only_job_dot_epoch_names_an_attempt(name: str) -> None:
    assert parse_attempt_id(name) is None


def test_retention_removes_the_oldest_first_and_only_beyond_what_is_kept(tmp_path: Path) -> None:
    archive = Archive(tmp_path, Retention(keep=2))
    ids = [AttemptId(JobId(job), Epoch(1)) for job in range(1, 5)]
    for second, attempt_id in enumerate(ids):
        attempt_dir(tmp_path, attempt_id).path.mkdir(parents=True)
        archive.add(attempt_id, 4e9 + second)
    expired = archive.expired()
    assert expired == tuple(ids[:2])
    archive.remove(expired)
    assert sorted(path.name for path in (tmp_path / "attempts").iterdir()) == ["3.1", "4.1"]
    assert archive.highest_removed(JobId(1)) == 1


def test_retention_removes_what_is_too_old_though_few_are_kept(tmp_path: Path) -> None:
    archive = Archive(tmp_path, Retention(keep=10, age_max_s=60.0))
    archive.add(AttemptId(JobId(1), Epoch(1)), 0.0)
    archive.add(AttemptId(JobId(2), Epoch(1)), 4e9)
    assert archive.expired() == (AttemptId(JobId(1), Epoch(1)),)
