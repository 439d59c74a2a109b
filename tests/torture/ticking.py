"""Jobs that say that they live, ten times in a few seconds, until they are told to end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from live import output, shell

from benchmarks.cluster import until
from benchmarks.report import Figure, at_most
from gpusched.domain.ids import JobId
from gpusched.domain.job_state import JobState
from gpusched.wire.client import Client

EXITS = 5
"""Job i exits with i modulo this, so that a mixed-up end is seen."""

# EPOCHREALTIME has microseconds after its point (bash 5); the token tells this process from any other.
_SCRIPT = r"""
token="$SLURMD_NODENAME-$$-$EPOCHREALTIME"
lines=0
tick() {
    printf '{"job_id":%d,"epoch":%d,"node":"%s","token":"%s","at_us":%d}\n' \
        "$SLURM_JOB_ID" "$GPUSCHED_EPOCH" "$SLURMD_NODENAME" "$token" "${EPOCHREALTIME/./}" >> "$TICKS/$token"
    echo "line $((lines += 1))"
}
tick
exec {never}<> <(:)
while ! [ -e "$END" ]; do read -rt "$PERIOD" -u $never; tick; done  # a sleep would be a process each
exit $((SLURM_JOB_ID % EXITS))
"""


class TickingJobs:
    """Jobs of one trial, with the folder of their ticks and the file whose appearance ends them."""

    def __init__(self, home: Path, *, period_s: float = 0.5) -> None:
        self.ticks = home / "ticks"
        self.ticks.mkdir(mode=0o777)
        self.ticks.chmod(0o777)
        self._end = home / "end"
        self._env = (
            ("TICKS", str(self.ticks)),
            ("END", str(self._end)),
            ("PERIOD", str(period_s)),
            ("EXITS", str(EXITS)),
        )

    def submit(self, client: Client, count: int, **changes: object) -> tuple[JobId, ...]:
        """Submit them; returns when all tick."""
        known = len(list(self.ticks.iterdir()))
        job_ids = client.jobs.submit_many([shell(_SCRIPT, env=self._env, **changes)] * count)
        until(lambda: len(list(self.ticks.iterdir())) >= known + count, f"{count} jobs to tick")
        return job_ids

    def end(self) -> None:
        """Let every job end at its next tick."""
        self._end.touch()


def ended_as_asked(client: Client, job_ids: Sequence[JobId]) -> int:
    """Wait for the ends; how many jobs have another exit code, or other output, than their script wrote."""
    return sum(not _is_right(client, job_id) for job_id in job_ids)


def _is_right(client: Client, job_id: JobId) -> bool:
    job, code = client.jobs.wait(job_id).job, job_id % EXITS
    lines = output(client, job_id).splitlines()
    return (
        job.exit_code == code
        and job.state is (JobState.FAILED if code else JobState.COMPLETED)
        and lines == [f"line {number}" for number in range(1, len(lines) + 1)]
    )


def broken_ends(what: str, wrong: int) -> Figure:
    """Jobs whose end is not the one that their script asked for."""
    return Figure(f"jobs that ended wrongly, {what}", wrong, "jobs", at_most(0))
