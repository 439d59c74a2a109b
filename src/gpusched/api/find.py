"""A job from the store, or the one answer for jobs that never were."""

from __future__ import annotations

import asyncio

from gpusched.domain.errors import NotFound
from gpusched.domain.ids import JobId
from gpusched.domain.job import Job
from gpusched.store.reader import Reader


async def find_job(reader: Reader, job_id: JobId) -> Job:
    """Read one job, however long ago it ended.

    Raises:
        NotFound: There is no such job.
    """
    job = await asyncio.to_thread(reader.job, job_id)
    if job is None:
        raise NotFound(f"no job {job_id}: see `gpusched ps`")
    return job
