from __future__ import annotations

from pathlib import Path

import pytest
from scenarios.datadriven import replay
from scenarios.placement.cluster_script import Script

TRANSCRIPTS = sorted(Path(__file__).parent.glob("*.txt"))


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_the_fabric_answers_as_the_transcript_says(path: Path, is_rewriting: bool) -> None:
    heard, said = replay(path, Script().answer, is_rewriting=is_rewriting)
    assert heard == said, "pytest tests/scenarios --rewrite accepts the new answers"


def test_there_are_topology_transcripts() -> None:
    assert TRANSCRIPTS
