"""Clients that submit one thing after the other, and ask again under the same id until they are answered."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from live import shell
from simulation.checkers import MARK, Acknowledged
from torture.records import AckLog

from benchmarks.cluster import until
from benchmarks.report import SEED
from gpusched.domain.errors import Unavailable
from gpusched.domain.ids import RequestId
from gpusched.wire.client import Client

BATCHES = (1, 1, 1, 40)
AGAIN_S = 0.02


@dataclass
class Submitters:
    """What they did so far."""

    acks: AckLog
    pause_s: float
    retried: int = 0
    last_ack_s: float = 0.0  # of CLOCK_MONOTONIC
    enough: threading.Event = field(default_factory=threading.Event)
    given_up: threading.Event = field(default_factory=threading.Event)  # nobody will answer any more

    def await_next(self) -> float:
        """Seconds until something is acknowledged that was not when this was called."""
        began_s, before = time.monotonic(), self.acks.jobs
        until(lambda: self.acks.jobs > before, "a submission to be acknowledged")
        return self.last_ack_s - began_s

    def run(self, address: str, name: str) -> None:
        """Be one client."""
        dice = random.Random(f"{SEED}-{name}")
        with Client(address, retry_s=0) as client:  # what is sent again is counted here
            turn = 0
            while not self.enough.wait(self.pause_s):
                turn += 1
                self._submit(client, RequestId(f"{name}-{turn}"), dice.choice(BATCHES))

    def _submit(self, client: Client, request_id: RequestId, count: int) -> None:
        specs = [shell("true", hold=True, comment=f"{MARK}{request_id}-{i}") for i in range(count)]
        while True:
            try:
                job_ids = client.jobs.submit_many(specs, request_id=request_id)
            except Unavailable:  # nobody knows whether it was taken: that is what the id is for
                self.retried += 1
                if self.given_up.wait(AGAIN_S):
                    return
                continue
            break
        ack = Acknowledged(
            at_us=time.time_ns() // 1000,
            subject="torture",
            request_id=request_id,
            request="Submit",
            job_ids=tuple(job_ids),
        )
        self.acks.write(ack)
        self.last_ack_s = time.monotonic()


@contextmanager
def submitting(address: str, acks: AckLog, clients: int, *, pause_s: float = 0.0) -> Iterator[Submitters]:
    """So many clients at work within the block; what they sent last is answered before it is left.

    Args:
        address: Where they submit.
        acks: Where they note what was acknowledged.
        clients: How many.
        pause_s: What each waits between an answer and its next submission.
    """
    submitters = Submitters(acks, pause_s)
    names = [f"client-{number}" for number in range(clients)]
    threads = [threading.Thread(target=submitters.run, args=(address, name)) for name in names]
    try:
        for thread in threads:
            thread.start()
        yield submitters
        submitters.await_next()
    except BaseException:
        submitters.given_up.set()
        raise
    finally:
        submitters.enough.set()
        for thread in threads:
            thread.join()
