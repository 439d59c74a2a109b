"""Jobs for tests that run a real cluster."""

from __future__ import annotations

from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.wire.client import Client


def shell(script: str, **changes: object) -> JobSpec:
    """A job that runs a bash script."""
    given: dict[str, object] = {"name": "test", "command": ("/bin/bash", "-c", script), "workdir": "/tmp"}
    return JobSpec(**{**given, **changes})  # type: ignore[arg-type]


def output(client: Client, job_id: JobId, rank: int = 0) -> str:
    """All that a rank wrote."""
    chunks = client.jobs.logs(job_id, ranks=(rank,), follow=True)
    return b"".join(chunk.data for chunk in chunks).decode()
