"""The command line against a head made of values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.cli_head import FakeHead

from gpusched.cli.main import main

GOLDEN = Path(__file__).parents[2] / "golden/cli"


@dataclass
class Said:
    code: int
    out: str
    err: str


@pytest.fixture
def head() -> FakeHead:
    return FakeHead()


@pytest.fixture
def cli(head, tmp_path, monkeypatch, capfd) -> Callable[..., Said]:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)

    def call(*argv: str) -> Said:
        capfd.readouterr()
        code = main(list(argv), session=head.session(tmp_path))
        return Said(code, *capfd.readouterr())

    return call


@pytest.fixture
def matches_golden(request) -> Callable[[str, str], None]:
    """Compare with a file of ``tests/golden/cli``. To accept new output, delete the file and run twice."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if not path.exists():
            path.write_text(text, encoding="utf-8")
            pytest.fail(f"{path} was missing and is written now: look at it and commit it")
        assert text == path.read_text(encoding="utf-8")

    return check
