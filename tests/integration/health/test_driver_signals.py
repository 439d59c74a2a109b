"""What the driver says of its cards, through the probe's own process, to what is taken out."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import pytest
from fakes.nvml.machines import GPU_IS_LOST, Machine, hgx_a100, write_state
from live import shell

from gpusched.domain.health import Signal
from gpusched.domain.job_state import JobState
from gpusched.domain.node import Schedulability

ENDLESS = ["/bin/sh", "-c", "sleep 600", "{device}"]
"""A reset that does not come to its end, so that what is out stays out."""


@pytest.fixture
def machine() -> Machine:
    return hgx_a100()


def change(here, machine: Machine) -> None:
    write_state(machine, here.folder / "state")


def signals(here) -> set[Signal]:
    return {finding.condition.signal for finding in here.node().health.findings}


def wait_until_watched(here, machine: Machine) -> None:
    """Let a counter rise until that is noticed: from then on the probe knows what was there before."""
    errors = count(1)

    def is_noticed() -> bool:
        change(here, machine.changed(0, link_errors=next(errors)))
        return Signal.NVLINK_ERRORS in signals(here)

    here.until(is_noticed, "the first looks")
    assert here.node().health.outages == ()


def test_a_fault_of_one_card_takes_that_device_out_and_no_other(ward, machine) -> None:
    faults = {
        0: ({"ecc": 2}, Signal.ECC_UNCORRECTED),
        1: ({"remap_pending": 1}, Signal.REMAP_PENDING),
        2: ({"remap_failed": 1}, Signal.REMAP_FAILED),
        3: ({"recovery": 1}, Signal.RECOVERY),
        4: ({"links": ("off",) * 12}, Signal.NVLINK_INACTIVE),
    }
    with ward(machine, reset=ENDLESS) as here:
        wait_until_watched(here, machine)
        sick = machine
        for index, (changes, _) in faults.items():
            sick = sick.changed(index, **changes)
        change(here, sick)
        here.until(lambda: len(here.node().health.outages) == len(faults), "the outages")
        found = {outage.devices: outage.condition.signal for outage in here.node().health.outages}
        assert found == {(machine.gpus[i].uuid,): signal for i, (_, signal) in faults.items()}
        assert here.node().schedulability is Schedulability.OPEN


def test_a_slowdown_drains_the_node_once_it_lasts_and_the_node_returns_when_it_is_over(ward, machine) -> None:
    with ward(machine) as here:
        job_id = here.client.jobs.submit(shell("sleep 600", gpus_per_node=1, kill_wait_s=1))
        here.until(lambda: here.client.jobs.get(job_id).job.state is JobState.RUNNING, "the job")
        change(here, machine.changed(0, slowdowns=0x40))
        here.until(lambda: here.node().schedulability is Schedulability.DRAINING, "the drain")
        assert here.client.jobs.get(job_id).job.state is JobState.RUNNING
        change(here, machine)
        here.until(lambda: signals(here) == set(), "the end of the slowdown")
        here.client.jobs.cancel(job_id)
        here.until(lambda: here.node().schedulability is Schedulability.OPEN, "the return")


def test_a_lost_card_takes_the_node_and_its_jobs(ward, machine) -> None:
    with ward(machine) as here:
        job_id = here.client.jobs.submit(shell("sleep 600", gpus_per_node=1, kill_wait_s=1))
        here.until(lambda: here.client.jobs.get(job_id).job.state is JobState.RUNNING, "the job")
        change(here, machine.changed(7, error=GPU_IS_LOST))
        here.until(lambda: here.node().schedulability is Schedulability.DRAINED, "the drain")
        assert here.client.jobs.wait(job_id).job.state is JobState.FAILED
        assert signals(here) == {Signal.GPU_LOST}
        (outage,) = here.node().health.outages
        assert outage.cure.value == "reboot"


def test_xids_come_from_nvml_where_the_kernels_log_cannot_be_read(ward, machine, tmp_path) -> None:
    with ward(machine, kmsg=str(tmp_path / "no-such-log"), reset=ENDLESS) as here:
        wait_until_watched(here, machine)
        change(here, machine.changed(2, xid="119.1"))
        here.until(lambda: Signal.XID in signals(here), "the event")
        outage = next(o for o in here.node().health.outages if o.condition.signal is Signal.XID)
        assert (outage.condition.code, outage.devices) == (119, (machine.gpus[2].uuid,))


def test_a_driver_that_hangs_stops_neither_heartbeats_nor_other_checks(ward, machine) -> None:
    with ward(machine, nvml_silence_max_s=1.0, config="[engine]\nsilence_max_s = 4.0\n") as here:
        change(here, replace(machine, hang=1))
        try:
            here.until(lambda: Signal.NVML_SILENT in signals(here), "the silence")
            here.log("NVRM: Xid (PCI:0000:ff:00): 92, pid=1, somewhere else")
            here.until(lambda: Signal.XID in signals(here), "the log")
            assert here.node().reachable
        finally:
            change(here, machine)
        here.until(lambda: here.node().schedulability is Schedulability.OPEN, "the return")


def test_a_device_that_a_stray_process_holds_is_not_given_to_jobs(ward, machine) -> None:
    with ward(machine, held_max_s=0.2) as here:
        change(here, machine.changed(1, compute=(4711,)))
        here.until(lambda: here.node().health.outages != (), "the outage")
        (outage,) = here.node().health.outages
        assert outage.condition.signal is Signal.DEVICE_HELD
        assert "4711" in outage.condition.detail
        change(here, machine)
        here.until(lambda: here.node().health.outages == (), "the return")
