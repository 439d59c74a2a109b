"""201 processes that fled their job by fork, setsid and deaf ears are gone when it ends (R21).

python -m torture.escapees --out FILE
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from integration.runner.escapees import escape, escaped
from integration.runner.rig import JOB, Node, end_everything, started

from benchmarks.report import Figure, Measured, at_most, percentile, run_benchmark, say
from gpusched.domain.events import TasksEnded
from gpusched.domain.ids import Epoch

ESCAPEES = 201


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How often."""

    rounds: int = 500


QUICK = Sizes(rounds=2)


def measure(sizes: Sizes) -> Measured:
    """Stop a job whose 201 processes all escaped it; count who lives."""
    rounds = [asyncio.run(_round(number)) for number in range(1, sizes.rounds + 1)]
    worst_s, survivors = percentile([s for s, _ in rounds], 100), sum(left for _, left in rounds)
    under = f"{sizes.rounds} rounds of {ESCAPEES} escapees"
    say(f"R21 {under}: {survivors} survivors, gone in {worst_s:.2f} s at most")
    return Measured(
        [
            Figure(f"survivors, {under}", survivors, "processes", at_most(0)),
            Figure(f"until all are gone, worst of {under}", worst_s, "s", at_most(1)),
        ]
    )


async def _round(number: int) -> tuple[float, int]:
    """Seconds from the order to the report, and how many live then."""
    with tempfile.TemporaryDirectory(prefix="gst-") as folder:
        home = Path(folder) / "agent"
        node = Node(home)
        try:
            await node.start()
            assert node.runner is not None
            await started(node, escape(node, ESCAPEES, then="time.sleep(600)"), "escaped")
            began_s = time.monotonic()
            await node.runner.stop(JOB, Epoch(1), 0, "the round is over")
            ended = await node.report(TasksEnded)
            took_s = time.monotonic() - began_s
            assert isinstance(ended, TasksEnded)
            return took_s, len(escaped(node))
        finally:
            await node.stop()
            end_everything(home)


if __name__ == "__main__":
    sys.exit(run_benchmark("escapees", measure, full=Sizes(), quick=QUICK))
