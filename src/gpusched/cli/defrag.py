"""``gpusched defrag``: what would have to move so that a gang fits. Nothing is moved by it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from gpusched.cli.as_json import plain
from gpusched.cli.draft import Draft
from gpusched.cli.job_of_draft import spec_of
from gpusched.cli.options import draft_of, job_options, per_node
from gpusched.cli.screen import Table, print_json, print_line, print_table
from gpusched.cli.session import JOB_ID, Session, json_option, pass_session
from gpusched.domain.defrag import DefragPlan, JobMove
from gpusched.domain.hostlist import fold_hostlist
from gpusched.domain.ids import JobId

_SHAPE = frozenset(
    {"nodes", "gpus_per_node", "gpus", "gres", "gpu_model", "gpu_mem", "tasks_per_node", "ntasks"}
    | {"cpus_per_task", "mem", "partition", "nodelist", "exclude"}
    | {"topology_required", "topology_preferred", "segment", "spread"}
)


class ShapeCommand(click.Command):
    """A command that takes those of the job options that say where a job could run."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *(option for option in job_options() if option.name in _SHAPE)]


@click.group()
def defrag() -> None:
    """Plan how to make room for a gang by moving jobs."""


@defrag.command("plan", cls=ShapeCommand)
@click.argument("job_id", type=JOB_ID, required=False, metavar="[JOB]")
@json_option
@pass_session
def plan(session: Session, /, *, job_id: int | None, as_json: bool, **shape: Any) -> None:
    """Find the fewest running jobs to move so that a pending job, or a gang of this shape, fits now.

    Only jobs marked requeue are moved, and only your own unless you are an operator.
    """
    typed = draft_of(shape, "command line:")
    if (job_id is None) == (not typed.values):
        raise click.UsageError(
            "give a pending job, or the shape of a gang such as --nodes 4 --gpus-per-node 8"
        )
    if job_id is not None:
        found = session.client.jobs.plan_defrag(JobId(job_id))
    else:
        draft = per_node(Draft({"run": ["true"]}, origin="command line").updated(typed))
        found = session.client.jobs.plan_defrag(spec_of(draft, cwd=session.cwd(), name="gang"))
    if as_json:
        print_json(plain(found))
    else:
        _print(found, job_id)


def _print(found: DefragPlan, job_id: int | None) -> None:
    print_line(f"{found.message[:1].upper()}{found.message[1:]}")
    if not found.moves:
        return
    print_table(_table(found.moves))
    print_line(f"The gang then fits on {fold_hostlist(found.gang_nodes)}.")
    print_line(_loss(found.moves))
    if found.jobs_ahead:
        print_line(f"{found.jobs_ahead} jobs go before it: what they can use of the room is theirs.")
    ids = " ".join(str(move.job_id) for move in found.moves)
    print_line("Nothing was moved. To do it, once the gang is queued:")
    print_line(f"  gpusched job requeue --hold {ids}")
    print_line(f"  gpusched job release {ids}    # when job {job_id or 'N'} has started")


def _table(moves: Iterable[JobMove]) -> Table:
    columns = ("JOB", "NAME", "USER", "GPUS", "FROM", "TO", "GPU-HOURS")
    table = Table(columns, right=frozenset({"JOB", "GPUS", "GPU-HOURS"}))
    for move in moves:
        lost = "unknown" if move.lost_gpu_s is None else f"{move.lost_gpu_s / 3600:.1f}"
        nodes = (fold_hostlist(move.from_nodes), fold_hostlist(move.to_nodes))
        table.add(str(move.job_id), move.name, move.user, str(move.gpus), *nodes, lost)
    return table


def _loss(moves: Iterable[JobMove]) -> str:
    lost = [move.lost_gpu_s for move in moves]
    known = sum(seconds for seconds in lost if seconds is not None) / 3600
    unknown = "" if None not in lost else f", and what {lost.count(None)} did that is not known"
    return (
        f"They would run again at most {known:.1f} GPU-hours, counted from their starts{unknown}; "
        "less where they made checkpoints."
    )
