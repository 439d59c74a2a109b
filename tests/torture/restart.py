"""A rank of a gang is killed (R20): all ranks run again on both nodes, and none of the old ones is left.

The time is the control plane's: from the kill until every node has reported the ranks of the next attempt
started. What the program then needs to load and to meet is its own.

python -m torture.restart --out FILE
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from dataclasses import dataclass

from torture.gangs import gang, met, next_event
from torture.records import broken, judge

from benchmarks.cluster import Head, own_ports, running_agents, running_head, temporary_home, until
from benchmarks.report import SEED, Figure, Measured, at_most, percentile, run_benchmark, say
from gpusched.agent.shim.proc import read_process
from gpusched.domain.events import JobAllocated, TasksStarted
from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import RestartOn
from gpusched.wire.client import Client


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How many gangs lose a rank, one after the other."""

    kills: int = 30


def measure(sizes: Sizes) -> Measured:
    """kill -9 of one rank of a gang that may restart."""
    dice, took_s, left = random.Random(SEED), list[float](), 0
    with temporary_home() as home, running_head(Head(home, own_ports())) as head:
        with (
            running_agents(head, ("n1", "n2"), "--devices", "none", "--cpus", "8"),
            head.client() as client,
        ):
            for _ in range(sizes.kills):
                job_id = client.jobs.submit(gang(requeue=True, restart_on=RestartOn.ANY))
                pids = met(client, job_id)
                seq = next_event(client, job_id, JobAllocated)[0].seq
                at_s = time.time()
                os.kill(dice.choice(sorted(pids.values())), signal.SIGKILL)
                took_s.append(_again(client, job_id, seq) - at_s)
                left += sum(read_process(pid) is not None for pid in pids.values())
                client.jobs.cancel(job_id)
                client.jobs.wait(job_id)
        head.stop()
        found = judge(f"sqlite:///{home}/gpusched.db")
    under = f"{sizes.kills} killed ranks of gangs of 2 x 2"
    worst_s, median_s = percentile(took_s, 100), percentile(took_s, 50)
    say(f"R20 {under}: all ranks again after {median_s:.2f} s (median), {worst_s:.2f} s at most")
    return Measured(
        [
            broken(under, found),
            Figure(f"old ranks that live beside the new ones, {under}", left, "ranks", at_most(0)),
            Figure(f"until all ranks run again, worst of {under}", worst_s, "s", at_most(10)),
            Figure(f"until all ranks run again, median of {under}", median_s, "s"),
        ]
    )


def _again(client: Client, job_id: JobId, after_seq: int) -> float:
    """When the last node of attempt 2 reported its ranks started, by the head's clock."""
    started: list[float] = []

    def all_nodes() -> bool:
        started.clear()
        for recorded in client.jobs.watch((job_id,), after_seq):
            if isinstance(recorded.event, TasksStarted) and recorded.event.epoch == 2:
                started.append(recorded.at_us / 1e6)
                if len(started) == 2:
                    return True
        return False

    until(all_nodes, f"the second attempt of job {job_id}")
    return max(started)


QUICK = Sizes(kills=2)

if __name__ == "__main__":
    sys.exit(run_benchmark("restart", measure, full=Sizes(), quick=QUICK))
