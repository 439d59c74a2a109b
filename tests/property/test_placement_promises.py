"""What placement promises, on random clusters."""

from __future__ import annotations

from collections import Counter

import pytest
from fakes.clusters import (
    LICENSES,
    TWO_PARTITIONS,
    columns_of,
    give_all_back,
    node_lists,
    occupy,
    snapshot_of,
    specs,
    take_all,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from gpusched.domain.diagnosis import Constraint
from gpusched.domain.errors import GpuschedError, InfeasibleRequest, InsufficientResources
from gpusched.domain.job_state import PendingReason
from gpusched.placement.diagnose import check_feasible, diagnose
from gpusched.placement.gang import fits, place
from gpusched.placement.request import is_model_match
from gpusched.placement.snapshot import ClusterSnapshot

jobs = st.lists(specs(), max_size=8)


def outcome(snapshot, spec):
    try:
        return place(snapshot, spec)
    except GpuschedError as refused:
        return type(refused)


@given(node_lists(), jobs)
@settings(max_examples=300, deadline=None)
def test_no_device_or_cpu_is_held_twice_and_every_gang_is_whole_or_absent(nodes, queue):
    snapshot = snapshot_of(*nodes, partitions=TWO_PARTITIONS)
    facts = {node.name: node.facts for node in nodes}
    devices, cpus, licenses = Counter(), [], Counter()
    for spec in queue:
        before = columns_of(snapshot)
        placement = outcome(snapshot, spec)
        assert columns_of(snapshot) == before
        if isinstance(placement, type):
            continue
        take_all(snapshot, placement)
        licenses.update(dict(placement.licenses))
        assert len({part.node for part in placement.nodes}) == len(placement.nodes) == spec.nodes
        for part in placement.nodes:
            assert len(part.devices) == spec.gpus_per_node
            assert len(part.cpu_ids) == spec.cpus_per_node
            models = {device.uuid: device.model for device in facts[part.node].devices}
            if spec.gpu_model is not None:
                assert all(is_model_match(spec.gpu_model, models[uuid]) for uuid in part.devices)
            fitted = {device.uuid: device for device in facts[part.node].devices}
            assert all(fitted[uuid].mig_profile == spec.mig_profile for uuid in part.devices)
            assert spec.gpu_milli == 1000 or all(fitted[uuid].shareable for uuid in part.devices)
            devices.update(dict.fromkeys(part.devices, part.gpu_milli))
            cpus += [(part.node, cpu) for cpu in part.cpu_ids]
    assert max(devices.values(), default=0) <= 1000
    assert all(licenses[name] <= total for name, total in LICENSES)
    assert len(cpus) == len(set(cpus))


@given(node_lists(), jobs, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_give_back_undoes_take_in_any_order(nodes, queue, dice):
    snapshot = snapshot_of(*nodes, partitions=TWO_PARTITIONS)
    empty = columns_of(snapshot)
    held = list(occupy(snapshot, queue, place))
    dice.shuffle(held)
    for placement in held:
        give_all_back(snapshot, placement)
    assert columns_of(snapshot) == empty


@given(node_lists(), jobs, specs(), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_placement_does_not_depend_on_the_order_in_which_nodes_are_listed(nodes, queue, spec, dice):
    shuffled = list(nodes)
    dice.shuffle(shuffled)
    answers = []
    for listed in (nodes, shuffled):
        snapshot = ClusterSnapshot.of(listed, TWO_PARTITIONS, 1, licenses=LICENSES)
        answers.append((occupy(snapshot, queue, place), outcome(snapshot, spec)))
    assert answers[0] == answers[1]


def some_node_can(snapshot, spec, node):
    """Brute force: narrow the request to this one node and one part, and try to hold it."""
    from dataclasses import replace

    if spec.nodelist and node not in spec.nodelist:
        return False
    try:
        part = place(snapshot, replace(spec, nodes=1, nodelist=(node,))).nodes[0]
    except GpuschedError:
        return False
    copied = snapshot.copy()
    copied.take(part)
    return True


@given(node_lists(), jobs, specs())
@settings(max_examples=200, deadline=None)
def test_a_gang_is_placed_exactly_when_enough_nodes_can_each_hold_a_part(nodes, queue, spec):
    snapshot = snapshot_of(*nodes, partitions=TWO_PARTITIONS)
    occupy(snapshot, queue, place)
    able = sum(some_node_can(snapshot, spec, node.name) for node in nodes)
    is_able = able >= spec.nodes and snapshot.has_licenses(spec.licenses)
    assert fits(snapshot, spec) is is_able
    assert isinstance(outcome(snapshot, spec), type) is not is_able


@given(node_lists(), jobs, specs())
@settings(max_examples=300, deadline=None)
def test_never_and_not_yet_are_told_apart_alike_by_place_check_and_diagnosis(nodes, queue, spec):
    snapshot = snapshot_of(*nodes, partitions=TWO_PARTITIONS)
    occupy(snapshot, queue, place)
    placement, diagnosis = outcome(snapshot, spec), diagnose(snapshot, spec)
    assert diagnosis.message
    assert (diagnosis.reason is None) is not isinstance(placement, type)
    if placement is InfeasibleRequest:
        assert diagnosis.reason is PendingReason.NODES_UNAVAILABLE
        if nodes:
            with pytest.raises(InfeasibleRequest):
                check_feasible(snapshot, spec)
    else:
        check_feasible(snapshot, spec)
        assert placement is InsufficientResources or diagnosis.reason is None


@given(node_lists(), jobs, specs())
@settings(max_examples=200, deadline=None)
def test_diagnosis_counts_add_up(nodes, queue, spec):
    snapshot = snapshot_of(*nodes, partitions=TWO_PARTITIONS)
    occupy(snapshot, queue, place)
    diagnosis = diagnose(snapshot, spec)
    assert diagnosis.nodes_total == len(nodes)
    assert diagnosis.nodes_fitting_now <= diagnosis.nodes_fitting_empty <= len(nodes)
    ruled_out = [item.nodes for item in diagnosis.ruled_out if item.constraint is not Constraint.LICENSES]
    assert all(0 < count <= len(nodes) for count in ruled_out)
    assert max(ruled_out, default=0) <= len(nodes) - diagnosis.nodes_fitting_now <= sum(ruled_out)
