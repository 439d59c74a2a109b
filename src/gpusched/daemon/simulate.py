"""``gpusched simulate``: the engine on a trace, in virtual time."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpusched.daemon.simulated import Cluster, Summary, TimeLimits, run_trace
from gpusched.daemon.traces import TraceFormat, read_trace

if TYPE_CHECKING:
    from gpusched.engine.simulation import Simulated


@click.command()
@click.argument("trace", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--format",
    "format_",
    type=click.Choice([str(form) for form in TraceFormat]),
    default="csv",
    show_default=True,
    help="Whose form the trace has.",
)
@click.option("--nodes", type=click.IntRange(1, 65_536), required=True, help="Nodes of the cluster.")
@click.option("--devices", metavar="SPEC", default="8xH100", show_default=True, help="Devices of each node.")
@click.option("--cpus", type=click.IntRange(1, 65_536), default=128, show_default=True, help="Of each node.")
@click.option(
    "--memory-gib", type=click.IntRange(1, 1 << 23), default=2048, show_default=True, help="Of each node."
)
@click.option(
    "--limits",
    type=click.Choice([str(limits) for limits in TimeLimits]),
    default="trace",
    show_default=True,
    help="Time limits: as the trace says, exactly the running times, or none. Backfill needs some.",
)
@click.option(
    "--depth",
    type=click.IntRange(1, 1_000_000),
    default=10_000,
    show_default=True,
    help="Pending jobs that one cycle looks at.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write job_id,submit,start,end (seconds) as CSV there.",
)
def simulate(
    trace: Path,
    format_: str,
    nodes: int,
    devices: str,
    cpus: int,
    memory_gib: int,
    limits: str,
    depth: int,
    as_json: bool,
    out: Path | None,
) -> None:
    """Run a trace through the scheduler in virtual time.

    The decisions are the head's own: the same engine, stepped by a virtual clock.

    \b
    Examples:
        gpusched simulate jobs.csv --nodes 64
        gpusched simulate theta.swf --format swf --nodes 16 --devices 4xA100 --json
    """
    from gpusched.cli.screen import print_json

    jobs = read_trace(trace, TraceFormat(format_))
    cluster = Cluster(nodes=nodes, devices=devices, cpus=cpus, memory_bytes=memory_gib << 30, depth_max=depth)
    with click.progressbar(length=len(jobs), label="jobs ended", file=sys.stderr) as bar:
        simulated, summary = run_trace(jobs, cluster, TimeLimits(limits), lambda n: bar.update(n - bar.pos))
    if out is not None:
        write_jobs(out, [job.name for job in jobs], simulated)
    if as_json:
        print_json(summary.as_json())
    else:
        show(summary)


def write_jobs(path: Path, names: Sequence[str], simulated: Simulated) -> None:
    """Write one line per job, seconds from the first submission; what never came to pass is empty."""
    first_us = simulated.jobs[0].arrival.at_us
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("job_id", "submit", "start", "end"))
        for name, job in zip(names, simulated.jobs, strict=True):
            times = (job.arrival.at_us, job.started_at_us, job.ended_at_us)
            rows.writerow((name, *("" if at is None else (at - first_us) / 1e6 for at in times)))


def show(summary: Summary) -> None:
    """Print the figures for people."""
    from gpusched.cli.screen import note, print_fields

    plain = summary.as_json()
    shares: dict[str, float] = plain.pop("account_shares_percent")
    refusal = plain.pop("first_refusal")
    fields = [(name, "-" if value is None else f"{value:,}") for name, value in plain.items()]
    fields += [(f"share of {name}", f"{percent:g} %") for name, percent in shares.items()]
    print_fields(fields)
    if refusal is not None:
        note(f"{summary.refused} jobs were refused; the first: {refusal}")
