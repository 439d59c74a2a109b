"""A node is cut off from the head: its job never runs twice at once (R6), and soon runs elsewhere (R7).

Real agents in network namespaces, over TLS. The cut is a pulled cable, packets lost in one direction only,
an agent that is stopped, or a cable pulled while the head is killed too. The jobs write ten signs of life
a second.

python -m torture.partitions --out FILE        (as root)
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum

from simulation.checkers import Violation
from torture.network import Host, network
from torture.records import broken, judge, read_ticks
from torture.remote import remote_agent, remote_head
from torture.ticking import TickingJobs, broken_ends, ended_as_asked

from benchmarks.cluster import Head, temporary_home, until
from benchmarks.report import SEED, Figure, Measured, at_most, percentile, run_benchmark, say
from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.job_spec import OnDisconnect
from gpusched.wire.client import Client

CPUS = 2
STAYS_CUT_MOST_S = 10.0


class Cut(StrEnum):
    """How a node is cut off."""

    CABLE = "cable pulled"
    TO_HEAD = "what it sends is lost"
    FROM_HEAD = "what it is sent is lost"
    STOPPED = "its agent is stopped"
    HEAD_TOO = "cable pulled, head killed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How often each cut is made, and how many clusters live at once."""

    cuts: tuple[Cut, ...] = tuple(Cut)
    rounds: int = 10
    at_once: int = 6
    lease_s: float = 15.0


QUICK = Sizes(cuts=(Cut.CABLE, Cut.HEAD_TOO), rounds=1, at_once=2, lease_s=3.0)


@dataclass(frozen=True, slots=True)
class _Outcome:
    cut: Cut
    moved_s: float  # from the cut to the first sign of life elsewhere
    replaced: int  # jobs replaced that must not be
    ended_wrongly: int
    found: tuple[Violation, ...]


def measure(sizes: Sizes) -> Measured:
    """Cut a node off under a job that may be replaced and one that may not."""
    trials = [(cut, number, sizes.lease_s) for number in range(sizes.rounds) for cut in sizes.cuts]
    with ThreadPoolExecutor(sizes.at_once) as pool:
        outcomes = list(pool.map(lambda trial: _trial(*trial), trials))
    under = f"{len(outcomes)} cuts"
    moved_s = [outcome.moved_s for outcome in outcomes]
    bound = at_most(30) if sizes.lease_s >= Sizes().lease_s else at_most(15 + sizes.lease_s)
    worst_s = {str(cut): max(o.moved_s for o in outcomes if o.cut is cut) for cut in sizes.cuts}
    replaced = sum(outcome.replaced for outcome in outcomes)
    say(f"R6, R7 {under}: the job ran elsewhere after {percentile(moved_s, 99):.1f} s (p99); {worst_s}")
    figures = [
        broken(under, [violation for outcome in outcomes for violation in outcome.found]),
        Figure(
            f"replaced though they must not be, {under}",
            replaced,
            "jobs",
            at_most(0),
        ),
        broken_ends(under, sum(outcome.ended_wrongly for outcome in outcomes)),
        Figure(f"from cut to running elsewhere, p99 of {under}", percentile(moved_s, 99), "s", bound),
        Figure(f"from cut to running elsewhere, median of {under}", percentile(moved_s, 50), "s"),
    ]
    return Measured(figures, {"worst_s": worst_s})


def _trial(cut: Cut, number: int, lease_s: float) -> _Outcome:
    dice = random.Random(f"{SEED}-{cut}-{number}")
    with ExitStack() as stack:
        home = stack.enter_context(temporary_home())
        at_head, *others = stack.enter_context(network(("head", "n1", "n2")))
        head = stack.enter_context(remote_head(home, at_head, f"[engine]\nsilence_max_s = {lease_s}\n"))
        options = ("--devices", "none", "--cpus", str(CPUS))
        pids = {
            host.name: stack.enter_context(remote_agent(head, at_head, host, *options)) for host in others
        }
        client = stack.enter_context(head.client())
        jobs = TickingJobs(home, period_s=0.1)
        (movable,) = jobs.submit(client, 1, requeue=True)
        node = _node_of(client, movable)
        keeps = OnDisconnect.KEEP_RUNNING
        (staying,) = jobs.submit(client, 1, requeue=True, on_disconnect=keeps, nodelist=(node,))
        victim = next(host for host in others if host.name == node)
        cut_us = time.time_ns() // 1000
        with _cut(cut, victim, at_head, head, pids[victim.name]):
            until(lambda: _first_tick_us(jobs, movable) is not None, "the job to run elsewhere")
            threading.Event().wait(dice.uniform(0, STAYS_CUT_MOST_S))
        until(lambda: all(view.node.reachable for view in client.nodes.list()), "the node to be back")
        jobs.end()
        wrong = ended_as_asked(client, (movable, staying))
        attempt = client.jobs.get(staying).job.attempt
        first_us = _first_tick_us(jobs, movable)
        assert first_us is not None and attempt is not None
        found = judge(f"sqlite:///{home}/gpusched.db", ticks=jobs.ticks)
        return _Outcome(cut, (first_us - cut_us) / 1e6, int(attempt.epoch > 1), wrong, found)


def _node_of(client: Client, job_id: JobId) -> NodeName:
    attempt = client.jobs.get(job_id).job.attempt
    assert attempt is not None
    return attempt.node_names[0]


def _first_tick_us(jobs: TickingJobs, job_id: JobId) -> int | None:
    """When the second attempt first lived."""
    ticks = [tick.at_us for tick in read_ticks(jobs.ticks) if tick.job_id == job_id and tick.epoch > 1]
    return min(ticks, default=None)


@contextmanager
def _cut(cut: Cut, victim: Host, at_head: Host, head: Head, agent_pid: int) -> Iterator[None]:
    if cut is Cut.STOPPED:
        os.kill(agent_pid, signal.SIGSTOP)
        yield
        os.kill(agent_pid, signal.SIGCONT)
    elif cut is Cut.TO_HEAD:
        victim.lose_all_to(at_head)
        yield
        victim.lose_nothing_to(at_head)
    elif cut is Cut.FROM_HEAD:
        at_head.lose_all_to(victim)
        yield
        at_head.lose_nothing_to(victim)
    else:
        victim.pull()
        if cut is Cut.HEAD_TOO:
            head.kill()
            head.start()
        yield
        victim.plug()


if __name__ == "__main__":
    sys.exit(run_benchmark("partitions", measure, full=Sizes(), quick=QUICK))
