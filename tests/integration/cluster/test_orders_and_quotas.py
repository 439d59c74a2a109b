"""A head with an order and quotas: what people are told, and its past replayed beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from gpusched_cli import gpusched
from live import shell

from benchmarks.cluster import Head, running_agents, running_head, until
from gpusched.domain.errors import OverLimit
from gpusched.domain.job_state import JobState, PendingReason
from gpusched.wire.client import Client

CONFIG = """
[policy]
order = "fair_share"

[[quota]]
account = "vision"
gpus_max = 4
"""


@pytest.fixture
def client(home: Path) -> Iterator[Client]:
    with ExitStack() as stack:
        head = stack.enter_context(running_head(Head(home, CONFIG)))
        stack.enter_context(running_agents(head, ("n1",), "--devices", "8xH100", "--cpus", "16"))
        yield stack.enter_context(head.client())


def test_who_waits_for_a_quota_is_told_and_others_pass_and_the_past_can_be_replayed(
    client: Client, home: Path
) -> None:
    first = client.jobs.submit(shell("sleep 60", account="vision", gpus_per_node=3))
    second = client.jobs.submit(shell("true", account="vision", gpus_per_node=2))
    other = client.jobs.submit(shell("true", account="speech", gpus_per_node=4))
    until(lambda: client.jobs.get(first).job.state is JobState.RUNNING, "the first job to run")
    assert client.jobs.wait(other).job.state is JobState.COMPLETED
    told = client.jobs.explain(second)
    assert told.reason is PendingReason.QUOTA
    assert told.message == "account vision holds 3 of its 4 GPUs; this job wants 2."
    with pytest.raises(OverLimit, match="account vision may hold 4 at a time"):
        client.jobs.submit(shell("true", account="vision", gpus_per_node=5))
    client.jobs.cancel(first)
    assert client.jobs.wait(second).job.state is JobState.COMPLETED
    ran = gpusched("simulate", "--from-store", "--quota", "vision=8", "--json", home=home)
    assert ran.code == 0, ran.err
    replayed = json.loads(ran.out)
    assert replayed["base"]["ended"] == 3
    assert replayed["base"]["p99_wait_s"] > replayed["what_if"]["p99_wait_s"]
