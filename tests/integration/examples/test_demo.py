"""``make demo``, as a user sees it: what it prints, what it exits with, and that nothing of it is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from fakes.nvml.build import build_fake_nvml, with_fake_nvml
from fakes.nvml.machines import DRIVER_NOT_LOADED, Fails, Machine, pcie_a10, write_state

ROOT = Path(__file__).parents[3]
WAIT_S = 150
NO_DRIVER = Machine(init=Fails(DRIVER_NOT_LOADED))


class Demo:
    """A running demo and the lines it has printed."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "examples/demo.py")],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # As in a terminal: a process group that Ctrl-C reaches as a whole.
            start_new_session=True,
        )
        self.lines: list[str] = []

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read on until a line holds the pattern."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            found = re.search(pattern, line)
            if found is not None:
                return found
        raise AssertionError(f"the demo ended without {pattern!r}:\n{self.text}")

    def read_to_end(self) -> int:
        """Read the rest.

        Returns:
            The exit code.
        """
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout.read().splitlines())
        return self.process.wait(WAIT_S)

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def home(self) -> Path:
        found = re.search(r"gpusched up --home (\S+)", self.text)
        assert found is not None, self.text
        return Path(found[1])


@pytest.fixture(scope="module")
def fake_nvml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_fake_nvml(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def demo_on(fake_nvml: Path, tmp_path: Path) -> Iterator[Callable[[Machine], Demo]]:
    """Starts the demo on a machine with these cards, whatever this one has."""
    with ExitStack() as stack:

        def start(machine: Machine) -> Demo:
            state = write_state(machine, tmp_path / "machine")
            source = {"PYTHONPATH": str(ROOT / "src")}
            demo = Demo(with_fake_nvml(os.environ, fake_nvml, state) | source)
            stack.callback(demo.process.communicate)
            stack.callback(demo.process.terminate)
            return demo

        yield start


def processes_of(home: Path) -> list[psutil.Process]:
    """Whoever names the demo's home in arguments or environment: head, agents, shims and ranks all do."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if any(str(home) in word for word in words):
            found.append(process)
    return found


def assert_nothing_left(home: Path) -> None:
    assert [process.cmdline() for process in processes_of(home)] == []
    assert not home.exists()


def assert_trained_and_billed(demo: Demo) -> None:
    shown = re.search(r'^\[0\] .*"test_accuracy": ([\d.]+)', demo.text, re.MULTILINE)
    assert shown is not None
    assert float(shown[1]) >= 0.95
    assert re.search(r"^State +COMPLETED$", demo.text, re.MULTILINE)
    assert re.search(r"^CPU busy +[\d.]+%$", demo.text, re.MULTILINE)
    cost = re.search(r"^Cost +([\d.]+) EUR$", demo.text, re.MULTILINE)
    assert cost is not None
    assert float(cost[1]) > 0
    # GPUs that were measured and had nothing to do are billed as idle; declared ones can't be measured.
    assert re.search(r"^1 +(productive|allocated_idle) .* [\d.]+$", demo.text, re.MULTILINE)
    assert re.search(r"^TOTAL .* [\d.]+$", demo.text, re.MULTILINE)


def test_demo_without_gpus_runs_on_two_nodes_of_declared_ones(demo_on: Callable[[Machine], Demo]) -> None:
    demo = demo_on(NO_DRIVER)
    assert demo.read_to_end() == 0, demo.text
    assert_trained_and_billed(demo)
    assert re.search(r"^\[3\] rank 3 of 4", demo.text, re.MULTILINE)
    devices = re.findall(r" (DECLARED-n[12]-[01]) \(declared\)$", demo.text, re.MULTILINE)
    assert sorted(devices) == ["DECLARED-n1-0", "DECLARED-n1-1", "DECLARED-n2-0", "DECLARED-n2-1"]
    assert re.search(r"^n1 .* \(declared\) ", demo.text, re.MULTILINE)  # in the list of nodes, too
    assert_nothing_left(demo.home)


def test_demo_with_gpus_makes_them_one_node_and_cuts_the_job_to_fit(
    demo_on: Callable[[Machine], Demo],
) -> None:
    demo = demo_on(pcie_a10())
    assert demo.read_to_end() == 0, demo.text
    assert_trained_and_billed(demo)
    assert "NVML finds 4 GPUs: they make one node, and the job is cut to fit" in demo.text
    assert re.search(r"^\[1\] rank 1 of 2", demo.text, re.MULTILINE)
    assert re.search(r"^Asked for +1 nodes?, each 2 x any GPU", demo.text, re.MULTILINE)
    assert "(declared)" not in demo.text
    assert_nothing_left(demo.home)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_ended_half_way_leaves_nothing(
    demo_on: Callable[[Machine], Demo], number: signal.Signals
) -> None:
    demo = demo_on(NO_DRIVER)
    demo.read_until(r"\[0\] epoch +2/")
    ranks = [process for process in processes_of(demo.home) if "train.py" in process.cmdline()]
    assert len(ranks) == 4
    if number == signal.SIGINT:
        os.killpg(demo.process.pid, number)  # as a terminal does
    else:
        demo.process.send_signal(number)
    assert demo.read_to_end() == 128 + number, demo.text
    assert_nothing_left(demo.home)
