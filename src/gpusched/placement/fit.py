"""Which nodes can hold one node of a gang: a mask per constraint, and their conjunctions.

A mask is (N,) bool, True where the constraint is met. Each constraint is judged for itself, so
that ``diagnose`` may say what each rules out: where a node has no device of the model or memory
asked for, its number of devices is judged over all it has; where it has too few of something even
empty, that it has too few free is not held against it again. The conjunction is exact all the
same. Everything is O(N) in nodes, O(1) in devices (counts per device class are columns).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpusched.domain.diagnosis import Constraint
from gpusched.domain.ids import NodeName
from gpusched.placement.inventory import BoolColumn, IntColumn, Inventory
from gpusched.placement.islands import fits_fitted_islands, fits_free_islands
from gpusched.placement.request import NodeRequest, whereabouts
from gpusched.placement.snapshot import ClusterSnapshot


def fit_now(snapshot: ClusterSnapshot, request: NodeRequest) -> BoolColumn:
    """Tell which nodes can hold one node of the gang right now.

    Returns:
        (N,) bool, a new array.
    """
    inventory = snapshot.inventory
    # Free is never more than fitted, so of the fixed columns only those without an amount matter. Jobs
    # differ in amounts far more than in whereabouts: that mask is nearly always remembered.
    fits = fit_empty(inventory, whereabouts(request)) & (snapshot.cpus_free >= request.cpus)
    if request.memory_bytes > 0:
        fits &= snapshot.memory_free >= request.memory_bytes
    if request.gpus > 0:
        fits &= matching_gpus(inventory, request, snapshot.gpus_free_by_class) >= request.gpus
    if request.island is not None:
        fits &= fits_free_islands(snapshot, request)
    return fits


def fit_empty(inventory: Inventory, request: NodeRequest) -> BoolColumn:
    """Tell which nodes that accept work could hold one node of the gang if nothing ran.

    Returns:
        (N,) bool, read-only, remembered for equal requests.
    """
    if (known := inventory.masks.get(request)) is not None:
        return known
    mask = fit_fitted(inventory, request) & inventory.reachable & inventory.open
    inventory.remember_mask(request, mask)
    return mask


def fit_fitted(inventory: Inventory, request: NodeRequest) -> BoolColumn:
    """Tell which nodes could hold one node of the gang if all were up, open and empty.

    Returns:
        (N,) bool. A gang larger than its sum can never run: it is infeasible.
    """
    masks = _fitted_masks(inventory, request)
    every: BoolColumn = np.logical_and.reduce(list(masks.values()))
    return every


def constraint_masks(snapshot: ClusterSnapshot, request: NodeRequest) -> dict[Constraint, BoolColumn]:
    """Judge every constraint for itself.

    Returns:
        A mask (N,) for each constraint, in the order of ``Constraint``. Their conjunction is ``fit_now``.
    """
    inventory = snapshot.inventory
    masks = _fitted_masks(inventory, request)
    free = _countable_gpus(inventory, request, snapshot.gpus_free_by_class)
    masks[Constraint.REACHABLE] = inventory.reachable
    masks[Constraint.SCHEDULABLE] = inventory.open
    masks[Constraint.GPUS_FREE] = ~masks[Constraint.GPUS] | (free >= request.gpus)
    masks[Constraint.CPUS_FREE] = ~masks[Constraint.CPUS] | (snapshot.cpus_free >= request.cpus)
    masks[Constraint.SEGMENT_FREE] = ~masks[Constraint.SEGMENT] | fits_free_islands(snapshot, request)
    masks[Constraint.MEMORY_FREE] = ~masks[Constraint.MEMORY] | (snapshot.memory_free >= request.memory_bytes)
    return {constraint: masks[constraint] for constraint in Constraint}


def matching_gpus(inventory: Inventory, request: NodeRequest, by_class: IntColumn) -> IntColumn:
    """Count on each node the devices that have both the model and the memory asked for.

    Args:
        inventory: Whose classes ``by_class`` counts.
        request: Names the model and the memory.
        by_class: (C, N) devices of each class, free or fitted.

    Returns:
        (N,) devices.
    """
    matching = inventory.matching_classes(request.gpu_model, request.gpu_memory_bytes)[:-1]
    counts: IntColumn = by_class[matching].sum(axis=0)
    return counts


def _fitted_masks(inventory: Inventory, request: NodeRequest) -> dict[Constraint, BoolColumn]:
    everywhere = np.ones(len(inventory.names), dtype=bool)
    named = _named(inventory, request.nodelist)
    return {
        Constraint.PARTITION: inventory.members(request.partition),
        Constraint.NODELIST: named if request.nodelist else everywhere,
        Constraint.EXCLUDE: ~_named(inventory, request.exclude),
        Constraint.GPU_MODEL: _has_class(inventory, request.gpu_model, None),
        Constraint.GPU_MEMORY: _has_class(inventory, None, request.gpu_memory_bytes),
        Constraint.GPUS: _countable_gpus(inventory, request, inventory.gpus_by_class) >= request.gpus,
        Constraint.CPUS: inventory.cpus_total >= request.cpus,
        Constraint.MEMORY: inventory.memory_total >= request.memory_bytes,
        Constraint.SEGMENT: fits_fitted_islands(inventory, request),
    }


def _named(inventory: Inventory, nodes: Sequence[NodeName]) -> BoolColumn:
    mask = np.zeros(len(inventory.names), dtype=bool)
    mask[[inventory.index[name] for name in nodes if name in inventory.index]] = True
    return mask


def _has_class(inventory: Inventory, model: str | None, memory_bytes: int | None) -> BoolColumn:
    if model is None and memory_bytes is None:
        return np.ones(len(inventory.names), dtype=bool)
    matching = inventory.matching_classes(model, memory_bytes)[:-1]
    has: BoolColumn = inventory.gpus_by_class[matching].sum(axis=0) > 0
    return has


def _countable_gpus(inventory: Inventory, request: NodeRequest, by_class: IntColumn) -> IntColumn:
    # Model and memory may be met by two different devices of a node: then neither of their masks
    # rules it out, and the number of devices that have both must.
    both = _has_class(inventory, request.gpu_model, None) & _has_class(
        inventory, None, request.gpu_memory_bytes
    )
    return np.where(both, matching_gpus(inventory, request, by_class), by_class.sum(axis=0))
