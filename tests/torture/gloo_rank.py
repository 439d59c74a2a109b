"""One rank of a job that does nothing but collectives, on CPUs, until it is killed.

python gloo_rank.py STEP_S LOG_EVERY [STRAGGLER_S [NOTES]]

A step is STEP_S of computing and one all-reduce; every LOG_EVERY-th (0: none) writes a line; in each step
another rank sleeps STRAGGLER_S first. With NOTES ``steps`` the step goes to the progress file, with ``own``
also the time spent outside the all-reduce. SIGHUP makes a rank slow, one more ends it: it sleeps for as long
again as it computes. SIGUSR1 makes a rank sleep for ever, SIGUSR2 read from a pipe that nobody writes to.
The first line is the rank's pid, the second says that it has met the others.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist


def compute(seconds: float) -> None:
    """Be busy for so long, as a training step is."""
    until = time.monotonic() + seconds
    matrix = torch.rand(64, 64)
    while time.monotonic() < until:
        matrix = torch.tanh(matrix @ matrix)


class Slow:
    """Whether this rank is slow for now."""

    is_on = False

    def toggle(self, *_: object) -> None:
        """Become slow, or cease to be."""
        self.is_on = not self.is_on


def main(step_s: float, log_every: int, straggler_s: float = 0.0, notes: str = "none") -> None:
    """Go on until killed."""
    torch.set_num_threads(1)
    never, _keeps_it_open = os.pipe()
    slow = Slow()
    signal.signal(signal.SIGHUP, slow.toggle)
    signal.signal(signal.SIGUSR1, lambda *_: time.sleep(1e6))
    signal.signal(signal.SIGUSR2, lambda *_: os.read(never, 1))
    print(f"pid {os.getpid()}", flush=True)
    dist.init_process_group("gloo")
    rank, size, step = dist.get_rank(), dist.get_world_size(), 0
    progress = Path(os.environ["GPUSCHED_PROGRESS_FILE"])
    value, own_s = torch.ones(1), 0.0
    while True:
        began_s = time.monotonic()
        compute(step_s)
        if slow.is_on:
            time.sleep(step_s)
        if straggler_s and step % size == rank:
            time.sleep(straggler_s)
        own_s += time.monotonic() - began_s
        dist.all_reduce(value)
        value /= size
        step += 1
        if notes != "none":
            progress.write_text(f"{step} {own_s:.6f}" if notes == "own" else str(step))
        if step == 1 or (log_every and step % log_every == 0):
            print(f"step {step}", flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), *map(float, sys.argv[3:4]), *sys.argv[4:5])
