"""A real gang of gloo ranks with one that is slow: it is named, shown, and its recovery told."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

from gpusched_cli import gpusched
from torture.gangs import gang, met, next_event

from benchmarks.cluster import Head, own_ports, running_agents, running_head
from gpusched.domain.events import JobSlowed, SlownessEnded
from gpusched.domain.job_spec import SlowPolicy

CONFIG = "[engine]\nheartbeat_interval_s = 0.1"  # so many looks in so little time


def test_a_slow_rank_is_named_and_shown_until_it_recovers(home: Path) -> None:
    with (
        running_head(Head(home, CONFIG + own_ports())) as head,
        running_agents(head, ("n1", "n2"), "--devices", "none", "--cpus", "4"),
        head.client() as client,
    ):
        job_id = client.jobs.submit(gang(step_s=0.01, notes="own", slow=SlowPolicy(20, 30)))
        pids = met(client, job_id)
        os.kill(pids[2], signal.SIGHUP)
        _, slowed = next_event(client, job_id, JobSlowed)
        attempt = client.jobs.get(job_id).job.attempt
        assert attempt is not None
        assert (slowed.global_rank, slowed.node) == (2, attempt.node_names[1])
        assert "and slow: rank 2" in client.jobs.explain(job_id).message
        shown = gpusched("job", "show", str(job_id), "--json", home=home).out
        assert json.loads(shown)["slowness"]["global_rank"] == 2
        assert "(slow, rank 2)" in gpusched("top", "--once", home=home).out
        os.kill(pids[2], signal.SIGHUP)
        next_event(client, job_id, SlownessEnded)
        attempt = client.jobs.get(job_id).job.attempt
        assert attempt is not None and attempt.slowness is None
        client.jobs.cancel(job_id)
        client.jobs.wait(job_id)
