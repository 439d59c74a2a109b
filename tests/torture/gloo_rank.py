"""One rank of a job that does nothing but collectives: gloo on CPUs, a step a beat, for ever.

``python gloo_rank.py STEP_S LOG_EVERY [SLOW_RANK SLOW_S]``: a step takes STEP_S of work, every LOG_EVERY-th
writes a line, and SLOW_RANK takes SLOW_S more. The pid of each rank is its first line.
"""

from __future__ import annotations

import os
import sys
import time

import torch
import torch.distributed as dist


def work(seconds: float) -> None:
    """Compute for so long, as a training step does."""
    until = time.monotonic() + seconds
    matrix = torch.rand(64, 64)
    while time.monotonic() < until:
        matrix = torch.tanh(matrix @ matrix)


def main(step_s: float, log_every: int, slow_rank: int = -1, slow_s: float = 0.0) -> None:
    """Go on until killed."""
    torch.set_num_threads(1)
    print(f"pid {os.getpid()}", flush=True)
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    value = torch.ones(1)
    step = 0
    while True:
        step += 1
        work(step_s)
        if rank == slow_rank:
            time.sleep(slow_s)
        dist.all_reduce(value)
        value /= dist.get_world_size()
        if log_every and step % log_every == 0:
            print(f"step {step}", flush=True)


if __name__ == "__main__":
    main(
        float(sys.argv[1]),
        int(sys.argv[2]),
        *(convert(word) for convert, word in zip((int, float), sys.argv[3:], strict=False)),
    )
