"""Labels of real agents become the head's topology, and a gang that wishes one rack gets one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from live import shell

from benchmarks.cluster import Head, running_agents, running_head
from gpusched.domain.errors import InfeasibleRequest, InvalidSpec
from gpusched.domain.job_spec import Segment
from gpusched.domain.job_state import JobState
from gpusched.domain.topology import NodePath
from gpusched.wire.client import Client

CONFIG = """
[[topology.level]]
name = "rack"
label = "rack"
bandwidth_mb_s = 50000
"""
RACKS = {"n1": "r1", "n2": "r2", "n3": "r2"}


@pytest.fixture
def racked(home: Path) -> Iterator[Client]:
    with ExitStack() as stack:
        head = stack.enter_context(running_head(Head(home, CONFIG)))
        for name, rack in RACKS.items():
            devices = ("--devices", "4xH100", "--cpus", "4", "--label", f"rack={rack}")
            stack.enter_context(running_agents(head, (name,), *devices))
        yield stack.enter_context(head.client())


def test_a_gang_that_wishes_one_rack_gets_one_or_an_answer(racked: Client) -> None:
    fabric = racked.nodes.fabric()
    assert fabric.nodes == tuple(NodePath(name, (rack,)) for name, rack in RACKS.items())
    assert fabric.levels[0].bandwidth_mb_s == 50_000.0

    job_id = racked.jobs.submit(shell("true", nodes=2, gpus_per_node=4, topology_required="rack"))
    done = racked.jobs.wait(job_id).job
    assert done.state is JobState.COMPLETED
    assert done.attempt is not None and set(done.attempt.node_names) == {"n2", "n3"}

    with pytest.raises(InfeasibleRequest, match="in one rack; the roomiest has room for 2 of 3 nodes"):
        racked.jobs.submit(shell("true", nodes=3, gpus_per_node=4, topology_required="rack"))
    with pytest.raises(InfeasibleRequest, match=r"wants topology level pod.*has rack"):
        racked.jobs.submit(shell("true", topology_preferred="pod"))
    with pytest.raises(InvalidSpec, match="do not divide the gang"):
        racked.jobs.submit(shell("true", nodes=3, segment=Segment(2, "rack")))
