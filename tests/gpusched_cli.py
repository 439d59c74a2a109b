"""``gpusched`` as its users run it: a process of its own, judged by its exit code and what it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpusched.domain.node import Schedulability
from gpusched.wire.client import Client

RUN_DEADLINE_S = 120
COMMAND = (sys.executable, "-m", "gpusched")


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


def gpusched(
    *words: str | bytes,
    home: Path | None = None,
    cwd: Path | None = None,
    settings: Mapping[str, str] | None = None,
    deadline_s: float = RUN_DEADLINE_S,
) -> Ran:
    """Run one command to its end.

    Args:
        words: Its command line.
        home: Of the cluster that it is to find; None: the empty one of the test session.
        cwd: Where it is typed.
        settings: More environment variables.
        deadline_s: A command that is not over by then is a failed test.
    """
    place = {} if home is None else {"GPUSCHED_HOME": str(home)}
    done = subprocess.run(
        [*COMMAND, *words],
        env={**os.environ, **place, **(settings or {})},
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=deadline_s,
    )
    return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def assert_refused(ran: Ran, code: int, *said: str) -> None:
    """One clear message, the documented exit code, nothing on standard output, no traceback."""
    errors = [line for line in ran.err.splitlines() if "error:" in line.lower()]
    assert (ran.code, len(errors)) == (code, 1), ran
    assert errors[0].startswith("gpusched: error: "), ran
    assert "Traceback" not in ran.err, ran
    assert "unexpected" not in errors[0], ran
    assert ran.out == "", ran
    for part in said:
        assert part in errors[0], ran


def state_of(client: Client) -> tuple[list[tuple[int, str]], list[tuple[str, Schedulability]]]:
    """Every job with its state, and what was decided about every node: what bad input must not change."""
    jobs = [(view.job.job_id, view.job.state.value) for view in client.jobs.list()]
    return jobs, [(view.node.name, view.node.schedulability) for view in client.nodes.list()]
