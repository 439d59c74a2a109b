"""A running head for every test."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fakes.wire_head import Head


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder whose path is short enough for a socket, however deep pytest's own is."""
    with tempfile.TemporaryDirectory(prefix="gs-") as name:
        yield Path(name)


@pytest.fixture
async def head(home) -> AsyncIterator[Head]:
    """A running head."""
    head = Head(home)
    await head.start()
    yield head
    await head.stop()
