"""Samples of a cluster over time stay few, equally spaced, and true."""

from __future__ import annotations

import itertools

from cluster import SECOND_US, Cluster, facts, spec
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusched.engine.demand import RENEWED_EVERY
from gpusched.engine.series import SAMPLES_MAX, Series


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 400), max_size=12), st.integers(1, 5))
def test_samples_are_bounded_and_equally_far_apart(lengths_s: list[int], step_s: int) -> None:
    cluster = Cluster()
    cluster.join(facts("n1"))
    series, until_us = Series(0, step_s * SECOND_US), 0
    for length_s in lengths_s:
        until_us += length_s * SECOND_US
        series.observe(cluster.engine.state, until_us)
        assert len(series.samples) < SAMPLES_MAX
    times = [sample.at_us for sample in series.samples]
    assert len({after - before for before, after in itertools.pairwise(times)}) <= 1
    assert times[:1] == ([0] if until_us else [])
    if len(times) > 1:
        assert until_us - (times[1] - times[0]) <= times[-1] < until_us


def test_a_sample_says_what_waits_what_is_held_and_what_is_up() -> None:
    cluster = Cluster()
    cluster.join(facts("n1"), facts("n2"))
    cluster.submit(spec(gpus_per_node=3), spec(gpus_per_node=4), spec(gpus_per_node=4))
    cluster.cycle()
    series = Series(0, SECOND_US)
    series.observe(cluster.engine.state, SECOND_US)
    (sample,) = series.samples
    assert (sample.jobs_waiting, sample.gpus_held, sample.gpus_up) == (1, 7, 8)
    assert sample.fragmentation_percent is None  # too few submissions to know the demand


def test_what_no_usual_request_can_use_is_fragmented() -> None:
    cluster = Cluster()
    cluster.join(facts("n1"))
    cluster.submit(*[spec(gpus_per_node=4, nice=1)] * RENEWED_EVERY)
    series = Series(0, SECOND_US)
    series.observe(cluster.engine.state, SECOND_US)
    cluster.submit(spec(gpus_per_node=1))
    cluster.cycle()
    series.observe(cluster.engine.state, 2 * SECOND_US)
    assert [sample.fragmentation_percent for sample in series.samples] == [0, 100]
