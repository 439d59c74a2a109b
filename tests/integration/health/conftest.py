"""A real head, and an agent whose kernel log is a fifo and whose NVML is the fake one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes.nvml.build import build_fake_nvml, with_fake_nvml
from fakes.nvml.machines import Machine, write_state

from benchmarks.cluster import Head, running_agents, running_head, temporary_home, until
from gpusched.domain.ids import NodeName
from gpusched.domain.node import Node
from gpusched.wire.client import Client


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_nvml(tmp_path_factory.mktemp("nvml"))


@dataclass
class Ward:
    """A cluster under observation."""

    head: Head
    client: Client
    folder: Path

    @property
    def kmsg(self) -> Path:
        return self.folder / "kmsg"

    def log(self, text: str, seq: int = 1) -> None:
        """The kernel writes a line."""
        fd = os.open(self.kmsg, os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, f"3,{seq},{1000 * seq},-;{text}\n".encode())
        os.close(fd)

    def node(self, name: str = "n1") -> Node:
        return self.client.nodes.get(NodeName(name)).node

    def until(self, condition, what: str) -> None:
        until(condition, what, 30.0)


@pytest.fixture
def ward(fake_nvml: Path, tmp_path: Path) -> Iterator:
    """Starts clusters; ``configure(machine, **health)`` gives one with a single node ``n1``."""

    @contextmanager
    def admit(machine: Machine | None = None, *, config: str = "", nodes=("n1",), **health: object):
        os.mkfifo(tmp_path / "kmsg")
        given = {"kmsg": str(tmp_path / "kmsg"), "interval_s": 0.2, "disks": [], **health}
        file = tmp_path / "health.toml"
        tables = {key: value for key, value in given.items() if isinstance(value, dict)}
        lines = [f"{key} = {json.dumps(value)}" for key, value in given.items() if key not in tables]
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
        file.write_text("\n".join(lines))
        settings, options = None, ["--cpus", "4", "--health", str(file)]
        if machine is None:
            options += ["--devices", "4xH100"]
        else:
            write_state(machine, tmp_path / "state")
            settings = with_fake_nvml(os.environ, fake_nvml, tmp_path / "state")
        with (
            temporary_home() as home,
            running_head(Head(home, config)) as head,
            running_agents(head, nodes, *options, settings=settings),
            head.client() as client,
        ):
            yield Ward(head, client, tmp_path)

    return admit
