"""All the nodes of a gang or none. Cost: O(N) per gang, and O(1) per node of it."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from gpusched.domain.errors import InfeasibleRequest, InsufficientResources, Rejected
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import WHOLE_MILLI
from gpusched.placement.describe import counted
from gpusched.placement.devices import choose_cpus, choose_devices
from gpusched.placement.domains import Shortfall
from gpusched.placement.fit import fit_empty, fit_fitted, fit_now
from gpusched.placement.inventory import BoolColumn, IntColumn, Inventory
from gpusched.placement.islands import choose_in_islands, wanted_island
from gpusched.placement.licenses import check_licenses, say_short_licenses
from gpusched.placement.mixed import can_match, domains_to_try, match
from gpusched.placement.placement import NodePlacement, Placement
from gpusched.placement.request import NodeRequest, node_request
from gpusched.placement.score import best
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.placement.topology import (
    check_room,
    choose_nodes,
    gang_ask,
    leaf_key,
    level_of,
    wishes_in_words,
)
from gpusched.placement.tree import in_rank_order, ring_cost


def fits(snapshot: ClusterSnapshot, spec: JobSpec, *, avoid: BoolColumn | None = None) -> bool:
    """Tell whether ``place`` with the same arguments would find a placement."""
    if spec.components:
        return snapshot.has_licenses(spec.licenses) and _can_mix(
            snapshot.inventory, spec, _suits_now(snapshot, spec, avoid)
        )
    return snapshot.has_licenses(spec.licenses) and _has_room(
        snapshot, spec, _candidates(snapshot, node_request(spec), avoid)
    )


def _has_room(snapshot: ClusterSnapshot, spec: JobSpec, candidates: IntColumn) -> bool:
    if len(candidates) < spec.nodes:
        return False
    if not spec.has_topology_wishes:
        return True
    try:
        return not isinstance(_choose(snapshot, spec, candidates), Shortfall)
    except Rejected:
        return False


def could_fit(snapshot: ClusterSnapshot, spec: JobSpec) -> bool:
    """Tell whether the nodes that accept work, and the licences, could hold the gang if nothing ran."""
    totals = snapshot.inventory.licenses
    if any(totals.get(name, 0) < count for name, count in spec.licenses):
        return False
    if spec.components:
        suits = [fit_empty(snapshot.inventory, node_request(part)) for part in spec.parts]
        return _can_mix(snapshot.inventory, spec, suits)
    candidates = np.flatnonzero(fit_empty(snapshot.inventory, node_request(spec)))
    return _has_room(snapshot, spec, candidates)


def place(snapshot: ClusterSnapshot, spec: JobSpec, *, avoid: BoolColumn | None = None) -> Placement:
    """Choose the nodes, devices and CPUs of a whole gang; the snapshot stays as it is.

    The best-scored nodes win (``packing.Packing``), ties go to the first name: equal inputs give
    equal placements. Whenever enough nodes fit, a placement is found. What a job wishes of the
    topology goes before the score (``topology.choose_nodes``).

    Args:
        snapshot: What is free.
        spec: What is asked for.
        avoid: (N,) nodes not to use, though they may fit.

    Returns:
        ``spec.nodes`` parts, in rank order: near each other in the topology, then by name.

    Raises:
        InfeasibleRequest: Fewer than ``spec.nodes`` nodes are large enough, even up and empty, or too
            few of them where the job wishes them to be.
        InsufficientResources: Enough such nodes exist but too few are up, open and free now, or too few
            licences are.
        InvalidSpec: The job's segments can't be kept whatever is free.
    """
    placement = find(snapshot, spec, avoid=avoid)
    if placement is None:
        _refuse(snapshot, spec, len(_candidates(snapshot, node_request(spec), avoid)))
    return placement


def find(snapshot: ClusterSnapshot, spec: JobSpec, *, avoid: BoolColumn | None = None) -> Placement | None:
    """Choose as ``place`` does; None, without looking for words, if it does not fit now.

    Raises:
        InvalidSpec: The job's segments can't be kept whatever is free.
    """
    if spec.components:
        return _place_mixed(snapshot, spec, avoid)
    request = node_request(spec)
    candidates = _candidates(snapshot, request, avoid)
    if len(candidates) < spec.nodes or not snapshot.has_licenses(spec.licenses):
        return None
    chosen = _choose(snapshot, spec, candidates)
    if isinstance(chosen, Shortfall):
        return None
    ordered = in_rank_order(snapshot.inventory.tree, chosen).tolist()
    return Placement(
        tuple(_part(snapshot, request, node) for node in ordered),
        ring_cost(snapshot.inventory.tree, ordered),
        spec.licenses,
    )


def _suits_now(snapshot: ClusterSnapshot, spec: JobSpec, avoid: BoolColumn | None) -> list[BoolColumn]:
    masks = [fit_now(snapshot, node_request(part)) for part in spec.parts]
    return masks if avoid is None else [mask & ~avoid for mask in masks]


def _can_mix(inventory: Inventory, spec: JobSpec, suits: list[BoolColumn]) -> bool:
    try:
        return _mixing_domain(inventory, spec, suits) is not None
    except Rejected:
        return False


def _mixing_domain(inventory: Inventory, spec: JobSpec, suits: list[BoolColumn]) -> BoolColumn | None:
    """(N,) the nearest nodes among which every component finds its own; None if there are none."""
    tree, wanted = inventory.tree, [part.nodes for part in spec.components]
    required, preferred = (level_of(tree, name) for name in (spec.topology_required, spec.topology_preferred))
    for inside in domains_to_try(tree, required, preferred, np.logical_or.reduce(suits)):
        if can_match([mask & inside for mask in suits], wanted):
            return inside
    return None


def _place_mixed(snapshot: ClusterSnapshot, spec: JobSpec, avoid: BoolColumn | None) -> Placement | None:
    suits, tree = _suits_now(snapshot, spec, avoid), snapshot.inventory.tree
    inside = _mixing_domain(snapshot.inventory, spec, suits)
    if inside is None or not snapshot.has_licenses(spec.licenses):
        return None
    requests, ranked = [node_request(part) for part in spec.parts], []
    for request, mask in zip(requests, suits, strict=True):
        rows = np.flatnonzero(mask & inside)
        keys = _keys(snapshot, request, rows)
        ranked.append(rows[np.lexsort([-key for key in reversed(keys)])])
    chosen = match([mask & inside for mask in suits], [part.nodes for part in spec.components], ranked)
    assert chosen is not None, "the domain was chosen for having room"
    ordered = [in_rank_order(tree, rows).tolist() for rows in chosen]
    parts = tuple(
        _part(snapshot, request, row) for request, rows in zip(requests, ordered, strict=True) for row in rows
    )
    return Placement(parts, ring_cost(tree, [row for rows in ordered for row in rows]), spec.licenses)


def place_part(snapshot: ClusterSnapshot, request: NodeRequest) -> tuple[int, tuple[int, ...]] | None:
    """Choose the node and the devices of one part, as ``place`` does for a job of one node without wishes.

    Returns:
        Its row and its device columns; None if no node can hold it now.
    """
    candidates = _candidates(snapshot, request, None)
    if not len(candidates):
        return None
    node = int(candidates[best(_keys(snapshot, request, candidates), 1)[0]])
    return node, _devices(snapshot, request, node)


def _candidates(snapshot: ClusterSnapshot, request: NodeRequest, avoid: BoolColumn | None) -> IntColumn:
    mask = fit_now(snapshot, request)
    return np.flatnonzero(mask if avoid is None else mask & ~avoid)


def _choose(snapshot: ClusterSnapshot, spec: JobSpec, candidates: IntColumn) -> IntColumn | Shortfall:
    tree = snapshot.inventory.tree
    keys = _keys(snapshot, node_request(spec), candidates)
    ask = gang_ask(tree, spec)
    if ask is None:
        return candidates[best(keys, spec.nodes)]
    return choose_nodes(tree, ask, candidates, keys)


def _keys(snapshot: ClusterSnapshot, request: NodeRequest, candidates: IntColumn) -> list[IntColumn]:
    """By what nodes are chosen, in order of weight: each (M,), higher is better."""
    tree = snapshot.inventory.tree
    keys = [snapshot.scores.of(snapshot, request, candidates)]
    if tree.levels:
        is_idle = snapshot.gpus_free == snapshot.inventory.gpus_total
        keys.append(leaf_key(tree, is_idle, candidates))
    if snapshot.inventory.faults.any():  # of nodes that are equal otherwise, what failed least
        keys.append(-snapshot.inventory.faults[candidates])
    return keys


def _part(snapshot: ClusterSnapshot, request: NodeRequest, node: int) -> NodePlacement:
    inventory = snapshot.inventory
    shape = inventory.shapes[node]
    columns = _devices(snapshot, request, node)
    near = tuple(shape.near_cpus[column] for column in columns)
    return NodePlacement(
        node=inventory.names[node],
        devices=tuple(inventory.uuids[node][column] for column in columns),
        cpu_ids=choose_cpus(snapshot.cpu_bits_free[node], near, shape.numa_cpus, request.cpus),
        memory_bytes=request.memory_bytes,
        gpu_milli=request.gpu_milli,
        counters=request.counters,
    )


def _devices(snapshot: ClusterSnapshot, request: NodeRequest, node: int) -> tuple[int, ...]:
    if request.gpus == 0:
        return ()
    if request.is_part:
        return (snapshot.scores.device(snapshot, request, node),)
    inventory, milli = snapshot.inventory, snapshot.milli_free[node]
    classes = inventory.device_class[node]
    suits = inventory.matching_classes(request)[classes] & (milli == WHOLE_MILLI)
    island = wanted_island(inventory, request)
    if island is not None:
        free = tuple(np.flatnonzero(suits).tolist())
        return choose_in_islands(inventory.shapes[node], free, request.gpus, island)
    unshared = suits & ~inventory.shareable_classes[classes]
    if np.count_nonzero(unshared) >= request.gpus:  # leave what can be shared to those who share
        suits = unshared
    return choose_devices(inventory.shapes[node], tuple(np.flatnonzero(suits).tolist()), request.gpus)


def _refuse(snapshot: ClusterSnapshot, spec: JobSpec, fitting: int) -> NoReturn:
    inventory = snapshot.inventory
    if spec.components:
        _refuse_mixed(snapshot, spec)
    check_room(inventory, spec)
    check_licenses(inventory, spec)
    if short := say_short_licenses(snapshot, spec):
        raise InsufficientResources(f"{short}: wait")
    large_enough = int(np.count_nonzero(fit_fitted(inventory, node_request(spec))))
    wants = f"job wants {counted(spec.nodes, 'node')}"
    if fitting >= spec.nodes:
        raise InsufficientResources(
            f"{wants} {wishes_in_words(spec)}; {fitting} can give it now, too far apart: wait"
        )
    raise InsufficientResources(f"{wants}; {fitting} of {large_enough} large enough can give it now: wait")


def check_mixed(inventory: Inventory, spec: JobSpec) -> None:
    """Accept a gang of unlike components that would find its nodes if all were up, open and empty.

    Raises:
        InfeasibleRequest: It would not.
    """
    suits = [fit_fitted(inventory, node_request(part)) for part in spec.parts]
    if _mixing_domain(inventory, spec, suits) is None:
        raise InfeasibleRequest(
            f"job wants {counted(spec.nodes, 'node')} for its components, {wishes_in_words(spec)}; each "
            "component could have its own, but not all beside each other: ask for less"
        )


def _refuse_mixed(snapshot: ClusterSnapshot, spec: JobSpec) -> NoReturn:
    check_mixed(snapshot.inventory, spec)
    check_licenses(snapshot.inventory, spec)
    raise InsufficientResources(f"{say_mixed(snapshot, spec)}: wait")


def say_mixed(snapshot: ClusterSnapshot, spec: JobSpec) -> str:
    """Name the components of a gang that do not fit now, or say that they do not fit together."""
    short = [
        f"component {component.name} needs {counted(part.nodes, 'node')}; {fitting} could take a part now"
        for component, part in zip(spec.components, spec.parts, strict=True)
        if (fitting := int(np.count_nonzero(fit_now(snapshot, node_request(part))))) < part.nodes
    ]
    return (
        "; ".join(short)
        or say_short_licenses(snapshot, spec)
        or (f"each component fits now, but not all of them {wishes_in_words(spec)} on nodes of their own")
    )
