"""The whole way of a job, on a cluster that exists only for it: `make demo` runs this.

Everything below is what a user could type, shown before it is done. Exit code 0: the job COMPLETED
and its model reached the accuracy; 130 after Ctrl-C. Either way all that was started is stopped.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gpusched import Client, GpuschedError, JobId, NodeName, Unavailable

ROOT = Path(__file__).resolve().parents[1]
JOB_FILE = "examples/digits_ddp/job.yaml"
ACCURACY_MIN = 0.95
NODES = 2
RANKS_PER_NODE = 2
READY_S = 60.0  # how long head and agents may take to be there
STOP_S = 90.0  # `gpusched up` itself gives its agents a minute

CONFIG = """\
# Prices invented for the demo.
[rates]
currency = "EUR"
[[rates.price]]
model = "H100"
per_gpu_hour = "2.50"
effective_from = 2020-01-01
[[rates.price]]
model = "*"
per_gpu_hour = "1.00"
effective_from = 2020-01-01
"""


class DemoFailed(Exception):
    """The message says what did not happen."""


def main() -> int:
    """Run the demo, and return its exit code."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    started = time.monotonic()
    try:
        # Not below $TMPDIR: the path of a unix socket has at most 107 bytes.
        with tempfile.TemporaryDirectory(prefix="gpusched-demo-", dir="/tmp") as home:
            accuracy = tour(Path(home))
    except KeyboardInterrupt:
        say("interrupted; everything it started is stopped")
        return 130
    except (DemoFailed, GpuschedError) as error:
        say(f"failed: {error}")
        return 1
    seconds = time.monotonic() - started
    say(f"test accuracy {accuracy} after {seconds:.0f} s; everything it started is stopped")
    return 0


def tour(home: Path) -> float:
    """Start a cluster, train on it, look at what it did, stop it.

    Returns:
        The test accuracy, at least ``ACCURACY_MIN``.

    Raises:
        DemoFailed: Something else came out.
    """
    with Cluster.up(home) as cluster, Client(f"unix://{home / 'head.sock'}") as client:
        options = fit_to(cluster.wait_for_nodes(client))
        cluster.gpusched("nodes", why="what is there")
        # This Python has torch; the checkpoints go when the demo goes.
        options += ["--venv", sys.prefix, "--env", f"CHECKPOINT_DIR={home / 'checkpoints'}"]
        cluster.gpusched("submit", JOB_FILE, *options, why="a real DistributedDataParallel training")
        job_id = next(client.jobs.list()).job.job_id
        cluster.gpusched("logs", "--follow", str(job_id), why="all ranks, live, each line with its rank")
        state = client.jobs.wait(job_id).job.state
        cluster.gpusched("job", "show", str(job_id), why="the job, its efficiency, its cost, its placement")
        cluster.gpusched("cost", "--by", "job", why="every GPU-second, at prices invented for the demo")
        if state.value != "COMPLETED":
            raise DemoFailed(f"job {job_id} ended {state.value}, not COMPLETED")
        return accuracy_of(client, job_id)


@dataclass(frozen=True)
class Cluster:
    """A running ``gpusched up``."""

    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]
    log: Path  # what head and agents say

    @classmethod
    @contextmanager
    def up(cls, home: Path) -> Iterator[Cluster]:
        """Run a head and agents as long as the block."""
        (home / "config.toml").write_text(CONFIG)
        others = {name: value for name, value in os.environ.items() if not name.startswith("GPUSCHED_")}
        args = ["up", "--home", str(home), "--nodes", str(NODES)]
        # The nodes share this machine's CPUs; with too few, declared ones take turns.
        if len(os.sched_getaffinity(0)) < RANKS_PER_NODE * NODES:
            args += ["--cpus", str(RANKS_PER_NODE)]
        narrate([*args, "&"], "a head and agents; their state goes when the demo goes")
        log = home / "up.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "gpusched", *args],
                env=others,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops this in order
            )
        try:
            yield cls(others | {"GPUSCHED_HOME": str(home)}, process, log)
        finally:
            stop(process)

    def gpusched(self, *args: str, why: str) -> None:
        """Run one command to its end, its output going where ours goes.

        Raises:
            DemoFailed: It ended with another exit code than 0.
        """
        narrate(args, why)
        command = [sys.executable, "-m", "gpusched", *args]
        code = subprocess.run(command, env=self.environment, cwd=ROOT, check=False).returncode
        if code != 0:
            raise DemoFailed(f"`gpusched {shlex.join(args)}` ended with code {code}")

    def wait_for_nodes(self, client: Client) -> dict[NodeName, int]:
        """Wait until all nodes have joined, and say what kind they are.

        Returns:
            How many real GPUs each has: 0 if its GPUs are declared.

        Raises:
            DemoFailed: They have not joined after ``READY_S``; with what the cluster said.
        """
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                nodes = [view.node.facts for view in client.nodes.list()]
            except Unavailable:  # the head is still starting
                nodes = []
            gpus = {node.name: sum(not device.declared for device in node.devices) for node in nodes}
            if any(gpus.values()):
                say(f"NVML finds {sum(gpus.values())} GPUs: they make one node, and the job is cut to fit")
                return gpus
            if len(gpus) == NODES:
                say("NVML finds no GPU: they are declared, and the training runs on CPUs")
                return gpus
            time.sleep(0.1)
        raise DemoFailed(f"`gpusched up` has no {NODES} nodes after {READY_S:.0f} s:\n{self.log.read_text()}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the cluster and its jobs, and wait for it. From here on no signal cuts the way short."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    say("stopping jobs, agents and head")
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()  # the kernel then ends its children (PR_SET_PDEATHSIG)
        process.wait()


def fit_to(gpus: Mapping[NodeName, int]) -> list[str]:
    """Return the options that make the job fit real GPUs; none for the declared ones it is written for."""
    here = max(gpus.values())
    if not here:
        return []
    ranks = str(min(here, RANKS_PER_NODE))
    return ["--nodes", "1", "--gpus-per-node", ranks, "--ntasks-per-node", ranks]


def accuracy_of(client: Client, job_id: JobId) -> float:
    """Read the last line of rank 0.

    Raises:
        DemoFailed: It holds no accuracy, or too low a one.
    """
    output = b"".join(chunk.data for chunk in client.jobs.logs(job_id, ranks=(0,), tail_lines=1))
    try:
        accuracy = float(json.loads(output)["test_accuracy"])
    except (ValueError, KeyError, TypeError):
        raise DemoFailed(f"the last line of rank 0 holds no test_accuracy: {output!r}") from None
    if accuracy < ACCURACY_MIN:
        raise DemoFailed(f"test accuracy {accuracy} is below {ACCURACY_MIN}")
    return accuracy


def narrate(args: Iterable[str], why: str) -> None:
    """Show a command as a user would type it."""
    text = " ".join(arg if arg == "&" else shlex.quote(arg) for arg in args)
    print(f"\n$ gpusched {text}  # {why}", flush=True)


def say(text: str) -> None:
    """Print a remark of the demo's own."""
    print(f"demo: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
