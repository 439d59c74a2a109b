"""``gpusched advise-checkpoint``: how often a job should write a checkpoint, by what was seen here."""

from __future__ import annotations

import click

from gpusched.cli.as_json import plain
from gpusched.cli.quantities import parse_count, show_duration
from gpusched.cli.screen import print_fields, print_json
from gpusched.cli.session import JOB_ID, Parsed, Session, json_option, pass_session
from gpusched.domain.checkpoints import (
    PRIOR_PER_NODE_DAY,
    RESTART_S,
    CheckpointAdvice,
    FailureHistory,
    advise_checkpoint,
)
from gpusched.domain.ids import JobId

_COUNT = Parsed("N", parse_count)
_SECONDS = click.FloatRange(min=0.001, max=1e6)


@click.command("advise-checkpoint")
@click.argument("job_id", type=JOB_ID, metavar="[JOB]", required=False)
@click.option("-N", "--nodes", type=_COUNT, help="Of how many nodes the job is.")
@click.option("-G", "--gpus", type=_COUNT, help="Or of how many GPUs.")
@click.option("--gpus-per-node", type=_COUNT, default=8, show_default=True, help="With --gpus.")
@click.option(
    "--checkpoint-seconds", type=_SECONDS, required=True, help="How long one checkpoint stops the training."
)
@click.option("--restart-seconds", type=_SECONDS, help="From a failure to the next step; default: measured.")
@json_option
@pass_session
def advise(
    session: Session,
    /,
    *,
    job_id: int | None,
    nodes: int | None,
    gpus: int | None,
    gpus_per_node: int,
    checkpoint_seconds: float,
    restart_seconds: float | None,
    as_json: bool,
) -> None:
    """Say how often to write a checkpoint, by how often nodes fail here and what a checkpoint costs."""
    if sum(given is not None for given in (job_id, nodes, gpus)) != 1:
        raise click.UsageError("give one of JOB, --nodes and --gpus")
    if job_id is not None:
        nodes = session.client.jobs.get(JobId(job_id)).job.spec.nodes
    elif gpus is not None:
        nodes = -(-gpus // gpus_per_node)
    assert nodes is not None
    history = session.client.reports.failures()
    measured_s = RESTART_S if history.restart_s is None else history.restart_s
    advice = advise_checkpoint(
        nodes=nodes,
        failures_per_node_day=history.failures_per_node_day,
        checkpoint_s=checkpoint_seconds,
        restart_s=measured_s if restart_seconds is None else restart_seconds,
    )
    if as_json:
        rate = history.failures_per_node_day
        print_json({"advice": plain(advice), "history": {**plain(history), "failures_per_node_day": rate}})
    else:
        _print(advice, history)


def _print(advice: CheckpointAdvice, history: FailureHistory) -> None:
    each = [show_duration(s) for s in (advice.interval_s, advice.young_s, advice.daly_s)]
    shares = (
        f"{advice.writing:.2%} writing, {advice.redoing:.2%} done twice, {advice.restarting:.2%} restarting"
    )
    rate = f"{1000 * history.failures_per_node_day:.2f} per 1,000 node-days"
    seen = f"{history.failures} failures in {history.node_days:.1f} node-days of use"
    prior = f"a prior of {1000 * PRIOR_PER_NODE_DAY:.2f}"
    assumed = " (assumed: none was seen)" if history.restart_s is None else ""
    print_fields(
        [
            ("Checkpoint every", f"{each[0]} (Young {each[1]}, Daly {each[2]})"),
            ("Lasting progress", f"{advice.ettr:.1%} of the wall time"),
            ("Lost", shares),
            (
                "A failure every",
                f"{show_duration(advice.mttf_s)} on {advice.nodes} node{'s' * (advice.nodes != 1)}",
            ),
            ("Rate", f"{rate}: {seen}, and {prior}"),
            ("A restart takes", f"{show_duration(advice.restart_s)}{assumed}"),
        ]
    )
