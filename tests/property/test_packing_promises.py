"""What the score promises of streams of jobs, whatever is usual."""

from __future__ import annotations

from collections import Counter

import numpy as np
from fakes.clusters import H100, make_node, snapshot_of, take_all
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusched.domain.job_spec import JobSpec
from gpusched.placement.gang import fits, place
from gpusched.placement.mix import RequestMix, shape_of
from gpusched.placement.request import node_request


@st.composite
def small_jobs(draw):
    gpus = draw(st.integers(1, 4))
    return JobSpec(
        name="job",
        command=("true",),
        gpus_per_node=gpus,
        cpus_per_task=draw(st.integers(1, 4)) * gpus,
        gpu_milli=draw(st.sampled_from([250, 500, 700, 1000])) if gpus == 1 else 1000,
    )


WIDE = JobSpec(name="wide", command=("true",), gpus_per_node=8, cpus_per_task=8)
MIXES = st.lists(small_jobs(), min_size=1, max_size=8)


def mix_of(specs):
    return RequestMix.of(Counter(shape_of(node_request(spec)) for spec in specs), cover=1.0)


def idle(snapshot):
    return int(np.count_nonzero(snapshot.gpus_free == snapshot.inventory.gpus_total))


@given(st.lists(small_jobs(), min_size=1, max_size=8), st.lists(small_jobs(), max_size=30))
@settings(max_examples=100, deadline=None)
def test_small_jobs_break_no_second_idle_node_while_whole_nodes_are_asked_for(usual, stream):
    """Where half of the requests are for whole nodes, none is broken for a job that a used node can take."""
    snapshot = snapshot_of(*[make_node(f"n{i}", *[H100] * 8, cpus=64, shareable=8) for i in range(4)])
    snapshot.expect(mix_of([*usual, *[WIDE] * len(usual)]))
    for spec in stream:
        if not fits(snapshot, spec):
            break
        used = snapshot.gpus_free < snapshot.inventory.gpus_total
        could_share = fits(snapshot, spec, avoid=~used)
        before = idle(snapshot)
        take_all(snapshot, place(snapshot, spec))
        assert idle(snapshot) == before or not could_share


@given(MIXES, st.lists(small_jobs(), max_size=30), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_equal_inputs_give_equal_placements_also_where_scores_were_kept(usual, stream, copies):
    nodes = [make_node(f"n{i}", *[H100] * 8, cpus=48, shareable=4) for i in range(3)]
    fresh, kept = snapshot_of(*nodes), snapshot_of(*nodes)
    fresh.expect(mix_of(usual))
    kept.expect(mix_of(usual))
    for spec in stream:
        if not fits(fresh, spec):
            continue
        for _ in range(copies):  # tried on copies and dropped, as forecasts do
            trial = kept.copy()
            take_all(trial, place(trial, spec))
        placement = place(kept, spec)
        assert placement == place(fresh, spec)
        take_all(kept, placement)
        take_all(fresh, placement)
        fresh = rebuilt(nodes, fresh, mix_of(usual))


def rebuilt(nodes, shown, mix):
    """A snapshot of the same state that has scored nothing yet."""
    snapshot = snapshot_of(*nodes)
    snapshot.expect(mix)
    for name in (
        "milli_free",
        "gpus_free",
        "gpus_free_by_class",
        "cpus_free",
        "memory_free",
        "cpu_bits_free",
    ):
        setattr(snapshot, name, getattr(shown, name).copy())
    return snapshot
