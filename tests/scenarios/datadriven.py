"""Transcripts as tests: input lines, ``----``, the expected answer; blank lines between cases.

Lines that start with ``#`` are for the reader. All cases of one file run in order on one handler,
which answers a line of input with any number of lines.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

RULE = "----"


def replay(path: Path, answer: Callable[[str], str], *, is_rewriting: bool) -> tuple[str, str]:
    """Run a transcript; returns what was heard and what it says, alike once rewritten."""
    heard = "\n\n".join(_replay(case, answer) for case in path.read_text().strip().split("\n\n")) + "\n"
    if is_rewriting:
        path.write_text(heard)
    return heard, path.read_text()


def _replay(case: str, answer: Callable[[str], str]) -> str:
    lines = case.split("\n")
    asked = lines[: lines.index(RULE)] if RULE in lines else lines
    answers = [answer(line) for line in asked if not line.startswith("#")]
    if not answers:
        return "\n".join(asked)  # a paragraph of prose
    return "\n".join([*asked, RULE, *(text for text in answers if text)])
