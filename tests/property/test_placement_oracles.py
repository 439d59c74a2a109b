"""Every vectorised placement function against a plain-loop twin, on random clusters."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import numpy as np
from fakes.clusters import TWO_PARTITIONS, make_node, node_lists, occupy, snapshot_of, specs
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusched.domain.diagnosis import Constraint
from gpusched.domain.node import Schedulability
from gpusched.placement.devices import choose_devices
from gpusched.placement.fit import constraint_masks, fit_empty, fit_fitted, fit_now
from gpusched.placement.gang import place
from gpusched.placement.inventory import _shape
from gpusched.placement.request import node_request
from gpusched.placement.score import best, fullness


def is_fitting(device, spec):
    words = spec.gpu_model.lower().split() if spec.gpu_model else []
    memory = spec.gpu_memory_bytes
    return (
        all(word in device.model.lower().replace("-", " ").split() for word in words)
        and (memory is None or (device.memory_bytes is not None and device.memory_bytes >= memory))
        and device.mig_profile == spec.mig_profile
        and (device.shareable or spec.gpu_milli == 1000)
    )


def is_large_enough(node, spec):
    partition = TWO_PARTITIONS.named(spec.partition)
    devices = [device for device in node.facts.devices if is_fitting(device, spec)]
    return (
        partition is not None
        and partition.holds(node.name)
        and (not spec.nodelist or node.name in spec.nodelist)
        and node.name not in spec.exclude
        and len(devices) >= spec.gpus_per_node
        and len(node.facts.cpu_ids) >= spec.cpus_per_node
        and node.facts.memory_bytes >= spec.memory_bytes
        and (node.facts.disk_bytes or 0) >= spec.disk_bytes
        and all(dict(node.facts.gres).get(name, 0) >= count for name, count in spec.gres)
    )


def has_free(node, spec, held):
    parts = [part for placement in held for part in placement.nodes if part.node == node.name]
    held_milli = Counter()
    held_counts = Counter()
    for part in parts:
        held_milli.update(dict.fromkeys(part.devices, part.gpu_milli))
        held_counts.update(dict(part.counters))
    roomy = [d for d in node.facts.devices if held_milli[d.uuid] + spec.gpu_milli <= 1000]
    free = [device for device in roomy if is_fitting(device, spec)]
    return (
        len(free) >= spec.gpus_per_node
        and len(node.facts.cpu_ids) - sum(len(part.cpu_ids) for part in parts) >= spec.cpus_per_node
        and node.facts.memory_bytes - sum(part.memory_bytes for part in parts) >= spec.memory_bytes
        and (node.facts.disk_bytes or 0) - held_counts["fs/disk"] >= spec.disk_bytes
        and all(
            dict(node.facts.gres)[name] - held_counts[f"gres/{name}"] >= count for name, count in spec.gres
        )
    )


clusters = st.tuples(node_lists(), st.lists(specs(plain=True), max_size=5), specs())


@given(clusters)
@settings(max_examples=300, deadline=None)
def test_fit_masks_equal_their_plain_loop_twins(case):
    nodes, jobs, spec = case
    if spec.gpus_per_node == 0:  # a model without GPUs asks for a node that has one; checked below
        return
    snapshot = snapshot_of(*nodes, partitions=TWO_PARTITIONS)
    held = occupy(snapshot, jobs, place)
    request = node_request(spec)
    large = [is_large_enough(node, spec) for node in nodes]
    up = [
        fits and node.reachable and node.schedulability is Schedulability.OPEN
        for fits, node in zip(large, nodes, strict=True)
    ]
    free = [fits and has_free(node, spec, held) for fits, node in zip(up, nodes, strict=True)]
    assert fit_fitted(snapshot.inventory, request).tolist() == large
    assert fit_empty(snapshot.inventory, request).tolist() == up
    assert fit_now(snapshot, request).tolist() == free


@given(clusters)
@settings(max_examples=300, deadline=None)
def test_a_node_fits_now_exactly_when_every_constraint_is_met(case):
    nodes, jobs, spec = case
    snapshot = snapshot_of(*nodes, partitions=TWO_PARTITIONS)
    occupy(snapshot, jobs, place)
    masks = constraint_masks(snapshot, node_request(spec))
    assert list(masks) == [constraint for constraint in Constraint if constraint is not Constraint.LICENSES]
    together = np.logical_and.reduce([np.ones(len(nodes), dtype=bool), *masks.values()])
    assert together.tolist() == fit_now(snapshot, node_request(spec)).tolist()


@given(clusters)
@settings(max_examples=200, deadline=None)
def test_fullness_orders_nodes_as_the_written_rule_does(case):
    nodes, jobs, spec = case
    snapshot = snapshot_of(*nodes)
    held = occupy(snapshot, jobs, place)
    score = fullness(snapshot.inventory, snapshot, node_request(spec), np.arange(len(nodes)))

    def rule(node):
        parts = [part for placement in held for part in placement.nodes if part.node == node.name]
        gpus_free = len(node.facts.devices) - len({uuid for part in parts for uuid in part.devices})
        cpus_used = sum(len(part.cpu_ids) for part in parts)
        return (spec.gpus_per_node == 0 and bool(node.facts.devices), gpus_free, -cpus_used)

    by_rule = sorted(range(len(nodes)), key=lambda row: (rule(nodes[row]), row))
    assert sorted(range(len(nodes)), key=lambda row: (-score[row], row)) == by_rule


@given(st.lists(st.tuples(*[st.integers(-2, 2)] * 3), min_size=1, max_size=40), st.data())
def test_best_takes_the_highest_by_the_first_key_that_differs_and_the_first_of_equal_ones(keys, data):
    count = data.draw(st.integers(1, len(keys)))
    expected = sorted(sorted(range(len(keys)), key=lambda row: ([-key for key in keys[row]], row))[:count])
    assert best([np.array(column) for column in zip(*keys, strict=True)], count).tolist() == expected


@given(
    numa=st.lists(st.sampled_from([0, 1, None]), min_size=1, max_size=6),
    links=st.lists(st.sampled_from([0, 10, 30]), min_size=15, max_size=15),
    data=st.data(),
)
@settings(max_examples=200, deadline=None)
def test_chosen_devices_equal_the_best_of_all_subsets(numa, links, data):
    pairs = list(combinations(range(len(numa)), 2))
    wires = tuple(
        wire
        for (here, there), speed in zip(pairs, links, strict=False)
        for wire in ((here, there, 0, None, speed), (there, here, 0, None, speed))
    )
    shape = _shape(tuple(numa), (0,) * len(numa), (), wires)
    free = tuple(sorted(data.draw(st.sets(st.sampled_from(range(len(numa))), min_size=1))))
    count = data.draw(st.integers(1, len(free)))

    def speeds(columns):
        return [shape.bandwidth_mb_s[pair] for pair in combinations(columns, 2)]

    def distances(columns):
        return sum(shape.distance[pair] for pair in combinations(columns, 2))

    def rank(columns):
        rest = [column for column in free if column not in columns]
        return (
            -min(speeds(columns), default=float("inf")),
            -sum(speeds(columns)),
            len({numa[column] for column in columns}),
            distances(columns),
            -sum(speeds(rest)),
            distances(rest),
            columns,
        )

    chosen = choose_devices(shape, free, count)
    assert tuple(sorted(chosen)) == min(combinations(free, count), key=rank)


def test_model_without_gpus_asks_for_a_node_that_has_such_a_gpu():
    from gpusched.domain.job_spec import JobSpec

    snapshot = snapshot_of(make_node("n0"), make_node("n1", "NVIDIA A10"))
    request = node_request(JobSpec(name="j", gpu_model="A10"))
    assert fit_now(snapshot, request).tolist() == [False, True]
