"""What a benchmark says: figures against their budgets, and where and on what they were measured.

A result is one JSON object; ``scripts/figures.py`` writes the README's table from the files of results.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal, NoReturn, TypeVar

import numpy as np

from benchmarks.machine import Machine, commit, this_machine

SEED = 7
RESULTS = Path(__file__).with_name("results")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Budget:
    """A bound from the design; a figure keeps it or misses it."""

    side: Literal["<=", ">="]
    bound: float

    def holds(self, value: float) -> bool:
        """Whether ``value`` keeps within it."""
        return value <= self.bound if self.side == "<=" else value >= self.bound

    def __str__(self) -> str:
        return f"{self.side} {self.bound:,g}"


def at_most(bound: float) -> Budget:
    """The figure may not be greater."""
    return Budget("<=", bound)


def at_least(bound: float) -> Budget:
    """The figure may not be smaller."""
    return Budget(">=", bound)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    what: str
    value: float
    unit: str
    budget: Budget | None = None

    def as_json(self) -> dict[str, Any]:
        """The form in which results are kept."""
        plain: dict[str, Any] = {"what": self.what, "value": round(self.value, 4), "unit": self.unit}
        if self.budget is not None:
            plain |= {"budget": str(self.budget), "met": self.budget.holds(self.value)}
        return plain

    def __str__(self) -> str:
        line = f"{self.what:<58} {self.value:>12,.4g} {self.unit:<12}"
        if self.budget is None:
            return line
        return f"{line} {self.budget!s:<10} {'met' if self.budget.holds(self.value) else 'MISSED'}"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a benchmark returns: the figures, and whatever else explains them."""

    figures: Sequence[Figure]
    details: Mapping[str, Any] = field(default_factory=dict)


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which ``percent`` of 100 lie, interpolated."""
    return float(np.percentile(np.asarray(values, dtype=float), percent))


def say(message: str) -> None:
    """Tell whoever watches how far it is."""
    sys.stderr.write(f"bench: {message}\n")
    sys.stderr.flush()


def result_of(name: str, measured: Measured, machine: Machine, sizes: object) -> dict[str, Any]:
    """One result, ready to be written. ``sizes`` is the dataclass that the benchmark was run with."""
    return {
        "name": name,
        "commit": commit(),
        "machine": machine.short,
        "machine_facts": asdict(machine),
        "seed": SEED,
        "sizes": asdict(sizes),  # type: ignore[call-overload]
        "figures": [figure.as_json() for figure in measured.figures],
        "details": dict(measured.details),
    }


def run_benchmark(name: str, measure: Callable[[S], Measured], *, full: S, quick: S) -> int:
    """Be the ``main`` of a benchmark: read the command line, measure, say and keep the result.

    Returns:
        0; a missed budget is a finding, not an error.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {_module()}", description=measure.__doc__)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    parser.add_argument("--out", type=Path, metavar="FILE", help="also write the JSON there")
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    options = parser.parse_args()
    unwind_when_asked_to_end()
    sizes = quick if options.quick else full
    machine = this_machine(Path(tempfile.gettempdir()))
    say(f"{name} on {machine.short}, {machine.busy_before_percent:.0f} % busy before")
    measured = measure(sizes)
    result = result_of(name, measured, machine, sizes)
    if options.out is not None:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if options.json:
        print(json.dumps(result))
    else:
        print("\n".join(str(figure) for figure in measured.figures))
    return 0


def _module() -> str:
    """How the running program was named to Python: ``benchmarks.restart``, ``torture.heads``."""
    spec = sys.modules["__main__"].__spec__
    return "benchmarks" if spec is None else spec.name


def unwind_when_asked_to_end() -> None:
    """Make SIGTERM leave through every ``with`` and ``finally``: who started processes ends them there."""
    signal.signal(signal.SIGTERM, _leave)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
