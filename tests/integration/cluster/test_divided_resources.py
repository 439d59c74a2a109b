"""Shares of a GPU, MIG slices, disk, counters and licences: from the request to real ranks and the bill."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from live import output, shell

from benchmarks.cluster import Head, running_agents, running_head, until
from gpusched.domain.errors import InfeasibleRequest
from gpusched.domain.job_state import JobState
from gpusched.domain.usage import GroupBy
from gpusched.wire.client import Client

CONFIG = """
[licenses]
matlab = 3

[[rates.price]]
model = "*"
per_gpu_hour = 3600
effective_from = 2020-01-01
"""


@pytest.fixture
def divided(home: Path) -> Iterator[Client]:
    """A node with two GPUs to share, 10 GiB of disk and an FPGA, and one with MIG slices."""
    with ExitStack() as stack:
        head = stack.enter_context(running_head(Head(home, CONFIG)))
        shared = ("--devices", "2xH100", "--shareable", "--cpus", "8", "--disk-gib", "10", "--gres", "fpga=1")
        stack.enter_context(running_agents(head, ("n1",), *shared))
        stack.enter_context(running_agents(head, ("n2",), "--devices", "3xA100 MIG 1g.10gb", "--cpus", "8"))
        yield stack.enter_context(head.client())


def test_shares_of_a_gpu_run_side_by_side_and_are_billed_as_shares(divided: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    script = f"echo $GPUSCHED_GPU_MILLI; until [ -e {gate} ]; do sleep 0.02; done"
    shares = [divided.jobs.submit(shell(script, gpus_per_node=1, gpu_milli=m)) for m in (600, 400, 500)]
    until(
        lambda: all(divided.jobs.get(job_id).job.state is JobState.RUNNING for job_id in shares),
        "all shares to run",
    )
    whole = divided.jobs.submit(shell("true", gpus_per_node=1, nodelist=("n1",)))
    waiting = divided.jobs.explain(whole)
    assert "fewer than 1 GPU free" in " ".join(item.detail for item in waiting.ruled_out)

    jobs = [divided.jobs.get(job_id).job for job_id in shares]
    granted = [job.attempt.allocation.nodes[0].devices[0] for job in jobs if job.attempt is not None]
    assert [device.milli for device in granted] == [600, 400, 500]
    assert granted[0].uuid == granted[1].uuid != granted[2].uuid
    node = divided.nodes.get("n1")
    assert (node.gpus_allocated, node.gpu_milli_allocated) == (2, 1500)

    gate.touch()
    assert [output(divided, job_id).strip() for job_id in shares] == ["600", "400", "500"]
    assert divided.jobs.wait(whole).job.state is JobState.COMPLETED
    usage = divided.reports.usage()
    edges = sorted({edge for i in usage for edge in (i.start_us, i.end_us)})
    held = Counter[tuple[str, int]]()
    for interval in usage:
        for begin in edges:
            if interval.start_us <= begin < interval.end_us:
                held[interval.device, begin] += interval.milli
    assert set(held.values()) == {1000}
    report = divided.reports.cost(GroupBy.JOB)
    assert report.total == sum(line.billed_cost for line in report.lines)


def test_a_slice_is_found_by_its_profile_and_by_nothing_else(divided: Client) -> None:
    done = divided.jobs.wait(divided.jobs.submit(shell("true", gpus_per_node=2, mig_profile="1g.10gb"))).job
    assert done.state is JobState.COMPLETED
    assert done.attempt is not None and done.attempt.node_names == ("n2",)
    with pytest.raises(InfeasibleRequest, match="the largest node of partition main has 2"):
        divided.jobs.submit(shell("true", gpus_per_node=3))
    with pytest.raises(InfeasibleRequest, match=r"no node .* has one: it has 1g\.10gb"):
        divided.jobs.submit(shell("true", gpus_per_node=1, mig_profile="3g.40gb"))


def test_licences_disk_and_counters_are_held_while_a_job_runs(divided: Client, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    holds = shell(
        f"until [ -e {gate} ]; do sleep 0.02; done",
        licenses=(("matlab", 2),),
        gres=(("fpga", 1),),
        disk_bytes=6 << 30,
        nodelist=("n1",),
    )
    first = divided.jobs.submit(holds)
    until(lambda: divided.jobs.get(first).job.state is JobState.RUNNING, "the first job to run")
    second = divided.jobs.submit(shell("true", licenses=(("matlab", 2),)))
    assert "licence matlab: 2 of 3 held, job wants 2" in divided.jobs.explain(second).message
    third = divided.jobs.submit(shell("true", gres=(("fpga", 1),)))
    assert any("1 fpga free" in item.detail for item in divided.jobs.explain(third).ruled_out)
    gate.touch()
    for job_id in (first, second, third):
        assert divided.jobs.wait(job_id).job.state is JobState.COMPLETED
    with pytest.raises(InfeasibleRequest, match="cluster has 3: ask for licenses ≤ 3"):
        divided.jobs.submit(shell("true", licenses=(("matlab", 4),)))
    with pytest.raises(InfeasibleRequest, match="ask for tmp ≤ 10 GiB"):
        divided.jobs.submit(shell("true", disk_bytes=11 << 30, nodelist=("n1",)))
    with pytest.raises(InfeasibleRequest, match="ask for gres/fpga ≤ 1"):
        divided.jobs.submit(shell("true", gres=(("fpga", 2),)))
