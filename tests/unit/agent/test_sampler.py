"""The sampler and the attempt meter. Zero is a measurement; None is not."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpusched.agent.sampler import AttemptMeter, Sampler
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.telemetry import DeviceSample, DeviceUse, NodeSample

NODE = NodeName("n0")
A, B = DeviceUuid("GPU-a"), DeviceUuid("GPU-b")
S = 1_000_000

percents = st.none() | st.just(0.0) | st.floats(0, 100)
watts = st.none() | st.just(0.0) | st.floats(0, 1_500)
joules = st.none() | st.just(0.0) | st.floats(0, 1e9)
sizes = st.none() | st.just(0) | st.integers(0, 2**37)


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, DeviceSample]]:
    """Instants that never go back, each with what was measured then."""
    instants = sorted(draw(st.lists(st.integers(0, 10**12), min_size=1, max_size=12)))
    return [
        (
            now_us,
            DeviceSample(
                uuid=A,
                busy_percent=draw(percents),
                power_w=draw(watts),
                energy_j=draw(joules),
                memory_used_bytes=draw(sizes),
            ),
        )
        for now_us in instants
    ]


def node_sample(*devices: DeviceSample, at_us: int = 0) -> NodeSample:
    return NodeSample(node=NODE, sampled_at_us=at_us, devices=devices)


def measure(history: list[tuple[int, DeviceSample]]) -> DeviceUse:
    meter = AttemptMeter([A])
    for now_us, device in history:
        meter.add(node_sample(device), now_us)
    (use,) = meter.uses()
    return use


def steps(history: list[tuple[int, DeviceSample]]) -> list[tuple[float, DeviceSample]]:
    pairs = pairwise(history)
    return [((after[0] - before[0]) / S, after[1]) for before, after in pairs if after[0] > before[0]]


@given(histories())
def test_busy_seconds_are_the_integral_over_the_measured_time(
    history: list[tuple[int, DeviceSample]],
) -> None:
    known = [(dt, s.busy_percent) for dt, s in steps(history) if s.busy_percent is not None]
    use = measure(history)
    if known:
        assert use.busy_s == pytest.approx(sum(dt * percent / 100 for dt, percent in known))
    else:
        assert use.busy_s is None


@given(histories())
def test_memory_peak_is_the_largest_reading_and_zero_is_one(history: list[tuple[int, DeviceSample]]) -> None:
    known = [s.memory_used_bytes for _, s in history if s.memory_used_bytes is not None]
    assert measure(history).memory_peak_bytes == (max(known) if known else None)


@given(histories())
def test_without_a_counter_energy_is_the_integral_of_power(history: list[tuple[int, DeviceSample]]) -> None:
    silent = [(now_us, replace(device, energy_j=None)) for now_us, device in history]
    known = [(dt, s.power_w) for dt, s in steps(silent) if s.power_w is not None]
    use = measure(silent)
    assert use.energy_j == (pytest.approx(sum(dt * power for dt, power in known)) if known else None)


@given(histories())
def test_with_a_counter_that_never_falls_energy_is_its_increase(
    history: list[tuple[int, DeviceSample]],
) -> None:
    counters = sorted(device.energy_j or 0.0 for _, device in history)
    counted = [
        (now_us, replace(device, energy_j=counter))
        for (now_us, device), counter in zip(history, counters, strict=True)
    ]
    use = measure(counted)
    if len(counted) > 1:
        assert use.energy_j == pytest.approx(counters[-1] - counters[0], abs=1e-3)
    else:
        assert use.energy_j is None


@given(histories())
def test_energy_equals_its_definition_run_by_run(history: list[tuple[int, DeviceSample]]) -> None:
    """The definition, put differently: cut at the counter's readings, each piece by counter if it can."""
    pieces: list[float] = []
    start, counter = 0, None
    for place, (_, device) in enumerate(history):
        is_end = place == len(history) - 1
        if device.energy_j is None and not is_end:
            continue
        if device.energy_j is not None and counter is not None and device.energy_j >= counter:
            pieces.append(device.energy_j - counter)
        else:
            run = steps(history[start : place + 1])
            pieces.extend(dt * s.power_w for dt, s in run if s.power_w is not None)
        start = place
        counter = device.energy_j
    use = measure(history)
    assert use.energy_j == (pytest.approx(sum(pieces), abs=1e-3) if pieces else None)


def test_a_device_measured_at_zero_used_zero_and_not_nothing() -> None:
    idle = DeviceSample(uuid=A, busy_percent=0.0, power_w=0.0, energy_j=0.0, memory_used_bytes=0)
    assert measure([(0, idle), (S, idle), (2 * S, idle)]) == DeviceUse(
        uuid=A, busy_s=0.0, energy_j=0.0, memory_peak_bytes=0
    )


def test_an_example_with_a_gap_in_the_counter_and_a_driver_reload() -> None:
    def sample(energy_j: float | None) -> DeviceSample:
        return DeviceSample(uuid=A, busy_percent=50.0, power_w=100.0, energy_j=energy_j)

    history = [
        (0, sample(1_000.0)),
        (10 * S, sample(2_100.0)),  # 1,100 J by the counter
        (20 * S, sample(None)),
        (30 * S, sample(4_000.0)),  # 1,900 J by the counter, over the gap
        (40 * S, sample(7.0)),  # reloaded: 1,000 J by power
        (50 * S, sample(1_007.0)),  # 1,000 J
    ]
    use = measure(history)
    assert use.energy_j == pytest.approx(5_000.0)
    assert use.busy_s == pytest.approx(25.0)


def test_a_declared_device_is_none_everywhere_and_keeps_its_place() -> None:
    meter = AttemptMeter([A, B])
    measured = DeviceSample(uuid=B, busy_percent=100.0, power_w=10.0, memory_used_bytes=5)
    for now_us in (0, S):
        meter.add(node_sample(DeviceSample(uuid=A), measured), now_us)
    assert meter.uses() == (
        DeviceUse(uuid=A),
        DeviceUse(uuid=B, busy_s=1.0, energy_j=10.0, memory_peak_bytes=5),
    )


def test_devices_of_other_attempts_are_not_counted() -> None:
    meter = AttemptMeter([A])
    for now_us in (0, S):
        meter.add(node_sample(DeviceSample(uuid=B, busy_percent=100.0)), now_us)
    assert meter.uses() == (DeviceUse(uuid=A),)


# ── sampler ───────────────────────────────────────────────────────────────────────────


def test_a_node_without_nvml_is_measured_and_its_declared_devices_are_not() -> None:
    sampler = Sampler(NODE, None, declared=[A, B])
    sample = sampler.sample(17)
    assert (sample.node, sample.sampled_at_us) == (NODE, 17)
    assert sample.devices == (DeviceSample(uuid=A), DeviceSample(uuid=B))
    assert sampler.unusable == ()
    assert sample.memory_used_bytes is not None
    assert sample.load_1m is not None and sample.load_1m >= 0
    assert sample.cpu_percent is not None
    assert 0 <= sample.cpu_percent <= 100 * (os.cpu_count() or 1)
