"""The real pynvml, in a child process, over the fake driver library."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from fakes.nvml import probe
from fakes.nvml.build import build_fake_nvml, with_fake_nvml
from fakes.nvml.machines import Machine, write_state
from fakes.nvml.probed import Probe

import gpusched


@pytest.fixture(scope="session")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture(scope="session")
def old_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_nvml(tmp_path_factory.mktemp("old_nvml"), defines=("OLD_DRIVER",))


@pytest.fixture
def sysfs(tmp_path: Path) -> Path:
    (tmp_path / "sys/bus/pci/devices").mkdir(parents=True)
    return tmp_path / "sys"


@pytest.fixture
def start_probe(fake_nvml: Path, sysfs: Path, tmp_path: Path) -> Iterator[Callable[..., Probe]]:
    with ExitStack() as stack:

        def start(machine: Machine | None, *, library: Path = fake_nvml) -> Probe:
            state = tmp_path / "state"
            if machine is not None:
                write_state(machine, state)
            source = Path(gpusched.__path__[0]).parent
            child = subprocess.Popen(
                [sys.executable, probe.__file__, str(sysfs)],
                env={**with_fake_nvml(os.environ, library, state), "PYTHONPATH": str(source)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(child)  # waits for it,
            stack.callback(child.stdin.close)  # after the end of its input has ended it
            return Probe(child, state)

        yield start
