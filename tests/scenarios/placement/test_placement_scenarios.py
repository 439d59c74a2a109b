from __future__ import annotations

from pathlib import Path

import pytest
from scenarios.datadriven import replay
from scenarios.placement.cluster_script import Script

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_cluster_answers_as_the_transcript_says(path: Path, is_rewriting: bool) -> None:
    heard, said = replay(path, Script().answer, is_rewriting=is_rewriting)
    assert heard == said, "pytest tests/scenarios --rewrite accepts the new answers"


def test_there_are_transcripts() -> None:
    assert TRANSCRIPTS


def test_a_wrong_transcript_is_noticed_and_rewritten_on_demand(tmp_path: Path) -> None:
    path = tmp_path / "wrong.txt"
    path.write_text("# prose stays\nnode n0 gpus=2xH100\nsubmit a gpus=2\n----\na: n9\n")
    right = "# prose stays\nnode n0 gpus=2xH100\nsubmit a gpus=2\n----\na: n0[0,1]\n"
    heard, said = replay(path, Script().answer, is_rewriting=False)
    assert (heard, said) == (right, right.replace("n0[0,1]", "n9"))
    assert replay(path, Script().answer, is_rewriting=True) == (right, right)
    assert path.read_text() == right
