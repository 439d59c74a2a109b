"""``gpusched simulate``: the engine on a trace or on its own past, in virtual time; and what if."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpusched.daemon.commands import home_of
from gpusched.daemon.compare import compare, show_compared
from gpusched.daemon.config import find_config
from gpusched.daemon.history import read_history
from gpusched.daemon.plots import save_html, save_png
from gpusched.daemon.scenario import Changes, Cluster, Scenario
from gpusched.daemon.simulated import Outcome, TimeLimits, run_scenario, scenario_of
from gpusched.daemon.traces import TraceFormat, read_trace
from gpusched.domain.ids import NodeName
from gpusched.policy.order import Order

if TYPE_CHECKING:
    from gpusched.engine.simulation import Simulated

_HOME = "the home's database"
_REFUSED_SHOWN = 5


def _quotas(_context: click.Context, _param: click.Parameter, given: Sequence[str]) -> dict[str, int]:
    quotas = {}
    for text in given:
        account, _, gpus = text.rpartition("=")
        if not (account and gpus.isascii() and gpus.isdecimal()):
            raise click.BadParameter(f"{text!r} is not ACCOUNT=GPUS, such as vision=32")
        quotas[account] = int(gpus)
    return quotas


@click.command()
@click.argument("trace", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--format",
    "format_",
    type=click.Choice([str(form) for form in TraceFormat]),
    default="csv",
    show_default=True,
    help="Whose form the trace has.",
)
@click.option("--nodes", type=click.IntRange(1, 65_536), help="Nodes of the cluster; needed for a trace.")
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
@click.option(
    "--from-store",
    "store",
    is_flag=False,
    flag_value=_HOME,
    metavar="[URL]",
    help=f"Instead of a trace, replay the history in a database. [default URL: {_HOME}]",
)
@click.option("--home", type=click.Path(path_type=Path), envvar="GPUSCHED_HOME", help="The head's home.")
@click.option("--since", metavar="WHEN", help="Of the history: RFC 3339, a date, or 7d for that long ago.")
@click.option("--until", metavar="WHEN", help="As --since; default: now.")
@click.option("--add-nodes", type=click.IntRange(1, 65_536), help="What if: so many more nodes.")
@click.option("--add-devices", metavar="SPEC", help="Devices of each node added; default: as the first node.")
@click.option("--without-node", multiple=True, metavar="NAME", help="What if: without this node.")
@click.option(
    "--order", type=click.Choice([str(order) for order in Order]), help="What if: jobs in this order."
)
@click.option(
    "--quota", multiple=True, callback=_quotas, metavar="ACCOUNT=GPUS", help="What if: with this quota."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write job_id,submit,start,end (seconds) as CSV there.",
)
@click.option(
    "--html", type=click.Path(path_type=Path, dir_okay=False), help="Also write a page with plots there."
)
@click.option("--png", type=click.Path(path_type=Path, dir_okay=False), help="Also write the plots there.")
def simulate(**given: Any) -> None:
    """Run a trace, or the cluster's own past, through the scheduler in virtual time.

    The decisions are the head's own: the same engine, stepped by a virtual clock. With a what-if option
    it is run twice, as it is and as it would be, and both are compared.

    \b
    Examples:
        gpusched simulate jobs.csv --nodes 64
        gpusched simulate theta.swf --format swf --nodes 16 --devices 4xA100 --json
        gpusched simulate jobs.csv --nodes 64 --order fair_share --quota vision=128
        gpusched simulate --from-store --since 30d --add-nodes 16
    """
    from gpusched.cli.screen import print_json

    scenario = _scenario(given)
    changes = Changes(
        add_nodes=given["add_nodes"] or 0,
        devices=given["add_devices"],
        without=frozenset(map(NodeName, given["without_node"])),
        order=None if given["order"] is None else Order(given["order"]),
        quotas=given["quota"],
    )
    if given["add_devices"] is not None and not changes.add_nodes:
        raise click.UsageError("--add-devices needs --add-nodes")
    outcomes = {"base": scenario}
    if changes.is_any:
        outcomes["what if"] = changes.applied(scenario)
    done = {name: _run(name, each) for name, each in outcomes.items()}
    last = done[next(reversed(done))]
    if given["out"] is not None:
        write_jobs(given["out"], [job.name for job in scenario.jobs], last.simulated)
    if given["html"] is not None:
        save_html(given["html"], done)
    if given["png"] is not None:
        save_png(given["png"], done)
    if given["as_json"]:
        print_json(compare(done) if changes.is_any else last.as_json())
    elif changes.is_any:
        show_compared(done)
    else:
        show(last)


def _scenario(given: dict[str, Any]) -> Scenario:
    if (given["trace"] is None) == (given["store"] is None):
        raise click.UsageError("give a trace, or --from-store: one of them")
    if given["store"] is not None:
        return _history(given)
    if given["since"] is not None or given["until"] is not None:
        raise click.UsageError("--since and --until need --from-store")
    if given["nodes"] is None:
        raise click.UsageError("a trace needs --nodes: how many there are")
    cluster = Cluster(
        nodes=given["nodes"],
        devices=given["devices"],
        cpus=given["cpus"],
        memory_bytes=given["memory_gib"] << 30,
        depth_max=given["depth"],
    )
    jobs = read_trace(given["trace"], TraceFormat(given["format_"]))
    return scenario_of(jobs, cluster, TimeLimits(given["limits"]))


def _history(given: dict[str, Any]) -> Scenario:
    """The past of a store, on the head's own settings."""
    from gpusched.cli.quantities import parse_instant
    from gpusched.daemon.clock import SystemClock
    from gpusched.store.reader import Reader

    now_us = SystemClock().now_us()
    since_us, until_us = 0, now_us
    try:
        if given["since"] is not None:
            since_us = parse_instant(given["since"], now_us=now_us)
        if given["until"] is not None:
            until_us = parse_instant(given["until"], now_us=now_us)
    except ValueError as error:
        raise click.UsageError(f"--since, --until: {error}") from None
    if since_us >= until_us:
        raise click.UsageError("--since must be before --until")
    home = home_of(given["home"])
    config = find_config(home, None)
    url = config.store_url(home) if given["store"] == _HOME else given["store"]
    with Reader(url) as reader:
        return read_history(reader, config.engine_settings(), since_us, until_us)


def _run(name: str, scenario: Scenario) -> Outcome:
    from gpusched.cli.screen import progress

    with ExitStack() as stack:
        tell = stack.enter_context(progress(f"{name}: jobs ended", len(scenario.jobs)))
        return run_scenario(scenario, tell)


def write_jobs(path: Path, names: Sequence[str], simulated: Simulated) -> None:
    """Write one line per job, seconds from the first submission; what never came to pass is empty."""
    first_us = simulated.jobs[0].arrival.at_us
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("job_id", "submit", "start", "end"))
        for name, job in zip(names, simulated.jobs, strict=True):
            times = (job.arrival.at_us, job.started_at_us, job.ended_at_us)
            rows.writerow((name, *("" if at is None else (at - first_us) / 1e6 for at in times)))


def show(outcome: Outcome) -> None:
    """Print the figures for people."""
    from gpusched.cli.screen import note, print_fields

    plain = outcome.summary.as_json()
    shares: dict[str, float] = plain.pop("account_shares_percent")
    refusal, refused = plain.pop("first_refusal"), plain.pop("refused_jobs")
    fields = [(name, "-" if value is None else f"{value:,}") for name, value in plain.items()]
    fields += [(f"share of {name}", f"{percent:g} %") for name, percent in shares.items()]
    print_fields(fields)
    if refusal is not None:
        names = ", ".join(refused[:_REFUSED_SHOWN]) + (", ..." if len(refused) > _REFUSED_SHOWN else "")
        note(f"{len(refused)} jobs were refused ({names}); the first: {refusal}")
