from __future__ import annotations

import pytest
from cluster import ALICE, Cluster, facts, spec

from gpusched.domain.job_state import JobState
from gpusched.engine.inputs import CancelJob, HoldJob


@pytest.mark.parametrize("leave", [CancelJob, HoldJob])
def test_when_the_head_leaves_the_queue_those_it_kept_back_start(leave):
    cluster = Cluster()
    cluster.join(facts("n1"))
    cluster.submit(spec(gpus_per_node=3))
    cluster.cycle()
    head, kept_back = cluster.submit(spec(gpus_per_node=4), spec(gpus_per_node=1))
    cluster.cycle()
    assert cluster.job(kept_back).state is JobState.PENDING
    cluster.step([leave(who=ALICE, request_id=cluster.request_id(), job_id=head)])
    cluster.cycle()
    assert cluster.job(kept_back).state is JobState.CONFIGURING
