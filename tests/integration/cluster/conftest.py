"""A real head and two real agents with declared devices, as processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres import postgres_server, postgres_url  # noqa: F401 - fixtures

from benchmarks.cluster import Head, own_ports, running_agents, running_head, temporary_home
from gpusched.wire.client import Client

CONFIG = """
[engine]
silence_max_s = 3.0

[rates]
currency = "EUR"
[[rates.price]]
model = "H100"
per_gpu_hour = "3600"
effective_from = 2020-01-01
"""


@pytest.fixture
def home() -> Iterator[Path]:
    with temporary_home() as path:
        yield path


@pytest.fixture
def head(home: Path) -> Iterator[Head]:
    with running_head(Head(home, CONFIG + own_ports())) as running:
        yield running


@pytest.fixture
def client(head: Head) -> Iterator[Client]:
    with running_agents(head, ("n1", "n2"), "--devices", "4xH100", "--cpus", "16"), head.client() as c:
        yield c
