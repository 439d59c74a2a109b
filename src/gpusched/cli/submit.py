"""``gpusched submit``: read, check, send; or with ``--dry-run`` show the plan and send nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from gpusched.cli.as_json import plan_json
from gpusched.cli.exit_codes import ExitCode
from gpusched.cli.options import job_options
from gpusched.cli.plan_view import print_plan
from gpusched.cli.screen import print_json, print_line
from gpusched.cli.session import Session, pass_session
from gpusched.cli.submission import read_specs
from gpusched.domain.job_spec import JobSpec

META_DASHES = "gpusched.is_command"


class JobCommand(click.Command):
    """A command that takes the job options and remembers whether ``--`` was typed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own = [param for param in self.params if isinstance(param, click.Option)]
        arguments = [param for param in self.params if not isinstance(param, click.Option)]
        self.params = [*own, *job_options(), *arguments]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Note ``--`` before click takes it away."""
        ctx.meta[META_DASHES] = "--" in args
        return super().parse_args(ctx, args)


def specs_of(session: Session, words: Sequence[str], params: dict[str, Any]) -> list[JobSpec]:
    """The checked specs of the present command line."""
    is_command = bool(click.get_current_context().meta[META_DASHES])
    return read_specs(params, words, is_command=is_command, cwd=session.cwd())


@click.command(cls=JobCommand)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="{-- COMMAND... | SCRIPT | FILE.yaml}")
@click.option("--dry-run", "--test-only", is_flag=True, help="Show the plan and its price; submit nothing.")
@click.option("--parsable", is_flag=True, help="Print the job's id alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@pass_session
def submit(
    session: Session,
    /,
    *,
    words: tuple[str, ...],
    dry_run: bool,
    parsable: bool,
    as_json: bool,
    **params: Any,
) -> int:
    """Submit a command, a script with #SBATCH lines, or a YAML file of jobs (one batch)."""
    specs = specs_of(session, words, params)
    if dry_run:
        return _dry_run(session, specs, as_json)
    jobs = session.client.jobs
    ids = [jobs.submit(specs[0])] if len(specs) == 1 else list(jobs.submit_many(specs))
    if as_json:
        print_json([{"job_id": job_id, "name": spec.name} for job_id, spec in zip(ids, specs, strict=True)])
        return ExitCode.OK
    for job_id in ids:
        print_line(str(job_id) if parsable else f"Submitted job {job_id}")
    return ExitCode.OK


def _dry_run(session: Session, specs: Sequence[JobSpec], as_json: bool) -> int:
    previews = [session.client.jobs.plan(spec) for spec in specs]
    if as_json:
        print_json([plan_json(preview) for preview in previews])
        return ExitCode.OK
    for spec, preview in zip(specs, previews, strict=True):
        print_plan(spec, preview, session.now_us())
    return ExitCode.OK
