"""All the nodes of a gang or none. Cost: O(N) per gang, and O(1) per node of it."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from gpusched.domain.errors import InsufficientResources, Rejected
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import WHOLE_MILLI
from gpusched.placement.describe import counted
from gpusched.placement.devices import choose_cpus, choose_devices
from gpusched.placement.domains import Shortfall
from gpusched.placement.fit import fit_empty, fit_fitted, fit_now
from gpusched.placement.inventory import BoolColumn, IntColumn, Inventory
from gpusched.placement.placement import NodePlacement, Placement
from gpusched.placement.request import NodeRequest, node_request
from gpusched.placement.score import best, node_keys
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.placement.topology import check_room, choose_nodes, gang_ask, leaf_key, wishes_in_words
from gpusched.placement.tree import in_rank_order, ring_cost


def fits(snapshot: ClusterSnapshot, spec: JobSpec, *, avoid: BoolColumn | None = None) -> bool:
    """Tell whether ``place`` with the same arguments would find a placement."""
    return _has_room(snapshot, spec, _candidates(snapshot, node_request(spec), avoid))


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
    """Tell whether the nodes that accept work could hold the gang if nothing ran."""
    candidates = np.flatnonzero(fit_empty(snapshot.inventory, node_request(spec)))
    return _has_room(snapshot, spec, candidates)


def place(snapshot: ClusterSnapshot, spec: JobSpec, *, avoid: BoolColumn | None = None) -> Placement:
    """Choose the nodes, devices and CPUs of a whole gang; the snapshot stays as it is.

    The best-scored nodes win (``score.node_keys``), ties go to the first name: equal inputs give
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
        InsufficientResources: Enough such nodes exist but too few are up, open and free now.
        InvalidSpec: The job's segments can't be kept whatever is free.
    """
    request = node_request(spec)
    candidates = _candidates(snapshot, request, avoid)
    chosen: IntColumn | Shortfall = Shortfall(len(candidates), spec.nodes)
    if len(candidates) >= spec.nodes:
        chosen = _choose(snapshot, spec, candidates)
    if isinstance(chosen, Shortfall):
        _refuse(snapshot.inventory, spec, len(candidates))
    ordered = in_rank_order(snapshot.inventory.tree, chosen).tolist()
    return Placement(
        tuple(_part(snapshot, request, node) for node in ordered),
        ring_cost(snapshot.inventory.tree, ordered),
    )


def _candidates(snapshot: ClusterSnapshot, request: NodeRequest, avoid: BoolColumn | None) -> IntColumn:
    mask = fit_now(snapshot, request)
    return np.flatnonzero(mask if avoid is None else mask & ~avoid)


def _choose(snapshot: ClusterSnapshot, spec: JobSpec, candidates: IntColumn) -> IntColumn | Shortfall:
    tree = snapshot.inventory.tree
    keys = node_keys(snapshot, node_request(spec), candidates)
    if tree.levels:
        is_idle = snapshot.gpus_free == snapshot.inventory.gpus_total
        keys.append(leaf_key(tree, is_idle, candidates))
    ask = gang_ask(tree, spec)
    if ask is None:
        return candidates[best(keys, spec.nodes)]
    return choose_nodes(tree, ask, candidates, keys)


def _part(snapshot: ClusterSnapshot, request: NodeRequest, node: int) -> NodePlacement:
    inventory = snapshot.inventory
    shape = inventory.shapes[node]
    columns: tuple[int, ...] = ()
    if request.gpus > 0:
        matching = inventory.matching_classes(request.gpu_model, request.gpu_memory_bytes)
        is_free = snapshot.milli_free[node] == WHOLE_MILLI
        free = np.flatnonzero(is_free & matching[inventory.device_class[node]])
        columns = choose_devices(shape, tuple(free.tolist()), request.gpus)
    near = tuple(shape.near_cpus[column] for column in columns)
    return NodePlacement(
        node=inventory.names[node],
        devices=tuple(inventory.uuids[node][column] for column in columns),
        cpu_ids=choose_cpus(snapshot.cpu_bits_free[node], near, shape.numa_cpus, request.cpus),
        memory_bytes=request.memory_bytes,
    )


def _refuse(inventory: Inventory, spec: JobSpec, fitting: int) -> NoReturn:
    check_room(inventory, spec)
    large_enough = int(np.count_nonzero(fit_fitted(inventory, node_request(spec))))
    wants = f"job wants {counted(spec.nodes, 'node')}"
    if fitting >= spec.nodes:
        raise InsufficientResources(
            f"{wants} {wishes_in_words(spec)}; {fitting} can give it now, too far apart: wait"
        )
    raise InsufficientResources(f"{wants}; {fitting} of {large_enough} large enough can give it now: wait")
