"""The real pynvml over a fake driver: what the reader says of whole machines, value by value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fakes.nvml.machines import (
    DRIVER_NOT_LOADED,
    GPU_IS_LOST,
    HOPPER,
    MIB,
    NVLINK_5_0,
    UNKNOWN,
    VERSION_MISMATCH,
    Fails,
    Gpu,
    Machine,
    bridged_pairs,
    hgx_a100,
    hgx_h100,
    pcie_a10,
    split_a100,
    taciturn,
    write_state,
)
from fakes.nvml.probed import Probe

from gpusched.agent.nvml import DeviceScan, UnusableDevice
from gpusched.domain.node import Device, PciAncestor, PeerLink
from gpusched.domain.telemetry import DeviceSample

Start = Callable[..., Probe]


def near(index: int, other: int, count: int) -> PciAncestor:
    if index // 2 == other // 2:
        return PciAncestor.SINGLE_SWITCH
    return PciAncestor.NUMA_NODE if index * 2 // count == other * 2 // count else PciAncestor.SYSTEM


def peers(machine: Machine, index: int, *, nvlinks: int, bandwidth_mb_s: int) -> tuple[PeerLink, ...]:
    count = len(machine.gpus)
    return tuple(
        PeerLink(gpu.uuid, nvlinks, bandwidth_mb_s, near(index, other, count))
        for other, gpu in enumerate(machine.gpus)
        if other != index
    )


def test_hgx_h100_is_eight_devices_with_18_nvlinks_to_every_peer(start_probe: Start) -> None:
    machine = hgx_h100()
    expected = tuple(
        Device(
            uuid=f"GPU-11110100-0000-4000-8000-{index:012x}",
            model="NVIDIA H100 80GB HBM3",
            memory_bytes=81_559 * MIB,
            pci_bus_id=f"00000000:{0x19 + 0x11 * index:02x}:00.0",
            numa_node=index // 4,
            cpu_ids=tuple(range(56)) if index < 4 else tuple(range(56, 112)),
            mig_enabled=False,
            driver_version="570.124.06",
            peers=peers(machine, index, nvlinks=18, bandwidth_mb_s=450_000),
        )
        for index in range(8)
    )
    assert start_probe(machine).scan() == DeviceScan(expected, ())


def test_hgx_a100_is_eight_devices_with_12_nvlinks_to_every_peer(start_probe: Start) -> None:
    machine = hgx_a100()
    expected = tuple(
        Device(
            uuid=f"GPU-a1000000-0000-4000-8000-{index:012x}",
            model="NVIDIA A100-SXM4-80GB",
            memory_bytes=81_920 * MIB,
            pci_bus_id=f"00000000:{0x07 + 8 * index:02x}:00.0",
            numa_node=index // 4,
            cpu_ids=tuple(range(64)) if index < 4 else tuple(range(64, 128)),
            mig_enabled=False,
            driver_version="535.183.01",
            peers=peers(machine, index, nvlinks=12, bandwidth_mb_s=300_000),
        )
        for index in range(8)
    )
    assert start_probe(machine).scan() == DeviceScan(expected, ())


def test_pcie_a10_has_no_nvlink_and_its_numa_nodes_and_pcie_paths(start_probe: Start) -> None:
    machine = pcie_a10()
    expected = tuple(
        Device(
            uuid=f"GPU-a10a10a1-0000-4000-8000-{index:012x}",
            model="NVIDIA A10",
            memory_bytes=23_028 * MIB,
            pci_bus_id=f"00000000:{0x17 + 0x20 * index:02x}:00.0",
            numa_node=index // 2,
            cpu_ids=tuple(range(index // 2, 64, 2)),
            mig_enabled=None,
            driver_version="550.54.15",
            peers=peers(machine, index, nvlinks=0, bandwidth_mb_s=16 * 1_969),
        )
        for index in range(4)
    )
    assert start_probe(machine).scan() == DeviceScan(expected, ())


def test_bridged_cards_have_nvlinks_to_their_pair_only(start_probe: Start) -> None:
    scan = start_probe(bridged_pairs()).scan()
    links = [[peer.nvlinks for peer in device.peers] for device in scan.devices]
    assert links == [[12, 0, 0], [12, 0, 0], [0, 0, 12], [0, 0, 12]]
    assert [peer.bandwidth_mb_s for peer in scan.devices[0].peers] == [300_000, 31_504, 31_504]


def test_a_card_in_mig_mode_is_its_slices_and_other_cards_stay_whole(start_probe: Start) -> None:
    probe = start_probe(split_a100())
    scan = probe.scan()
    assert [(device.uuid, device.model, device.memory_bytes) for device in scan.devices] == [
        ("MIG-a1000000-0000-4000-8000-000000000000", "NVIDIA A100-SXM4-80GB MIG 3g.40gb", 40_192 * MIB),
        ("MIG-a1000000-0000-4000-8000-000000000001", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9_728 * MIB),
        ("MIG-a1000000-0000-4000-8000-000000000002", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", 9_728 * MIB),
        ("GPU-a1000000-0000-4000-8000-000000000001", "NVIDIA A100-SXM4-80GB", 81_920 * MIB),
    ]
    assert [device.mig_enabled for device in scan.devices] == [True, True, True, False]
    assert [device.mig_profile for device in scan.devices] == ["3g.40gb", "1g.10gb", "1g.10gb", None]
    parent = "GPU-a1000000-0000-4000-8000-000000000000"
    assert [device.mig_parent for device in scan.devices] == [parent, parent, parent, None]
    assert {device.numa_node for device in scan.devices} == {0}
    assert all(device.peers == () for device in scan.devices)
    assert scan.unusable == ()
    assert probe.sample().samples[:2] == (
        DeviceSample(uuid=scan.devices[0].uuid, memory_used_bytes=40_192 * MIB // 4, process_pids=(4_000,)),
        DeviceSample(uuid=scan.devices[1].uuid, memory_used_bytes=9_728 * MIB // 4, process_pids=(4_001,)),
    )


def test_a_card_in_mig_mode_without_slices_is_unusable_and_says_why(start_probe: Start) -> None:
    scan = start_probe(split_a100().changed(0, slices=())).scan()
    assert [device.uuid for device in scan.devices] == ["GPU-a1000000-0000-4000-8000-000000000001"]
    (card,) = scan.unusable
    assert (card.index, card.uuid) == (0, "GPU-a1000000-0000-4000-8000-000000000000")
    assert "no slices" in card.reason


def test_a_slice_without_a_profile_is_never_taken_for_a_whole_gpu(start_probe: Start) -> None:
    nameless = replace(split_a100().gpus[0].slices[0], name=None)
    scan = start_probe(split_a100().changed(0, slices=(nameless,))).scan()
    assert [device.mig_profile for device in scan.devices] == [None]
    assert [device.uuid for device in scan.devices] == ["GPU-a1000000-0000-4000-8000-000000000001"]
    assert "does not tell the profile" in scan.unusable[0].reason


def test_what_a_card_does_not_tell_is_none_and_not_zero(start_probe: Start) -> None:
    probe = start_probe(taciturn())
    uuid = "GPU-0ff0ff00-0000-4000-8000-000000000000"
    assert probe.scan() == DeviceScan((Device(uuid=uuid, model="GRID V100D-8Q", memory_bytes=None),), ())
    assert probe.sample().samples == (DeviceSample(uuid=uuid),)
    assert probe.sample().unusable == ()


def test_samples_carry_every_measured_value_in_its_unit(start_probe: Start) -> None:
    machine = pcie_a10().changed(
        1,
        memory_used=5 * MIB,
        busy=87,
        power_mw=148_250,
        energy_mj=98_765_432,
        temperature=61,
        ecc=3,
        compute=(4242, 77),
        graphics=(99, 77),
    )
    probe = start_probe(machine)
    probe.scan()
    idle, busy, *_ = probe.sample().samples
    assert busy == DeviceSample(
        uuid="GPU-a10a10a1-0000-4000-8000-000000000001",
        busy_percent=87.0,
        memory_used_bytes=5 * MIB,
        power_w=148.25,
        energy_j=98_765.432,
        temperature_c=61.0,
        ecc_uncorrected=3,
        process_pids=(77, 99, 4242),
    )
    # An idle card is measured to be idle.
    assert (idle.busy_percent, idle.memory_used_bytes, idle.ecc_uncorrected) == (0.0, 0, 0)
    assert idle.process_pids == ()


def test_a_counter_that_moves_is_read_anew_at_every_sample(start_probe: Start) -> None:
    machine = pcie_a10()
    probe = start_probe(machine)
    probe.scan()
    assert probe.sample().samples[2].energy_j == 1_000.0
    probe.becomes(machine.changed(2, energy_mj=1_234_000))
    assert probe.sample().samples[2].energy_j == 1_234.0


@pytest.mark.parametrize("code", [GPU_IS_LOST, UNKNOWN])
def test_a_card_lost_while_running_leaves_the_others_measured(start_probe: Start, code: int) -> None:
    machine = hgx_h100()
    probe = start_probe(machine)
    whole = probe.scan()
    probe.becomes(machine.changed(3, error=code))
    readings = probe.sample()
    assert readings.samples[3] == DeviceSample(uuid=machine.gpus[3].uuid)
    assert all(s.power_w == 70.0 for place, s in enumerate(readings.samples) if place != 3)
    assert [(card.index, card.uuid) for card in readings.unusable] == [(3, machine.gpus[3].uuid)]

    again = probe.scan()
    assert [device.uuid for device in again.devices] == [
        device.uuid for place, device in enumerate(whole.devices) if place != 3
    ]
    assert all(peer.peer != machine.gpus[3].uuid for device in again.devices for peer in device.peers)
    assert all(len(device.peers) == 6 for device in again.devices)
    assert [card.index for card in again.unusable] == [3]


def test_a_lost_card_without_a_handle_is_named_by_its_index_and_reason(start_probe: Start) -> None:
    scan = start_probe(hgx_a100().changed(7, handle=Fails(GPU_IS_LOST))).scan()
    assert len(scan.devices) == 7
    assert scan.unusable == (
        UnusableDevice(index=7, uuid=None, reason="nvmlDeviceGetHandleByIndex: GPU is lost"),
    )


def test_a_card_whose_sensor_reports_a_fault_is_not_taken_for_one_without_the_sensor(
    start_probe: Start,
) -> None:
    probe = start_probe(pcie_a10().changed(0, power_mw=Fails(UNKNOWN), temperature=None))
    probe.scan()
    readings = probe.sample()
    assert [card.index for card in readings.unusable] == [0]
    assert readings.samples[0] == DeviceSample(uuid="GPU-a10a10a1-0000-4000-8000-000000000000")


def test_a_failing_pair_question_costs_the_pair_its_ancestor_and_no_card_its_place(
    start_probe: Start,
) -> None:
    scan = start_probe(hgx_a100().changed(2, topology=Fails(GPU_IS_LOST))).scan()
    assert len(scan.devices) == 8
    ancestors = {peer.peer: peer.ancestor for peer in scan.devices[0].peers}
    assert ancestors["GPU-a1000000-0000-4000-8000-000000000002"] is None
    assert ancestors["GPU-a1000000-0000-4000-8000-000000000003"] is PciAncestor.NUMA_NODE


def test_inactive_nvlinks_are_not_counted(start_probe: Start) -> None:
    scan = start_probe(hgx_a100().changed(0, links=("off",) * 2 + ("switch",) * 10)).scan()
    assert {peer.nvlinks for peer in scan.devices[0].peers} == {10}
    assert {peer.bandwidth_mb_s for peer in scan.devices[0].peers} == {250_000}
    assert sorted(peer.nvlinks for peer in scan.devices[1].peers) == [10] + [12] * 6


def test_a_card_in_a_narrow_slot_slows_its_own_pairs_only(start_probe: Start) -> None:
    first, second, *_ = start_probe(pcie_a10().changed(0, pcie_width=8)).scan().devices
    assert [peer.bandwidth_mb_s for peer in first.peers] == [15_752] * 3
    assert [peer.bandwidth_mb_s for peer in second.peers] == [15_752, 31_504, 31_504]


def test_links_of_hopper_are_nvlink_4_whatever_the_driver_says(start_probe: Start) -> None:
    machine = hgx_h100()
    mistaken = replace(machine, gpus=tuple(replace(gpu, nvlink_version=NVLINK_5_0) for gpu in machine.gpus))
    assert {gpu.arch for gpu in mistaken.gpus} == {HOPPER}
    scan = start_probe(mistaken).scan()
    assert {peer.bandwidth_mb_s for device in scan.devices for peer in device.peers} == {450_000}


def test_an_old_driver_without_the_newer_functions_still_lists_and_measures(
    start_probe: Start, old_nvml: Path
) -> None:
    probe = start_probe(bridged_pairs().changed(0, memory_used=7 * MIB, compute=(5,)), library=old_nvml)
    scan = probe.scan()
    assert [peer.nvlinks for peer in scan.devices[0].peers] == [12, 0, 0]
    assert [device.numa_node for device in scan.devices] == [None] * 4
    first = probe.sample().samples[0]
    assert first.temperature_c == 30.0  # by the older call
    assert first.memory_used_bytes == 607 * MIB  # the older call counts the driver's own part
    assert first.process_pids is None


def test_sysfs_tells_numa_node_and_cpus_where_nvml_does_not(start_probe: Start, sysfs: Path) -> None:
    card = Gpu(uuid="GPU-1", name="NVIDIA L4", bus_id="00010000:3B:00.0")
    unknown = Gpu(uuid="GPU-2", name="NVIDIA L4", bus_id="00000000:5E:00.0")
    for bus, numa_node in (("10000:3b:00.0", "1"), ("0000:5e:00.0", "-1")):
        folder = sysfs / "bus/pci/devices" / bus
        folder.mkdir()
        (folder / "numa_node").write_text(f"{numa_node}\n")
        (folder / "local_cpulist").write_text("8-11,24\n")
    first, second = start_probe(Machine(gpus=(card, unknown))).scan().devices
    assert (first.numa_node, first.cpu_ids) == (1, (8, 9, 10, 11, 24))
    assert second.numa_node is None


# ── no driver, a broken driver ────────────────────────────────────────────────────────


def test_a_machine_without_the_library_has_no_nvml(start_probe: Start, tmp_path: Path) -> None:
    # A file that is no library shadows a real one, so this holds on machines with a driver too.
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/libnvidia-ml.so.1").write_text("not a library")
    assert start_probe(None, library=tmp_path / "empty").opening == "none"


def test_a_library_without_driver_and_without_card_is_no_nvml(start_probe: Start) -> None:
    assert start_probe(Machine(init=Fails(DRIVER_NOT_LOADED))).opening == "none"


def test_a_card_on_the_bus_whose_driver_is_not_loaded_is_broken_nvml(start_probe: Start, sysfs: Path) -> None:
    folder = sysfs / "bus/pci/devices/0000:3b:00.0"
    folder.mkdir()
    (folder / "vendor").write_text("0x10de\n")
    (folder / "class").write_text("0x030200\n")
    opening = start_probe(Machine(init=Fails(DRIVER_NOT_LOADED))).opening
    assert opening.startswith("broken NVML does not start: Driver Not Loaded")
    assert "nvidia-smi" in opening


def test_a_driver_that_does_not_match_its_library_is_broken_nvml(start_probe: Start) -> None:
    opening = start_probe(Machine(init=Fails(VERSION_MISMATCH), gpus=hgx_a100().gpus)).opening
    assert opening.startswith("broken NVML does not start: RM has detected an NVML/RM version mismatch")


def test_a_driver_that_stops_counting_its_cards_is_broken_nvml(start_probe: Start) -> None:
    probe = start_probe(hgx_a100())
    probe.becomes(replace(hgx_a100(), count=Fails(UNKNOWN)))
    assert probe.ask("scan") == "broken NVML lists no GPUs: nvmlDeviceGetCount: Unknown Error"


def test_a_driver_with_no_cards_gives_an_empty_list(start_probe: Start) -> None:
    assert start_probe(Machine()).scan() == DeviceScan((), ())


def test_the_state_file_is_replaced_whole(tmp_path: Path) -> None:
    state = tmp_path / "state"
    write_state(hgx_a100(), state)
    before = state.stat().st_ino
    write_state(pcie_a10(), state)
    assert state.stat().st_ino != before
    assert list(tmp_path.iterdir()) == [state]
