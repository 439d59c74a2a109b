"""All the nodes of a gang or none. Cost: O(N) per gang, and O(1) per node of it."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from gpusched.domain.errors import InfeasibleRequest, InsufficientResources
from gpusched.domain.job_spec import JobSpec
from gpusched.placement.describe import counted
from gpusched.placement.devices import choose_cpus, choose_devices
from gpusched.placement.fit import fit_fitted, fit_now
from gpusched.placement.inventory import BoolColumn, IntColumn, Inventory
from gpusched.placement.placement import NodePlacement, Placement
from gpusched.placement.request import NodeRequest, node_request
from gpusched.placement.score import best, pack_score
from gpusched.placement.snapshot import ClusterSnapshot


def fits(snapshot: ClusterSnapshot, spec: JobSpec, *, avoid: BoolColumn | None = None) -> bool:
    """Tell whether ``place`` with the same arguments would find a placement."""
    return len(_candidates(snapshot, node_request(spec), avoid)) >= spec.nodes


def place(snapshot: ClusterSnapshot, spec: JobSpec, *, avoid: BoolColumn | None = None) -> Placement:
    """Choose the nodes, devices and CPUs of a whole gang; the snapshot stays as it is.

    The best-scored nodes win (``score.pack_score``), ties go to the first name: equal inputs give
    equal placements. Whenever enough nodes fit, a placement is found.

    Args:
        snapshot: What is free.
        spec: What is asked for.
        avoid: (N,) nodes not to use, though they may fit.

    Returns:
        ``spec.nodes`` parts, in rank order, which is the order of node names.

    Raises:
        InfeasibleRequest: Fewer than ``spec.nodes`` nodes are large enough, even up and empty.
        InsufficientResources: Enough such nodes exist but too few are up, open and free now.
    """
    request = node_request(spec)
    candidates = _candidates(snapshot, request, avoid)
    if len(candidates) < spec.nodes:
        _refuse(snapshot.inventory, request, spec.nodes, len(candidates))
    chosen = candidates[best(pack_score(snapshot, request, candidates), spec.nodes)]
    return Placement(tuple(_part(snapshot, request, node) for node in chosen.tolist()))


def _candidates(snapshot: ClusterSnapshot, request: NodeRequest, avoid: BoolColumn | None) -> IntColumn:
    mask = fit_now(snapshot, request)
    return np.flatnonzero(mask if avoid is None else mask & ~avoid)


def _part(snapshot: ClusterSnapshot, request: NodeRequest, node: int) -> NodePlacement:
    inventory = snapshot.inventory
    shape = inventory.shapes[node]
    columns: tuple[int, ...] = ()
    if request.gpus > 0:
        matching = inventory.matching_classes(request.gpu_model, request.gpu_memory_bytes)
        free = np.flatnonzero(snapshot.device_free[node] & matching[inventory.device_class[node]])
        columns = choose_devices(shape, tuple(free.tolist()), request.gpus)
    near = tuple(shape.near_cpus[column] for column in columns)
    return NodePlacement(
        node=inventory.names[node],
        devices=tuple(inventory.uuids[node][column] for column in columns),
        cpu_ids=choose_cpus(snapshot.cpu_bits_free[node], near, shape.numa_cpus, request.cpus),
        memory_bytes=request.memory_bytes,
    )


def _refuse(inventory: Inventory, request: NodeRequest, nodes: int, fitting: int) -> NoReturn:
    large_enough = int(np.count_nonzero(fit_fitted(inventory, request)))
    if large_enough < nodes:
        raise InfeasibleRequest(
            f"job wants {counted(nodes, 'node')}; {large_enough} would be large enough if empty: ask for less"
        )
    raise InsufficientResources(
        f"job wants {counted(nodes, 'node')}; {fitting} of {large_enough} large enough can give it now: wait"
    )
