"""Many clients at once: processes of their own, so that none waits for another's interpreter."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import chain
from threading import Barrier

from gpusched.domain.ids import JobId
from gpusched.domain.job_spec import JobSpec
from gpusched.wire.client import Client

NANO = 1e-9
_together: Barrier


@dataclass(frozen=True, slots=True)
class Submission:
    """What many clients saw. Times are of CLOCK_MONOTONIC, which all processes of a machine share."""

    began_ns: int
    ended_ns: int
    latencies_s: Sequence[float]  # one per call
    job_ids: Sequence[JobId]

    @property
    def jobs_per_s(self) -> float:
        """Acknowledged jobs per second, from the first call to the last answer."""
        return len(self.job_ids) / ((self.ended_ns - self.began_ns) * NANO)


def submit_from_many(address: str, spec: JobSpec, *, clients: int, calls: int, batch: int = 1) -> Submission:
    """Submit ``clients * calls * batch`` jobs, each client one call after the other.

    Args:
        address: Of the head.
        spec: The same for all.
        clients: Processes; all are connected before the first call.
        calls: Of each client.
        batch: Jobs in one call; one goes by SubmitJob, more by SubmitJobs.
    """
    context = multiprocessing.get_context("spawn")  # gRPC does not survive a fork
    together = context.Barrier(clients)
    with ProcessPoolExecutor(clients, context, initializer=_remember, initargs=(together,)) as pool:
        futures = [pool.submit(_submit, address, spec, calls, batch) for _ in range(clients)]
        parts = [future.result() for future in futures]
    return Submission(
        began_ns=min(part.began_ns for part in parts),
        ended_ns=max(part.ended_ns for part in parts),
        latencies_s=list(chain.from_iterable(part.latencies_s for part in parts)),
        job_ids=list(chain.from_iterable(part.job_ids for part in parts)),
    )


def _remember(together: Barrier) -> None:
    global _together  # noqa: PLW0603 - a barrier can be handed to a process only when it is made
    _together = together


def _submit(address: str, spec: JobSpec, calls: int, batch: int) -> Submission:
    latencies_s: list[float] = []
    job_ids: list[JobId] = []
    with Client(address) as client:
        client.nodes.list()  # connects and fetches the token
        _together.wait()
        began_ns = time.monotonic_ns()
        for _ in range(calls):
            asked_ns = time.monotonic_ns()
            if batch == 1:
                job_ids.append(client.jobs.submit(spec))
            else:
                job_ids.extend(client.jobs.submit_many([spec] * batch))
            latencies_s.append((time.monotonic_ns() - asked_ns) * NANO)
        return Submission(began_ns, time.monotonic_ns(), latencies_s, job_ids)
