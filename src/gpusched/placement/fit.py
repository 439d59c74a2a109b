"""Which nodes can hold one node of a gang: a mask per constraint, and their conjunctions.

A mask is (N,) bool, True where the constraint is met. Each constraint is judged for itself, so
that ``diagnose`` may say what each rules out: where a node has no device of the model, memory or
profile asked for, or none to share, its number of devices is judged over all it has; where it has
too few of something even empty, that it has too few free is not held against it again. The
conjunction is exact all the same. Everything is O(N) in nodes and O(1) in devices (counts per device
class are columns), but for shares of a GPU, which look at every device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gpusched.domain.diagnosis import Constraint
from gpusched.domain.ids import NodeName
from gpusched.domain.node import WHOLE_MILLI
from gpusched.placement.inventory import BoolColumn, DeviceClass, IntColumn, Inventory
from gpusched.placement.islands import fits_fitted_islands, fits_free_islands
from gpusched.placement.placement import Counts
from gpusched.placement.request import DISK, NodeRequest, is_model_match, whereabouts
from gpusched.placement.snapshot import ClusterSnapshot

_EVERY = slice(None)


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
    if request.counters:
        fits &= has_counters(inventory, request.counters, snapshot.counters_free)
    if request.gpus > 0:
        fits &= (
            roomy_gpus(inventory, request, snapshot.gpus_free_by_class, snapshot.milli_free) >= request.gpus
        )
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
    if request.gpus > 0:
        have = roomy_gpus(inventory, request, inventory.gpus_in_service, inventory.milli_total)
        mask &= have >= request.gpus
    inventory.remember_mask(request, mask)
    return mask


def fit_fitted(inventory: Inventory, request: NodeRequest) -> BoolColumn:
    """Tell which nodes could hold one node of the gang if all were up, open and empty.

    Returns:
        (N,) bool. A gang larger than its sum can never run: it is infeasible.
    """
    return _all(_fitted_masks(inventory, request))


def constraint_masks(snapshot: ClusterSnapshot, request: NodeRequest) -> dict[Constraint, BoolColumn]:
    """Judge every constraint on a node for itself.

    Returns:
        A mask (N,) for each constraint, in the order of ``Constraint``. Their conjunction is ``fit_now``.
    """
    inventory = snapshot.inventory
    masks = _fitted_masks(inventory, request)
    free = roomy_gpus(inventory, request, snapshot.gpus_free_by_class, snapshot.milli_free)
    if kinds := _kind_masks(inventory, request):
        free = np.where(_all(kinds), free, snapshot.gpus_free)
    masks[Constraint.REACHABLE] = inventory.reachable
    masks[Constraint.SCHEDULABLE] = inventory.open
    masks[Constraint.GPUS_FREE] = ~masks[Constraint.GPUS] | (free >= request.gpus)
    masks[Constraint.CPUS_FREE] = ~masks[Constraint.CPUS] | (snapshot.cpus_free >= request.cpus)
    masks[Constraint.SEGMENT_FREE] = ~masks[Constraint.SEGMENT] | fits_free_islands(snapshot, request)
    masks[Constraint.MEMORY_FREE] = ~masks[Constraint.MEMORY] | (snapshot.memory_free >= request.memory_bytes)
    disk, gres = split_counters(request)
    counters = snapshot.counters_free
    masks[Constraint.DISK_FREE] = ~masks[Constraint.DISK] | has_counters(inventory, disk, counters)
    masks[Constraint.GRES_FREE] = ~masks[Constraint.GRES] | has_counters(inventory, gres, counters)
    return {constraint: masks[constraint] for constraint in Constraint if constraint in masks}


def matching_gpus(inventory: Inventory, request: NodeRequest, by_class: IntColumn) -> IntColumn:
    """Count on each node the whole devices that are of the kind asked for.

    Args:
        inventory: Whose classes ``by_class`` counts.
        request: Names model, memory, MIG profile and share.
        by_class: (C, N) devices of each class, wholly free or fitted.

    Returns:
        (N,) devices.
    """
    counts: IntColumn = inventory.matching_classes(request)[:-1] @ by_class
    return counts


def roomy_gpus(
    inventory: Inventory,
    request: NodeRequest,
    by_class: IntColumn,
    milli: IntColumn,
    *,
    nodes: IntColumn | slice = _EVERY,
) -> IntColumn:
    """Count on each node the devices of the kind asked for on which the share asked for is free.

    Args:
        inventory: Whose classes ``by_class`` counts.
        request: Names model, memory, MIG profile and share.
        by_class: (C, M) wholly free devices of each class.
        milli: (M, G) thousandths free of each device. Read for shares only.
        nodes: The M rows that the columns show.

    Returns:
        (M,) devices.
    """
    if request.gpu_milli == WHOLE_MILLI:
        return matching_gpus(inventory, request, by_class)
    suits = inventory.matching_classes(request)[inventory.device_class[nodes]]
    counts: IntColumn = (suits & (milli >= request.gpu_milli)).sum(axis=1)
    return counts


def has_counters(inventory: Inventory, wanted: Counts, amounts: IntColumn) -> BoolColumn:
    """(N,) nodes that have so much of every counter in (K, N) ``amounts``."""
    mask = np.ones(amounts.shape[1], dtype=bool)
    for name, amount in wanted:
        mask &= inventory.amounts_of(name, amounts) >= amount
    return mask


def split_counters(request: NodeRequest) -> tuple[Counts, Counts]:
    """What a request asks of the disk, and what of generic counters."""
    disk = tuple(item for item in request.counters if item[0] == DISK)
    return disk, tuple(item for item in request.counters if item[0] != DISK)


def _fitted_masks(inventory: Inventory, request: NodeRequest) -> dict[Constraint, BoolColumn]:
    everywhere = np.ones(len(inventory.names), dtype=bool)
    kinds = _kind_masks(inventory, request)
    fitted = matching_gpus(inventory, request, inventory.gpus_by_class)
    countable = np.where(_all(kinds), fitted, inventory.gpus_total) if kinds else fitted
    masks = {
        Constraint.PARTITION: inventory.members(request.partition),
        Constraint.NODELIST: _named(inventory, request.nodelist) if request.nodelist else everywhere,
        Constraint.EXCLUDE: ~_named(inventory, request.exclude) if request.exclude else everywhere,
        **dict.fromkeys(_KINDS, everywhere),
        **kinds,
        Constraint.GPUS: countable >= request.gpus,
        Constraint.CPUS: inventory.cpus_total >= request.cpus,
        Constraint.MEMORY: inventory.memory_total >= request.memory_bytes,
        Constraint.DISK: everywhere,
        Constraint.GRES: everywhere,
        Constraint.SEGMENT: everywhere,
    }
    if request.island is not None:
        masks[Constraint.SEGMENT] = fits_fitted_islands(inventory, request)
    if request.counters:
        disk, gres = split_counters(request)
        masks[Constraint.DISK] = has_counters(inventory, disk, inventory.counters_total)
        masks[Constraint.GRES] = has_counters(inventory, gres, inventory.counters_total)
    return masks


def _named(inventory: Inventory, nodes: Sequence[NodeName]) -> BoolColumn:
    mask = np.zeros(len(inventory.names), dtype=bool)
    mask[[inventory.index[name] for name in nodes if name in inventory.index]] = True
    return mask


_KINDS = (Constraint.GPU_MODEL, Constraint.GPU_MEMORY, Constraint.MIG_PROFILE, Constraint.GPU_FRACTION)


def _kind_masks(inventory: Inventory, request: NodeRequest) -> dict[Constraint, BoolColumn]:
    """For each thing asked of a device, which nodes have a device that meets it.

    All of it may be met by two different devices of a node: then none of these masks rules the node
    out, and the number of devices that meet all must.
    """
    model, memory = request.gpu_model, request.gpu_memory_bytes
    kinds: dict[Constraint, Callable[[DeviceClass], bool]] = {}
    if model is not None:
        kinds[Constraint.GPU_MODEL] = lambda known: is_model_match(model, known.model)
    if memory is not None:
        kinds[Constraint.GPU_MEMORY] = lambda known: known.has_memory(memory)
    if request.mig_profile is not None:
        kinds[Constraint.MIG_PROFILE] = lambda known: known.mig_profile == request.mig_profile
    if request.gpu_milli < WHOLE_MILLI:
        kinds[Constraint.GPU_FRACTION] = lambda known: known.shareable
    masks = {}
    for constraint, is_of_kind in kinds.items():
        rows = np.array([is_of_kind(known) for known in inventory.classes], dtype=bool)
        masks[constraint] = inventory.gpus_by_class[rows].sum(axis=0) > 0
    return masks


def _all(masks: Mapping[Constraint, BoolColumn]) -> BoolColumn:
    every: BoolColumn = np.logical_and.reduce(list(masks.values()))
    return every
