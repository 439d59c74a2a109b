"""The example training as real processes, with torch's variables set by hand: no scheduler takes part."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

TRAIN = Path(__file__).parents[3] / "examples/digits_ddp/train.py"
WAIT_S = 150
FOR_EVER = "100000"  # epochs: the run is interrupted long before


def environment(rank: int, world_size: int, port: int) -> Mapping[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(world_size),
    }


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Ranks:
    """The processes of one run. What they print goes into files, so that nobody blocks on a full pipe."""

    def __init__(self, directory: Path, world_size: int, *args: str) -> None:
        self.outputs = [directory / f"rank{rank}.out" for rank in range(world_size)]
        port = free_port()
        self.processes = []
        for rank, path in enumerate(self.outputs):
            with path.open("wb") as output:
                self.processes.append(
                    subprocess.Popen(
                        [sys.executable, str(TRAIN), *args],
                        cwd=directory,
                        env=environment(rank, world_size, port),
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )

    def lines(self, rank: int = 0) -> list[str]:
        return self.outputs[rank].read_text().splitlines()

    def result(self) -> dict[str, float]:
        return json.loads(self.lines()[-1])

    def exit_codes(self) -> list[int]:
        return [process.wait(WAIT_S) for process in self.processes]

    def wait_for(self, pattern: str) -> None:
        """Read what rank 0 prints until a line matches."""
        with subprocess.Popen(
            ["tail", "-n", "+1", f"--pid={self.processes[0].pid}", "-f", str(self.outputs[0])],
            stdout=subprocess.PIPE,
            text=True,
        ) as tail:
            assert tail.stdout is not None
            found = any(re.match(pattern, line) for line in tail.stdout)
            tail.terminate()
        assert found, f"rank 0 ended without a line like {pattern!r}: {self.lines()[-5:]}"

    def epochs_printed(self) -> int:
        return sum(line.startswith("epoch ") for line in self.lines())


@contextmanager
def running(directory: Path, world_size: int, *args: str) -> Iterator[Ranks]:
    ranks = Ranks(directory, world_size, *args)
    try:
        yield ranks
    finally:
        for process in ranks.processes:
            process.kill()
            process.wait()


def finished(directory: Path, world_size: int, *args: str) -> Ranks:
    with running(directory, world_size, *args) as ranks:
        assert ranks.exit_codes() == [0] * world_size, ranks.lines()[-5:]
        return ranks


def test_four_ranks_learn_the_digits_and_say_so_line_by_line(tmp_path: Path) -> None:
    ranks = finished(tmp_path, 4)
    result = ranks.result()
    assert result["test_accuracy"] >= 0.95
    assert (result["world_size"], result["epochs"]) == (4, 10)
    bars = [line for line in ranks.lines() if line.startswith("epoch ")]
    assert len(bars) == 10
    line = r"epoch +\d+/10 \[#*-*\] loss \d+\.\d{4}  accuracy [01]\.\d{3}  [\d,]+ samples/s"
    assert all(re.fullmatch(line, bar) for bar in bars)
    assert [ranks.lines(rank) for rank in (1, 2, 3)] == [
        [f"rank {rank} of 4: gloo on the CPU"] for rank in (1, 2, 3)
    ]
    # The checkpoint stands alone: what it was renamed from is gone.
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["digits.pt"]


def test_a_run_killed_at_any_moment_is_gone_on_with(tmp_path: Path) -> None:
    with running(tmp_path, 4, "--epochs", FOR_EVER) as killed:
        killed.wait_for("epoch +2/")
        killed.processes[2].kill()
        codes = killed.exit_codes()
    assert codes[2] == -signal.SIGKILL
    assert 0 not in codes
    done = killed.epochs_printed()
    resumed = finished(tmp_path, 4, "--epochs", str(done + 2), "--min-accuracy", "0.5")
    start = next(line for line in resumed.lines() if line.startswith("resuming"))
    found = re.fullmatch(r"resuming from checkpoints/digits.pt: (\d+) epochs and 0 samples are done", start)
    assert found is not None
    # Each line is printed after its checkpoint was written, so one may be ahead of the lines.
    assert int(found[1]) in {done, done + 1}
    assert resumed.result()["epochs"] == done + 2


def test_sigterm_leaves_a_checkpoint_from_which_the_same_numbers_come(tmp_path: Path) -> None:
    stopped_in, whole_in = tmp_path / "stopped", tmp_path / "whole"
    stopped_in.mkdir()
    whole_in.mkdir()
    with running(stopped_in, 2, "--epochs", FOR_EVER) as stopped:
        stopped.wait_for("epoch +1/")
        for process in stopped.processes:
            process.send_signal(signal.SIGTERM)
        assert stopped.exit_codes() == [128 + signal.SIGTERM] * 2
    assert re.fullmatch(r"checkpoint in epoch \d+ on SIGTERM", stopped.lines()[-1])
    epochs = ("--epochs", str(stopped.epochs_printed() + 2), "--min-accuracy", "0.5")
    resumed, whole = finished(stopped_in, 2, *epochs), finished(whole_in, 2, *epochs)
    assert any(line.startswith("resuming from") for line in resumed.lines())
    assert resumed.result()["test_loss"] == pytest.approx(whole.result()["test_loss"], rel=1e-3)


def test_a_warning_before_the_time_limit_saves_and_goes_on(tmp_path: Path) -> None:
    with running(tmp_path, 2, "--epochs", FOR_EVER) as ranks:
        ranks.wait_for("epoch +1/")
        ranks.processes[1].send_signal(signal.SIGUSR1)  # one rank's signal is enough for all
        ranks.wait_for(r"checkpoint in epoch \d+ on SIGUSR1")
        saved = (tmp_path / "checkpoints/digits.pt").stat().st_size
        ranks.wait_for(rf"epoch +{ranks.epochs_printed() + 1}/")
    assert saved > 0


def test_too_little_accuracy_is_a_failure_of_every_rank(tmp_path: Path) -> None:
    with running(tmp_path, 2, "--epochs", "1", "--min-accuracy", "1.01") as ranks:
        assert ranks.exit_codes() == [1, 1]
    assert ranks.lines()[-2] == "the test accuracy is below 1.01, the least that was asked for"
    assert ranks.result()["test_accuracy"] <= 1
