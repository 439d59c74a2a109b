"""Whether a job could run at all, and if not, the largest that could: found by asking again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from gpusched.domain.errors import InfeasibleRequest
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import WHOLE_MILLI
from gpusched.placement.describe import (
    counted,
    counter_in_words,
    gpus_in_words,
    in_bytes,
    in_words,
    island_in_words,
)
from gpusched.placement.fit import fit_empty, fit_fitted
from gpusched.placement.gang import check_mixed
from gpusched.placement.inventory import Inventory
from gpusched.placement.islands import largest_island
from gpusched.placement.licenses import check_licenses
from gpusched.placement.request import DISK, NodeRequest, is_model_match, node_request, whereabouts
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.placement.topology import check_room


def check_feasible(snapshot: ClusterSnapshot, spec: JobSpec) -> None:
    """Accept whatever could run if every node were up, open and empty.

    A cluster without nodes accepts everything: they may be about to join.

    Raises:
        InfeasibleRequest: It could not; names what is too much and the largest that could run.
        InvalidSpec: Its segments can't be kept on this cluster's topology.
    """
    inventory = snapshot.inventory
    request = node_request(spec)
    if not inventory.names:
        return
    if spec.components:
        _check_components(snapshot, spec)
        return
    # Those that are up and open are remembered for equal requests, and usually enough already.
    if np.count_nonzero(fit_empty(inventory, request)) < spec.nodes:
        large_enough = _fitting(inventory, request)
        if large_enough < spec.nodes:
            raise InfeasibleRequest(_say(inventory, request, spec.nodes, large_enough))
    check_licenses(inventory, spec)
    if spec.has_topology_wishes:
        check_room(inventory, spec)


def _check_components(snapshot: ClusterSnapshot, spec: JobSpec) -> None:
    for component, part in zip(spec.components, spec.parts, strict=True):
        try:
            check_feasible(snapshot, replace(part, topology_required=None, topology_preferred=None))
        except InfeasibleRequest as refused:
            raise InfeasibleRequest(f"component {component.name}: {refused}") from refused
    check_mixed(snapshot.inventory, spec)


def _fitting(inventory: Inventory, request: NodeRequest) -> int:
    return int(np.count_nonzero(fit_fitted(inventory, request)))


def _say(inventory: Inventory, request: NodeRequest, nodes: int, large_enough: int) -> str:
    where = f"partition {request.partition or inventory.default_partition}"
    such = f"{large_enough or 'none'} such"
    if request.partition is not None and request.partition not in inventory.partitions:
        return f"there is no {where}: ask for one of {', '.join(inventory.partitions)}"
    anything = replace(whereabouts(request), gpu_model=None, gpu_memory_bytes=None, mig_profile=None)
    pool = _fitting(inventory, anything)
    if request.nodelist or request.exclude:
        where += " within nodelist and exclude"
    if pool == 0:
        return f"{where} has no nodes: ask for another partition or other nodes"
    if pool < nodes:
        return f"job wants {counted(nodes, 'node')}; {where} has {pool}: ask for nodes ≤ {pool}"
    return (
        _say_model(inventory, replace(anything, gpu_model=request.gpu_model), where)
        or _say_island(inventory, request, nodes, where)
        or _say_profile(inventory, replace(anything, mig_profile=request.mig_profile), where)
        or _say_share(inventory, replace(anything, gpu_milli=request.gpu_milli), where)
        or _say_counter(inventory, request, anything, where)
        or _say_lower(inventory, request, anything, nodes, where)
        or f"job wants {counted(nodes, 'node')} with {in_words(request)}; {where} has {such}: "
        + (f"ask for nodes ≤ {large_enough}" if large_enough else "ask for less of more than one of these")
    )


def _say_model(inventory: Inventory, request: NodeRequest, where: str) -> str | None:
    if request.gpu_model is None or _fitting(inventory, request):
        return None
    pool = fit_fitted(inventory, replace(request, gpu_model=None))
    models = {
        known.model
        for known, row in zip(inventory.classes, inventory.gpus_by_class, strict=True)
        if row[pool].any() and not is_model_match(request.gpu_model, known.model)
    }
    has = f"it has {', '.join(sorted(models))}: ask for one of these" if models else "it has no GPUs at all"
    return f"job wants GPUs of model {request.gpu_model}; no node of {where} has one: {has}"


def _say_island(inventory: Inventory, request: NodeRequest, nodes: int, where: str) -> str | None:
    if request.island is None or _fitting(inventory, replace(request, island=None)) < nodes:
        return None
    most, level = largest_island(inventory, request), request.island.level
    return (
        f"job wants {island_in_words(request)} on each node; the largest {level} of a node of {where} has "
        f"{counted(most, 'GPU')}: ask for smaller segments, or for none"
    )


def _say_profile(inventory: Inventory, request: NodeRequest, where: str) -> str | None:
    if request.mig_profile is None or _fitting(inventory, request):
        return None
    pool = fit_fitted(inventory, replace(request, mig_profile=None))
    profiles = {
        known.mig_profile
        for known, row in zip(inventory.classes, inventory.gpus_by_class, strict=True)
        if row[pool].any() and known.mig_profile is not None
    }
    has = f"it has {', '.join(sorted(profiles))}: ask for one of these" if profiles else "it has none at all"
    return f"job wants MIG slices {request.mig_profile}; no node of {where} has one: {has}"


def _say_share(inventory: Inventory, request: NodeRequest, where: str) -> str | None:
    if request.gpu_milli == WHOLE_MILLI or _fitting(inventory, request):
        return None
    return (
        f"job wants {request.gpu_milli}/{WHOLE_MILLI} of a GPU; no node of {where} has a shareable one: "
        "ask for whole GPUs, or have an agent started with --shareable"
    )


def _say_counter(inventory: Inventory, request: NodeRequest, anything: NodeRequest, where: str) -> str | None:
    for name, amount in request.counters:
        if not _fitting(inventory, replace(anything, counters=((name, 1),))):
            wants = counter_in_words(name, amount)
            return f"job wants {wants}; no node of {where} has any: leave {_field_of(name)} out"
    return None


def _field_of(counter: str) -> str:
    return "tmp" if counter == DISK else counter


def _say_lower(
    inventory: Inventory, request: NodeRequest, anything: NodeRequest, nodes: int, where: str
) -> str | None:
    """Try to lower one quantity alone until the gang fits; the first that helps is the remedy."""
    on, others = ("one node", "more nodes") if nodes == 1 else (f"each of {nodes} nodes", "fewer nodes")
    for quantity in (*_QUANTITIES, *(_of_counter(name) for name, _ in request.counters)):
        most = _largest(inventory, request, nodes, quantity)
        if most is None or most == 0:
            continue
        alone = quantity.change(anything, quantity.read(request))
        suitable = "" if _largest(inventory, alone, nodes, quantity) == most else "suitable "
        found = f"the largest {suitable}node of {where} has"
        if nodes > 1:
            found = f"{nodes} {suitable}nodes of {where} have at most"
        return (
            f"job wants {quantity.say(request)} on {on}; {found} {quantity.unit(most)}: "
            f"ask for {quantity.field} ≤ {quantity.unit(most)}"
            + (f" or {others}" if quantity.is_spread_by_nodes else "")
        )
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Quantity:
    """A number of a request that could be lowered."""

    field: str  # as a job file calls it
    read: Callable[[NodeRequest], int]
    change: Callable[[NodeRequest, int], NodeRequest]
    say: Callable[[NodeRequest], str]
    unit: Callable[[int], str]
    is_spread_by_nodes: bool = True  # with another number of nodes, less of it is needed on each


_QUANTITIES = (
    _Quantity(
        field="gpus_per_node",
        read=lambda request: request.gpus,
        change=lambda request, value: replace(request, gpus=value),
        say=lambda request: gpus_in_words(request, request.gpus),
        unit=str,
    ),
    _Quantity(
        field="tasks_per_node x cpus_per_task",
        read=lambda request: request.cpus,
        change=lambda request, value: replace(request, cpus=value),
        say=lambda request: counted(request.cpus, "CPU"),
        unit=str,
    ),
    _Quantity(
        field="mem",
        read=lambda request: request.memory_bytes,
        change=lambda request, value: replace(request, memory_bytes=value),
        say=lambda request: f"{in_bytes(request.memory_bytes)} of memory",
        unit=in_bytes,
    ),
    _Quantity(
        field="gpu_mem",
        read=lambda request: request.gpu_memory_bytes or 0,
        change=lambda request, value: replace(request, gpu_memory_bytes=value),
        say=lambda request: f"GPUs of ≥ {in_bytes(request.gpu_memory_bytes or 0)}",
        unit=in_bytes,
        is_spread_by_nodes=False,
    ),
)


def _of_counter(name: str) -> _Quantity:
    def change(request: NodeRequest, value: int) -> NodeRequest:
        counters = {**dict(request.counters), name: value}
        return replace(request, counters=tuple(sorted(item for item in counters.items() if item[1] > 0)))

    return _Quantity(
        field=_field_of(name),
        read=lambda request: dict(request.counters).get(name, 0),
        change=change,
        say=lambda request: counter_in_words(name, dict(request.counters)[name]),
        unit=in_bytes if name == DISK else str,
    )


def _largest(inventory: Inventory, request: NodeRequest, nodes: int, quantity: _Quantity) -> int | None:
    """The largest value below what is asked for with which the gang fits; None if even 0 does not.

    Bisection: O(N log asked).
    """
    enough, too_much = -1, quantity.read(request)
    while too_much - enough > 1:
        middle = (enough + too_much) // 2
        if _fitting(inventory, quantity.change(request, middle)) >= nodes:
            enough = middle
        else:
            too_much = middle
    return enough if enough >= 0 else None
