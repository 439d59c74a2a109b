"""From the kernel's log, the driver and the host to what an operator sees, over real processes."""

from __future__ import annotations

import json
import os

from fakes.nvml.machines import Machine, hgx_a100
from gpusched_cli import gpusched
from live import shell

from gpusched.domain.health import Signal
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.node import Schedulability


def bus_of(machine: Machine, index: int) -> str:
    """As the driver writes it into the kernel's log: 0000:3b:00."""
    return machine.gpus[index].bus_id.lower().removeprefix("0000").rpartition(".")[0]


def test_a_line_in_the_kernels_log_takes_the_device_out_until_it_is_reset(ward, tmp_path) -> None:
    machine = hgx_a100()
    reset = tmp_path / "reset"
    reset.write_text(f"#!/bin/sh\necho $1 >> {tmp_path}/resets\nread line < {tmp_path}/go\n")
    reset.chmod(0o700)
    os.mkfifo(tmp_path / "go")
    with ward(machine, reset=[str(reset), "{device}"]) as here:
        job_id = here.client.jobs.submit(shell("sleep 60", gpus_per_node=8, requeue=True, kill_wait_s=1))
        here.until(lambda: here.client.jobs.get(job_id).job.state is JobState.RUNNING, "the job")
        here.log(f"NVRM: Xid (PCI:{bus_of(machine, 3)}): 95, pid=1, uncontained memory error")
        here.until(lambda: here.node().health.outages != (), "the outage")
        (outage,) = here.node().health.outages
        assert outage.devices == (machine.gpus[3].uuid,)
        assert here.node().schedulability is Schedulability.OPEN
        here.until(lambda: here.client.jobs.get(job_id).job.state is JobState.PENDING, "the requeue")
        job = here.client.jobs.get(job_id).job
        assert job.attempt.stop_reason is EndReason.NODE_UNHEALTHY
        assert "Xid 95" in job.attempt.stop_detail
        small = here.client.jobs.submit(shell("sleep 60", gpus_per_node=1))
        here.until(lambda: here.client.jobs.get(small).job.state is JobState.RUNNING, "the small job")
        shown = gpusched("health", "list", home=here.head.home)
        assert "Xid 95" in shown.out
        assert "uncontained memory error" in shown.out
        (told,) = json.loads(gpusched("health", "list", "--json", home=here.head.home).out)
        assert told["outages"][0]["devices"] == [machine.gpus[3].uuid]
        (tmp_path / "go").write_text("done\n")
        here.until(lambda: here.node().health.outages == (), "the return")
        assert (tmp_path / "resets").read_text().split() == [machine.gpus[3].uuid]
        here.client.jobs.cancel(small)
        here.until(lambda: here.client.jobs.get(job_id).job.state is JobState.RUNNING, "the second attempt")


def test_a_log_without_faults_takes_nothing_out(ward) -> None:
    machine = hgx_a100()
    clean = [
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  570.124.06",
        'level=info msg="exec" containerBoxID=Xid79Xid',
        "Xid 79 is what a careless pattern would find here",
        f"NVRM: Xid (PCI:{bus_of(machine, 0)}): 43, pid=77, name=python, Ch 00000008",
        f"NVRM: Xid (PCI:{bus_of(machine, 1)}): 31, pid=78, name=python, MMU Fault",
        "nvidia-nvlink: Nvlink Core is being initialized, major device number 240",
    ]
    with ward(machine) as here:
        for seq, line in enumerate(clean * 20):
            here.log(line, seq)
        here.log(f"NVRM: Xid (PCI:{bus_of(machine, 7)}): 92, high single-bit ECC rate", 1000)
        here.until(lambda: len(here.node().health.findings) == 3, "the last line")
        assert here.node().health.outages == ()
        assert here.node().schedulability is Schedulability.OPEN


def test_a_full_disk_drains_the_node_and_an_operator_may_override(ward) -> None:
    full = {"disk_max_percent": 1e-9, "disks": ["/"]}
    with ward(None, **full) as here:
        here.until(lambda: here.node().schedulability is Schedulability.DRAINED, "the drain")
        assert here.node().reason.startswith("DiskFull: / is")
        assert {finding.condition.signal for finding in here.node().health.findings} == {Signal.DISK_FULL}
        refused = gpusched("node", "resume", "n1", home=here.head.home)
        assert refused.code == 0
        assert here.node().schedulability is Schedulability.OPEN
