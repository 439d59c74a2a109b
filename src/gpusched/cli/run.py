"""``gpusched run``: submit, wait, follow the output, end with the job's own exit code.

A thread follows; the main thread waits for it and for Ctrl-C, so that the output goes on
behind the question whether to cancel or detach.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import Any

import click

from gpusched.cli.exit_codes import ExitCode
from gpusched.cli.logs import merged
from gpusched.cli.screen import note
from gpusched.cli.session import ClientLike, Session, pass_session
from gpusched.cli.submit import JobCommand, specs_of
from gpusched.domain import events
from gpusched.domain.errors import GpuschedError, NotFound
from gpusched.domain.events import Event, JobEnded
from gpusched.domain.hostlist import fold_hostlist
from gpusched.domain.ids import Epoch, JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import JobState

PATIENCE_S = 3.0  # a job that starts sooner was not noticeably waiting
_LISTEN_S = 0.2  # how often the main thread looks up, which is when Python lets Ctrl-C through


def event_line(event: Event) -> str:
    """What happened, as a sentence without an end."""
    match event:
        case events.JobSubmitted():
            return f"Job {event.job_id} submitted by {event.owner.user}"
        case events.JobAllocated():
            nodes = fold_hostlist(part.node for part in event.allocation.nodes)
            has_declared = any(gpu.declared for part in event.allocation.nodes for gpu in part.devices)
            label = " (declared GPUs)" if has_declared else ""
            return f"Job {event.job_id} starts on {nodes}{label}, attempt {event.epoch}"
        case events.TasksStarted():
            ranks = "1 rank runs" if len(event.pids) == 1 else f"{len(event.pids)} ranks run"
            return f"Job {event.job_id}: {ranks} on {event.node}"
        case events.TaskFailed():
            code = event.exit.shell_code
            return (
                f"Job {event.job_id}: rank {event.exit.global_rank} failed on {event.node} with code {code}"
            )
        case events.TasksEnded():
            return f"Job {event.job_id}: {event.node} is done"
        case events.AttemptStopping() | events.AttemptEnded():
            verb = "is being ended" if isinstance(event, events.AttemptStopping) else "ended"
            return f"Job {event.job_id}: attempt {event.epoch} {verb}: {event.reason.value}" + _detail(
                event.detail
            )
        case (
            events.JobUnderused()
            | events.JobStalled()
            | events.StallEnded()
            | events.JobSlowed()
            | events.SlownessEnded()
        ):
            return f"Job {event.job_id} {_noticed(event)}"
        case JobEnded():
            return f"Job {event.job_id} {event.state.value}: {event.reason.value}" + _detail(event.detail)
        case events.JobHeld() | events.JobReleased():
            verb = type(event).__name__.removeprefix("Job").lower()
            for_s = event.for_s if isinstance(event, events.JobHeld) else None
            return f"Job {event.job_id} {verb}{f' for {for_s} s' if for_s else ''} by {event.by}"
        case events.JobRequeued():
            return f"Job {event.job_id} requeued"
        case _:
            return f"{type(event).__name__} {event.node}"


def _noticed(
    event: events.JobUnderused
    | events.JobStalled
    | events.StallEnded
    | events.JobSlowed
    | events.SlownessEnded,
) -> str:
    match event:
        case events.JobUnderused():
            return f"holds GPUs that it hardly uses: {event.evidence}"
        case events.JobStalled():
            return f"stalled: {event.evidence}"
        case events.StallEnded():
            return "moves again"
        case events.JobSlowed():
            return f"is slow: {event.evidence}"
        case events.SlownessEnded():
            return "is slow no more"


def _detail(detail: str | None) -> str:
    return f": {detail}" if detail else ""


class Follower(threading.Thread):
    """Follows one job to its end: events to standard error, output to standard output."""

    def __init__(self, client: ClientLike, job_id: JobId, spec: JobSpec, *, is_quiet: bool) -> None:
        super().__init__(daemon=True, name=f"follow-{job_id}")
        self.client = client
        self.job_id = job_id
        self.spec = spec
        self.is_quiet = is_quiet
        self.ended: JobEnded | None = None
        self.error: BaseException | None = None
        self.is_granted = threading.Event()  # or it has ended, or is followed no more
        self.is_done = threading.Event()
        self.may_write = threading.Event()
        self.may_write.set()

    def run(self) -> None:
        """Watch until the job has ended. What goes wrong is kept for the main thread."""
        try:
            self._follow()
        except BaseException as error:  # noqa: BLE001 - handed over, and raised in the main thread
            self.error = error
        finally:
            self.is_granted.set()
            self.is_done.set()

    def _follow(self) -> None:
        expected, started, shown = 0, 0, 0
        for recorded in self.client.jobs.watch([self.job_id], after_seq=0):
            event = recorded.event
            if isinstance(event, JobEnded):
                self.ended = event
                return
            if isinstance(event, events.JobAllocated):
                expected, started = len(event.allocation.nodes), 0
                self.is_granted.set()
                self._say(event)
            elif isinstance(event, events.TasksStarted):
                started += 1
            elif isinstance(event, events.JobRequeued):
                self._say(event)
            # Once all ranks run, or the first sign of an end: then every node knows the attempt.
            if self._has_output(event, started >= expected > 0) and event_epoch(event) > shown:
                shown = event_epoch(event)
                self._show_logs(Epoch(shown))

    def _has_output(self, event: Event, is_running: bool) -> bool:
        return is_running or isinstance(event, events.TaskFailed | events.TasksEnded | events.AttemptStopping)

    def _show_logs(self, epoch: Epoch) -> None:
        with contextlib.suppress(NotFound):  # a launch that failed has no output
            chunks = self.client.jobs.logs(self.job_id, epoch=epoch, follow=True)
            for part in merged(chunks, self.spec, None):
                self._write(part)

    def _write(self, part: bytes) -> None:
        self.may_write.wait()
        sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()

    def _say(self, event: Event) -> None:
        if not self.is_quiet:
            self.may_write.wait()
            note(event_line(event))


def event_epoch(event: Event) -> int:
    """The attempt an event is about; 0 if none."""
    return int(getattr(event, "epoch", 0))


@click.command(cls=JobCommand)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="{-- COMMAND... | SCRIPT | FILE.yaml}")
@click.option("--quiet", is_flag=True, help="Only the job's own output.")
@pass_session
def run(session: Session, /, *, words: tuple[str, ...], quiet: bool, **params: Any) -> int:
    """Submit one job, follow its output and end with its exit code (128 + signal if it was killed).

    Ctrl-C asks whether to cancel the job or to leave it running; a second one leaves it running.
    """
    specs = specs_of(session, words, params)
    if len(specs) != 1:
        raise click.UsageError(f"run takes one job, the file holds {len(specs)}; use submit")
    job_id = session.client.jobs.submit(specs[0])
    if not quiet:
        note(f"Submitted job {job_id}")
    return follow(session, job_id, specs[0], is_quiet=quiet)


def follow(session: Session, job_id: JobId, spec: JobSpec, *, is_quiet: bool) -> int:
    """Follow a job to its end and return the exit code for the shell."""
    follower = Follower(session.client, job_id, spec, is_quiet=is_quiet)
    was_interrupted = False
    try:
        follower.start()
        _tell_if_waiting(follower)
        _wait(follower)
    except KeyboardInterrupt:
        was_interrupted = True
        try:
            if not _cancel_on_interrupt(session, follower):
                return _detach(job_id)
            _wait(follower)
        except KeyboardInterrupt:
            return _detach(job_id)
    if follower.error is not None:
        note(f"Job {job_id} goes on by itself: gpusched logs -f {job_id}")
        raise follower.error
    return _finish(follower, was_interrupted)


def _tell_if_waiting(follower: Follower) -> None:
    steps = range(round(PATIENCE_S / _LISTEN_S))
    if not any(follower.is_granted.wait(_LISTEN_S) for _ in steps) and not follower.is_quiet:
        note(f"Job {follower.job_id} waits: `gpusched explain {follower.job_id}` says for what")


def _wait(follower: Follower) -> None:
    # Not join(): interrupted by Ctrl-C, CPython 3.11's takes the thread for ended.
    while not follower.is_done.wait(_LISTEN_S):
        pass


def _cancel_on_interrupt(session: Session, follower: Follower) -> bool:
    """Ask, or where nobody can answer, cancel. False: detach."""
    if session.is_interactive():
        follower.may_write.clear()
        try:
            answer = click.prompt(
                f"\nCancel job {follower.job_id}, or detach and leave it running?",
                type=click.Choice(["c", "d"]),
                err=True,
            )
        except (click.Abort, EOFError):
            return False
        finally:
            follower.may_write.set()
        if answer == "d":
            return False
    try:
        session.client.jobs.cancel(follower.job_id)
    except GpuschedError as error:
        note(f"gpusched: warning: job {follower.job_id} was not cancelled: {error}")
    else:
        note(f"Cancelling job {follower.job_id}; Ctrl-C again to detach")
    return True


def _detach(job_id: JobId) -> int:
    note(f"Detached; job {job_id} goes on: gpusched logs -f {job_id}")
    return ExitCode.INTERRUPTED


def _finish(follower: Follower, was_interrupted: bool) -> int:
    ended = follower.ended
    if ended is None:
        note(
            f"gpusched: error: the head ended the watch of job {follower.job_id}; gpusched job show says more"
        )
        return ExitCode.UNAVAILABLE
    if not follower.is_quiet or ended.state is not JobState.COMPLETED:
        note(event_line(ended))
    if was_interrupted:
        return ExitCode.INTERRUPTED
    if ended.state is JobState.COMPLETED:
        return ExitCode.OK
    return ended.exit_code or ExitCode.FAILED
