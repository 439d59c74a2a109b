"""The test's end of the pipe to ``probe.py``."""

from __future__ import annotations

import subprocess
from pathlib import Path

import msgspec
from fakes.nvml.machines import Machine, write_state

from gpusched.agent.nvml import DeviceReadings, DeviceScan


class Probe:
    """A running ``fakes/nvml/probe.py`` and the machine that it sees."""

    def __init__(self, child: subprocess.Popen[str], state: Path) -> None:
        self._child = child
        self._state = state
        self.opening = self._line()

    def becomes(self, machine: Machine) -> None:
        write_state(machine, self._state)

    def ask(self, request: str) -> str:
        assert self._child.stdin is not None
        print(request, file=self._child.stdin, flush=True)
        return self._line()

    def scan(self) -> DeviceScan:
        return msgspec.json.decode(self.ask("scan"), type=DeviceScan)

    def sample(self) -> DeviceReadings:
        return msgspec.json.decode(self.ask("sample"), type=DeviceReadings)

    def _line(self) -> str:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        assert line, "the probe died; its traceback is above"
        return line.strip()
