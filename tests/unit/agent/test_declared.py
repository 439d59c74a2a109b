"""``--devices 4xH100``: devices by declaration."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusched.agent.declared import DEVICES_MAX, PRODUCTS, declare_devices, parse_counters, share_devices
from gpusched.domain.errors import InvalidSpec
from gpusched.domain.ids import NodeName
from gpusched.domain.node import Device, PeerLink

NODE = NodeName("n7")
GIB = 1024**3


def test_two_h100_are_declared_devices_joined_by_nvlink() -> None:
    first, second = "DECLARED-n7-0", "DECLARED-n7-1"
    assert declare_devices("2xH100", NODE) == tuple(
        Device(
            uuid=own,
            model="NVIDIA H100 80GB HBM3",
            memory_bytes=80 * GIB,
            declared=True,
            peers=(PeerLink(other, nvlinks=18, bandwidth_mb_s=450_000, ancestor=None),),
        )
        for own, other in ((first, second), (second, first))
    )


def test_groups_are_numbered_on_and_only_cards_of_one_group_have_nvlink() -> None:
    devices = declare_devices("2xA100-80GB, 1xL4", NODE)
    assert [(device.uuid, device.model, device.memory_bytes) for device in devices] == [
        ("DECLARED-n7-0", "NVIDIA A100-SXM4-80GB", 80 * GIB),
        ("DECLARED-n7-1", "NVIDIA A100-SXM4-80GB", 80 * GIB),
        ("DECLARED-n7-2", "NVIDIA L4", 24 * GIB),
    ]
    assert [len(device.peers) for device in devices] == [1, 1, 0]


def test_mig_slices_are_declared_with_their_profile_and_memory() -> None:
    first, second = declare_devices("2xA100 MIG 1g.10gb", NODE)
    assert (first.model, first.mig_profile) == ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", "1g.10gb")
    assert (second.uuid, second.memory_bytes, second.peers) == ("DECLARED-n7-1", 10 * GIB, ())


def test_whole_gpus_can_be_shared_and_slices_cannot() -> None:
    devices = share_devices(declare_devices("1xH100,1xA100 MIG 1g.10gb", NODE))
    assert [device.shareable for device in devices] == [True, False]


def test_counters_are_read_by_name() -> None:
    assert parse_counters(["nic=2", "fpga=0"]) == (("fpga", 0), ("nic", 2))


@pytest.mark.parametrize("texts", [["fpga"], ["fpga="], ["=1"], ["fpga=-1"], ["a=1", "a=2"], ["a b=1"]])
def test_what_is_no_counter_is_refused(texts: list[str]) -> None:
    with pytest.raises(InvalidSpec, match=r"NAME=COUNT|given twice"):
        parse_counters(texts)


def test_case_of_a_known_model_does_not_matter() -> None:
    assert declare_devices("1xh100", NODE) == declare_devices("1xH100", NODE)


def test_an_unknown_model_keeps_its_name_and_has_no_memory_size() -> None:
    (device,) = declare_devices("1xMI300X", NODE)
    assert (device.model, device.memory_bytes, device.peers) == ("MI300X", None, ())


@pytest.mark.parametrize("text", ["0", "none", "None", " none "])
def test_none_and_0_are_no_devices(text: str) -> None:
    assert declare_devices(text, NODE) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "H100",
        "1xA100 MIG 10gb",
        "4",
        "x",
        "4x",
        "xH100",
        "-1xH100",
        "0xH100",
        "4xH100,",
        "4 H100",
        "4xH100;1xL4",
        "²xH100",
        "1xH\x00",
    ],
)
def test_other_text_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidSpec, match="4xH100") as refused:
        declare_devices(text, NODE)
    assert refused.value.violations[0].field == "devices"


@pytest.mark.parametrize("text", [f"{DEVICES_MAX + 1}xL4", "9999xH100", f"{DEVICES_MAX}xL4,1xT4"])
def test_an_absurd_count_is_refused_with_the_limit(text: str) -> None:
    with pytest.raises(InvalidSpec, match=f"more than {DEVICES_MAX} devices"):
        declare_devices(text, NODE)


@given(st.lists(st.tuples(st.integers(1, 8), st.sampled_from(sorted(PRODUCTS))), min_size=1, max_size=8))
def test_every_declared_device_is_labelled_and_uuids_never_repeat(groups: list[tuple[int, str]]) -> None:
    devices = declare_devices(",".join(f"{count}x{model}" for count, model in groups), NODE)
    assert len({device.uuid for device in devices}) == len(devices) == sum(count for count, _ in groups)
    assert all(device.declared for device in devices)
    links = {(device.uuid, peer.peer): peer.nvlinks for device in devices for peer in device.peers}
    assert all(links[there, here] == count for (here, there), count in links.items())


@given(st.text(max_size=40))
def test_any_text_is_either_devices_or_one_clear_refusal(text: str) -> None:
    try:
        devices = declare_devices(text, NODE)
    except InvalidSpec as refused:
        assert len(refused.violations) == 1
    else:
        assert all(device.declared for device in devices)
