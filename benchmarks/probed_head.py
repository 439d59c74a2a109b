"""``gpusched`` with a stopwatch on the engine: the same program, the same arguments.

When it ends it writes what it measured to the file named by ``GPUSCHED_BENCH_PROBE``: for every step and
every cycle of the engine how long it took, in seconds, and when, as CLOCK_MONOTONIC.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from gpusched.cli.main import main
from gpusched.engine.core import Engine

P = ParamSpec("P")
T = TypeVar("T")


def _timed(call: Callable[P, T], into: list[tuple[float, float]]) -> Callable[P, T]:
    def timed(*args: P.args, **kwargs: P.kwargs) -> T:
        began = time.monotonic()
        try:
            return call(*args, **kwargs)
        finally:
            into.append((began, time.monotonic() - began))

    return timed


def run() -> None:
    """Be ``gpusched``; leave the measurements behind."""
    measured: dict[str, list[tuple[float, float]]] = {"handle": [], "cycle": []}
    Engine.handle = _timed(Engine.handle, measured["handle"])  # type: ignore[method-assign]
    Engine.cycle = _timed(Engine.cycle, measured["cycle"])  # type: ignore[method-assign]
    try:
        main()
    finally:
        Path(os.environ["GPUSCHED_BENCH_PROBE"]).write_text(json.dumps(measured), encoding="utf-8")


if __name__ == "__main__":
    run()
