"""``gpusched logs``: one rank as it is, or all ranks merged with a prefix."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator

import click

from gpusched.cli import log_stream
from gpusched.cli.as_json import chunk_json
from gpusched.cli.quantities import parse_count, parse_instant, parse_ranks
from gpusched.cli.session import JOB_ID, Parsed, Session, pass_session
from gpusched.domain.ids import Epoch, JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.logs import LogChunk


def merged(chunks: Iterable[LogChunk], spec: JobSpec, ranks: tuple[int, ...] | None) -> Iterator[bytes]:
    """Bytes to show: prefixed where more than one rank can appear, else as they are."""
    shown = spec.world_size if ranks is None else len(ranks)
    if shown <= 1:
        last = b"\n"
        for part in log_stream.single(chunks):
            yield part
            last = part or last
        if sys.stdout.isatty() and not last.endswith(b"\n"):
            yield b"\n"  # so that the prompt, or the next message, starts a line
        return
    merger = log_stream.Merger(width=len(str(spec.world_size - 1)), is_coloured=sys.stdout.isatty())
    for chunk in chunks:
        yield merger.feed(chunk)
    yield merger.finish()


def write(parts: Iterable[bytes]) -> None:
    """Write bytes to standard output as they come."""
    for part in parts:
        if part:
            sys.stdout.buffer.write(part)
            sys.stdout.buffer.flush()


@click.command()
@click.argument("job_id", type=JOB_ID, metavar="JOB")
@click.option("-r", "--rank", "ranks", type=Parsed("RANKS", parse_ranks), help="Only these: 0 or 0,3-5.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("--since", metavar="WHEN", help="Only what is newer: 10m, or 2026-01-31T08:00:00Z.")
@click.option(
    "--tail", type=Parsed("N", lambda text: parse_count(text, at_least=0)), help="Last N lines per rank."
)
@click.option("--attempt", type=Parsed("N", parse_count), help="An earlier attempt; default: the last.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per chunk and line.")
@pass_session
def logs(
    session: Session,
    *,
    job_id: int,
    ranks: tuple[int, ...] | None,
    follow: bool,
    since: str | None,
    tail: int | None,
    attempt: Epoch | None,
    as_json: bool,
) -> None:
    """Show what a job printed."""
    since_us = None if since is None else _since(since, session.now_us())
    spec = session.client.jobs.get(JobId(job_id)).job.spec
    chunks = session.client.jobs.logs(
        JobId(job_id), epoch=attempt, ranks=ranks, since_us=since_us, tail_lines=tail, follow=follow
    )
    if as_json:
        write(_json_lines(chunks))
    else:
        write(merged(chunks, spec, ranks))


def _since(text: str, now_us: int) -> int:
    try:
        return parse_instant(text, now_us=now_us)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None


def _json_lines(chunks: Iterable[LogChunk]) -> Iterator[bytes]:
    import json

    for chunk in chunks:
        yield json.dumps(chunk_json(chunk)).encode("utf-8") + b"\n"
