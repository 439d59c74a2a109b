"""Runs seeds: one with its whole trace, or many with one line of figures.

python -m simulation.run --seed 17
python -m simulation.run --seeds 1000 --first 0 --out results.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from simulation.world import Outcome, run_seed

from benchmarks.machine import this_machine
from benchmarks.report import Figure, Measured, at_most, result_of

ROOT = Path(__file__).parents[2]
TRACE_TAIL = 40
CHUNK = 20
PROGRESS_EVERY = 500


@dataclass(frozen=True, slots=True)
class Sizes:
    """Which seeds were run, by how many processes at a time."""

    seeds: int
    first: int
    processes: int


@dataclass(slots=True)
class Totals:
    """What many seeds add up to."""

    seeds: int = 0
    jobs: int = 0  # acknowledged
    events: int = 0
    executions: int = 0
    faults: int = 0
    steps: int = 0
    virtual_s: float = 0.0

    def add(self, outcome: Outcome) -> None:
        self.seeds += 1
        self.jobs += outcome.jobs
        self.events += outcome.events
        self.executions += outcome.executions
        self.faults += outcome.faults
        self.steps += outcome.steps
        self.virtual_s += outcome.virtual_s

    def __str__(self) -> str:
        return (
            f"{self.seeds:,} seeds: {self.jobs:,} acknowledged jobs, {self.executions:,} executions, "
            f"{self.faults:,} faults, {self.events:,} events, {self.steps:,} steps, "
            f"{self.virtual_s / 3600:,.0f} virtual hours"
        )


def tail_of(outcome: Outcome) -> str:
    """A failed seed in short: its number, options, last lines and problems."""
    lines = outcome.trace[-TRACE_TAIL:]
    left_out = len(outcome.trace) - len(lines)
    head = f"seed {outcome.seed}: {outcome.options}"
    again = f"the whole of it: make sim SEED={outcome.seed}"
    problems = [f"!! {problem}" for problem in outcome.problems]
    return "\n".join([head, f"  ... {left_out} lines", *(f"  {line}" for line in lines), *problems, again])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; 0 if every promise was kept."""
    parser = argparse.ArgumentParser(prog="python -m simulation.run", description=__doc__)
    parser.add_argument("--seed", type=int, metavar="N", help="this one, with its trace")
    parser.add_argument("--seeds", type=int, default=300, metavar="N", help="how many")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first of them")
    parser.add_argument("--processes", type=int, default=1, metavar="N")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures there, as JSON")
    given = parser.parse_args(arguments)
    machine = this_machine(ROOT)
    if given.seed is not None:
        outcome = run_seed(given.seed)
        sys.stdout.write(f"{outcome}\n{_verdict(bool(outcome.problems))}\n")
        return 1 if outcome.problems else 0
    began_s = time.monotonic()
    totals, failed = Totals(), []
    for outcome in _outcomes(range(given.first, given.first + given.seeds), given.processes):
        totals.add(outcome)
        if outcome.problems:
            failed.append(outcome.seed)
            sys.stdout.write(f"{tail_of(outcome)}\n\n")
            sys.stdout.flush()
        if totals.seeds % PROGRESS_EVERY == 0:
            sys.stderr.write(f"{totals.seeds:,} of {given.seeds:,} seeds, {len(failed)} failed\n")
    wall_s = time.monotonic() - began_s
    sys.stdout.write(f"{totals}, {wall_s:.0f} s: {len(failed)} failed {failed or ''}\n")
    if given.out is not None:
        sizes = Sizes(given.seeds, given.first, given.processes)
        result = result_of("simulation", _measured(totals, failed, wall_s), machine, sizes)
        given.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 1 if failed else 0


def _outcomes(seeds: range, processes: int) -> Iterator[Outcome]:
    if processes == 1:
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(processes) as pool:
        yield from pool.map(run_seed, seeds, chunksize=CHUNK)


def _verdict(is_broken: bool) -> str:
    return "a promise was broken" if is_broken else "every promise was kept"


def _measured(totals: Totals, failed: list[int], wall_s: float) -> Measured:
    under = f"{totals.seeds:,} seeds"
    figures = [
        Figure(f"jobs acknowledged, {under}", totals.jobs, "jobs"),
        Figure(f"faults, {under}", totals.faults, "faults"),
        Figure(f"simulated time, {under}", totals.virtual_s / 3600, "h"),
        Figure(f"it took, {under}", wall_s, "s"),
        Figure(f"seeds under which a promise was broken, of {under}", len(failed), "seeds", at_most(0)),
    ]
    return Measured(figures, {"totals": asdict(totals), "failed_seeds": failed})


if __name__ == "__main__":
    sys.exit(main())
