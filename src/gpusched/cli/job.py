"""``gpusched job``: look at jobs and control them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import click

from gpusched.cli.as_json import job_json, plain, stacks_json, task_json
from gpusched.cli.exit_codes import ExitCode
from gpusched.cli.job_view import jobs_table, print_job
from gpusched.cli.logs import logs
from gpusched.cli.plan_view import print_constraints, print_environment, print_forecast, print_relaxations
from gpusched.cli.quantities import parse_count, parse_ranks, rfc3339
from gpusched.cli.run import event_line, run
from gpusched.cli.screen import note, print_json, print_line, print_table
from gpusched.cli.session import JOB_ID, Parsed, Session, json_option, pass_session
from gpusched.cli.submit import submit
from gpusched.domain.errors import GpuschedError, NotFound, WrongState
from gpusched.domain.events import JobEnded
from gpusched.domain.ids import Epoch, JobId, NodeName
from gpusched.domain.job import JobFilter
from gpusched.domain.job_state import JobState
from gpusched.domain.launch_plan import NOTES_WORD
from gpusched.wire.handlers import JobView

ENV_HELP = f"Show what each rank got as its environment. {NOTES_WORD}: a folder that its node makes."


@click.group()
def job() -> None:
    """Submit, run, look at and control jobs."""


job.add_command(submit, "submit")
job.add_command(run, "run")
job.add_command(logs, "logs")


def _parse_states(text: str) -> tuple[JobState, ...]:
    names = [name.strip().upper() for name in text.split(",")]
    wrong = [name for name in names if name not in JobState.__members__]
    if wrong:
        raise ValueError(f"no such state: {', '.join(wrong)}; there are {', '.join(JobState)}")
    return tuple(JobState[name] for name in names)


@job.command("list")
@click.option("--state", "states", type=Parsed("STATES", _parse_states), help="Only these, with commas.")
@click.option("-u", "--user", help="Only this user's.")
@click.option("-A", "--account", help="Only this account's.")
@click.option("-p", "--partition", help="Only of this partition.")
@click.option("-J", "--name", help="Only of this name.")
@click.option("-w", "--node", help="Only those on this node.")
@click.option("-a", "--all", "is_all", is_flag=True, help="Finished ones too.")
@click.option(
    "-n", "--limit", type=Parsed("N", parse_count), default=1000, show_default=True, help="At most."
)
@json_option
@pass_session
def list_jobs(
    session: Session,
    /,
    *,
    states: tuple[JobState, ...] | None,
    is_all: bool,
    limit: int,
    as_json: bool,
    node: str | None,
    **names: str | None,
) -> None:
    """List jobs; those that have not ended unless --all or --state says otherwise."""
    live = tuple(state for state in JobState if not state.is_terminal)
    where = JobFilter(
        states=states or (() if is_all else live), node=None if node is None else NodeName(node), **names
    )
    found = list(islice(session.client.jobs.list(where), limit + 1))
    views = found[:limit]
    now_us = session.now_us()
    if as_json:
        print_json([job_json(view, now_us) for view in views])
    else:
        print_table(jobs_table(views, now_us))
    if len(found) > limit:
        note(f"Only the first {limit} are shown; --limit shows more.")


@job.command("show")
@click.argument("job_id", type=JOB_ID, metavar="JOB")
@click.option("--env", "wants_env", is_flag=True, help=ENV_HELP)
@click.option("-r", "--rank", "ranks", type=Parsed("RANKS", parse_ranks), help="With --env: only these.")
@json_option
@pass_session
def show(
    session: Session, *, job_id: int, wants_env: bool, ranks: tuple[int, ...] | None, as_json: bool
) -> None:
    """Show one job: state and why, placement, efficiency, cost."""
    view = session.client.jobs.get(JobId(job_id))
    if wants_env or ranks is not None:
        _show_env(view, ranks, as_json)
    elif as_json:
        print_json(job_json(view, session.now_us()))
    else:
        print_job(view, session.now_us())


def _show_env(view: JobView, ranks: Sequence[int] | None, as_json: bool) -> None:
    job_id, world_size = view.job.job_id, view.job.spec.world_size
    if view.plan is None:
        raise WrongState(f"job {job_id} has not been placed yet, so no rank has an environment")
    tasks = [task for node in view.plan.nodes for task in node.tasks]
    missing = sorted(set(ranks or ()) - {task.global_rank for task in tasks})
    if missing:
        raise NotFound(f"job {job_id} has no rank {missing[0]}; its ranks are 0 to {world_size - 1}")
    if as_json:
        print_json([task_json(task) for task in tasks if ranks is None or task.global_rank in ranks])
    else:
        print_environment(view.plan, ranks)


@job.command("explain")
@click.argument("job_id", type=JOB_ID, metavar="JOB")
@json_option
@pass_session
def explain(session: Session, *, job_id: int, as_json: bool) -> None:
    """Say why a job is not running, what each constraint rules out, and what less would start it now."""
    diagnosis = session.client.jobs.explain(JobId(job_id))
    if as_json:
        print_json(plain(diagnosis))
        return
    print_line(diagnosis.message)
    if diagnosis.reason is not None:
        print_constraints(diagnosis)
        print_forecast(diagnosis, session.now_us())
        print_relaxations(diagnosis)


def _act_on_each(job_ids: Sequence[int], act: Callable[[JobId], None], done: str) -> int:
    """Act on every job; a refused one does not stop the others, and the first refusal decides the code."""
    first: GpuschedError | None = None
    for job_id in job_ids:
        try:
            act(JobId(job_id))
        except (NotFound, WrongState) as error:
            if len(job_ids) == 1:
                raise
            note(f"gpusched: error: {error}")
            first = first or error
        else:
            print_line(f"Job {job_id} {done}")
    if first is not None:
        raise type(first)(f"not all jobs were {done}")
    return ExitCode.OK


_JOB_IDS = click.argument("job_ids", type=JOB_ID, nargs=-1, required=True, metavar="JOB...")


@job.command("cancel")
@_JOB_IDS
@pass_session
def cancel(session: Session, *, job_ids: tuple[int, ...]) -> int:
    """Cancel jobs."""
    return _act_on_each(job_ids, session.client.jobs.cancel, "cancelled")


@job.command("hold")
@_JOB_IDS
@pass_session
def hold(session: Session, *, job_ids: tuple[int, ...]) -> int:
    """Keep pending jobs from starting."""
    return _act_on_each(job_ids, session.client.jobs.hold, "held")


@job.command("release")
@_JOB_IDS
@pass_session
def release(session: Session, *, job_ids: tuple[int, ...]) -> int:
    """Lift the hold of jobs."""
    return _act_on_each(job_ids, session.client.jobs.release, "released")


@job.command("requeue")
@_JOB_IDS
@click.option("--hold", is_flag=True, help="Not to start again until released.")
@pass_session
def requeue(session: Session, *, job_ids: tuple[int, ...], hold: bool) -> int:
    """End the running attempt of jobs and queue them again."""
    act = partial(session.client.jobs.requeue, hold=hold)
    return _act_on_each(job_ids, act, "requeued and held" if hold else "requeued")


@job.command("watch")
@click.argument("job_ids", type=JOB_ID, nargs=-1, required=True, metavar="JOB...")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per event and line.")
@pass_session
def watch(session: Session, *, job_ids: tuple[int, ...], as_json: bool) -> None:
    """Print what happens to jobs, from their submission until all have ended."""
    left = {JobId(job_id) for job_id in job_ids}
    for recorded in session.client.jobs.watch(sorted(left), after_seq=0):
        event = recorded.event
        if as_json:
            _print_event_json(recorded.seq, recorded.at_us, event)
        else:
            for line in f"{rfc3339(recorded.at_us)}  {event_line(event)}".split("\n"):
                print_line(line)
        if isinstance(event, JobEnded):
            left.discard(event.job_id)
            if not left:
                return


def _print_event_json(seq: int, at_us: int, event: object) -> None:
    import json
    import sys

    body = {"seq": seq, "at": rfc3339(at_us), "event": type(event).__name__, **plain(event)}
    sys.stdout.write(json.dumps(body) + "\n")
    sys.stdout.flush()


@job.command("stacks")
@click.argument("job_id", type=JOB_ID, metavar="JOB")
@click.option("-r", "--rank", "ranks", type=Parsed("RANKS", parse_ranks), help="Only these: 0 or 0,3-5.")
@click.option("--attempt", type=Parsed("N", parse_count), help="An earlier attempt; default: the last.")
@json_option
@pass_session
def stacks(
    session: Session, *, job_id: int, ranks: tuple[int, ...] | None, attempt: Epoch | None, as_json: bool
) -> None:
    """Show what each rank was doing when the job stalled."""
    chunks = session.client.jobs.stacks(JobId(job_id), epoch=attempt, ranks=ranks)
    kept = sorted((chunk for chunk in chunks if chunk.data), key=lambda chunk: chunk.global_rank)
    if as_json:
        print_json([stacks_json(chunk) for chunk in kept])
        return
    if not kept:
        raise NotFound(f"no stacks are kept of job {job_id}: they are taken when it stalls; see --attempt")
    for chunk in kept:
        for line in chunk.data.decode("utf-8", "replace").rstrip().splitlines():
            print_line(line)
        print_line("")


@job.command("schema")
def schema() -> None:
    """Print the JSON Schema of a job file."""
    from gpusched.cli.jobfile import json_schema

    print_json(json_schema())


@job.command("check")
@click.argument("words", nargs=1, metavar="FILE.yaml")
@pass_session
def check(session: Session, *, words: str) -> None:
    """Check a job file or script without a head."""
    from gpusched.cli.submission import read_specs

    specs = read_specs({}, [str(Path(words))], is_command=False, cwd=session.cwd())
    for spec in specs:
        size = f"{spec.nodes} x {spec.gpus_per_node} GPUs, {spec.world_size} ranks"
        print_line(f"{spec.name}: fine ({size})")
