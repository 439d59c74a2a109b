"""What one subject may see of another's job: that it exists and what it holds, not what it is told."""

from __future__ import annotations

from dataclasses import replace

from gpusched.domain.errors import NotPermitted
from gpusched.domain.events import (
    AttemptEnded,
    AttemptStopping,
    JobEnded,
    JobSubmitted,
    Recorded,
    TaskFailed,
    TasksEnded,
)
from gpusched.domain.identity import Identity, Principal, Role
from gpusched.domain.job import Job
from gpusched.domain.job_spec import JobSpec


def owns(who: Principal, owner: Identity) -> bool:
    """Whether ``who`` sees everything of a job of ``owner``."""
    return who.identity.uid == owner.uid or Role.OPERATOR in who.roles


def require_owner(who: Principal, job: Job) -> None:
    """Refuse a stranger.

    Raises:
        NotPermitted: The job is another user's, and ``who`` is no operator.
    """
    if not owns(who, job.owner):
        raise NotPermitted(
            f"job {job.job_id} belongs to {job.owner.user}: only its owner or an operator sees this"
        )


def seen_by(who: Principal, job: Job) -> Job:
    """The job as ``who`` may see it: environment, script and command lines are the owner's."""
    if owns(who, job.owner):
        return job
    attempt = job.attempt and replace(job.attempt, stop_detail=None)  # it quotes the last output
    return replace(job, spec=_redacted(job.spec), attempt=attempt, end_detail=None)


def event_seen_by(who: Principal, recorded: Recorded, owner: Identity) -> Recorded:
    """The event as ``who`` may see it."""
    event = recorded.event
    if owns(who, owner):
        return recorded
    if isinstance(event, JobSubmitted):
        return replace(recorded, event=replace(event, spec=_redacted(event.spec)))
    if isinstance(event, TaskFailed):
        return replace(recorded, event=replace(event, last_lines=()))
    if isinstance(event, TasksEnded | AttemptStopping | AttemptEnded | JobEnded):
        return replace(recorded, event=replace(event, detail=None))
    return recorded


def _redacted(spec: JobSpec) -> JobSpec:
    return replace(
        spec,
        env=(),
        script=None,
        command=("(hidden)",),
        setup=(),
        workdir="/",
        comment=None,
        components=tuple(replace(component, command=()) for component in spec.components),
    )
