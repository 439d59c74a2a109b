"""A node whose runner starts real processes; every one of them is dead when the test is over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from integration.runner.rig import Node, end_everything


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An agent's home; emptied of processes afterwards."""
    path = tmp_path / "agent"
    yield path
    end_everything(path)


@pytest.fixture
async def node(home: Path) -> AsyncIterator[Node]:
    """A node without control groups whose runner has started."""
    made = Node(home)
    await made.start()
    yield made
    if made.runner is not None:
        await made.stop()
