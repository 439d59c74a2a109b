"""A node shows the mark that a head gave it, and can make up none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpusched.api.marks import MarkSeals
from gpusched.api.token_keys import TokenKeys, rotate_token_key
from gpusched.domain.history import Mark
from gpusched.domain.ids import JobId

MARK = Mark(3, "c0ffee", 17, JobId(5))


@pytest.fixture
def seals(tmp_path) -> MarkSeals:
    return MarkSeals(TokenKeys(tmp_path / "token.key"))


def test_a_mark_comes_back_as_it_was_given_to_any_head_with_the_keys(seals, tmp_path):
    assert seals.opened(seals.sealed(MARK)) == MARK
    assert MarkSeals(TokenKeys(tmp_path / "token.key")).opened(seals.sealed(MARK)) == MARK


@pytest.mark.parametrize(
    "change", [{"epoch": 4}, {"seq": 18}, {"next_job_id": JobId(6)}, {"token": "c0ffee.x"}, {"token": "x.é"}]
)
def test_a_mark_that_was_changed_says_nothing(seals, change):
    assert seals.opened(replace(seals.sealed(MARK), **change)) is None


def test_the_seal_of_one_mark_is_none_of_another(seals):
    seal = seals.sealed(MARK).token.partition(".")[2]
    assert seals.opened(replace(MARK, token=f"other.{seal}")) is None


def test_a_mark_of_before_marks_were_signed_says_nothing(seals):
    assert seals.opened(MARK) is None


def test_marks_outlive_one_change_of_keys_and_not_two(seals, tmp_path):
    mark = seals.sealed(MARK)
    rotate_token_key(tmp_path / "token.key")
    assert seals.opened(mark) == MARK
    assert seals.sealed(MARK) != mark
    rotate_token_key(tmp_path / "token.key")
    assert seals.opened(mark) is None
