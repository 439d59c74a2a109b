"""Why a job does not run now: every constraint, what it rules out, and one sentence to act on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from gpusched.domain.diagnosis import Constraint, Diagnosis, RuledOut
from gpusched.domain.errors import InfeasibleRequest
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.job_state import PendingReason
from gpusched.domain.node import WHOLE_MILLI
from gpusched.domain.sharing import isolation_of_job
from gpusched.placement.describe import counted, counter_in_words, in_bytes, in_words, island_in_words
from gpusched.placement.feasible import check_feasible
from gpusched.placement.fit import constraint_masks, fit_empty, fit_now, split_counters
from gpusched.placement.gang import could_fit, fits, say_mixed
from gpusched.placement.inventory import BoolColumn, Inventory
from gpusched.placement.licenses import say_short_licenses
from gpusched.placement.placement import Counts
from gpusched.placement.request import NodeRequest, node_request
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.placement.topology import wishes_in_words

__all__ = ["check_feasible", "diagnose"]

_MODELS_NAMED = 3


def diagnose(snapshot: ClusterSnapshot, spec: JobSpec) -> Diagnosis:
    """Say why ``spec`` would wait if it were next in line now. O(N) per constraint.

    Returns:
        The reason is None if it fits now; NODES_UNAVAILABLE if too few nodes that accept work
        could hold it even when empty; RESOURCES otherwise. Who is ahead of it, and when it may
        start, are not known here and stay None.
    """
    if spec.components:
        return _diagnose_mixed(snapshot, spec)
    inventory = snapshot.inventory
    request = node_request(spec)
    now = int(np.count_nonzero(fit_now(snapshot, request)))
    empty = int(np.count_nonzero(fit_empty(inventory, request)))
    ruled_out = tuple(
        _ruled_out(inventory, request, constraint, ~mask)
        for constraint, mask in constraint_masks(snapshot, request).items()
        if not mask.all()
    )
    if short := say_short_licenses(snapshot, spec):
        every = int(inventory.gpus_total.sum())
        ruled_out += (RuledOut(Constraint.LICENSES, len(inventory.names), every, short),)
    return Diagnosis(
        message=_with_isolation(spec, _message(snapshot, spec, now, empty, ruled_out)),
        reason=_reason(snapshot, spec),
        nodes_wanted=spec.nodes,
        nodes_total=len(inventory.names),
        nodes_fitting_now=now,
        nodes_fitting_empty=empty,
        ruled_out=ruled_out,
    )


def _diagnose_mixed(snapshot: ClusterSnapshot, spec: JobSpec) -> Diagnosis:
    """Diagnose the first component that does not fit alone; else say why they do not fit together."""
    parts = [replace(part, topology_required=None, topology_preferred=None) for part in spec.parts]
    blamed = next((part for part in parts if not fits(snapshot, part)), parts[0])
    message = f"fits now: all {len(parts)} components." if fits(snapshot, spec) else ""
    if not message:
        try:
            check_feasible(snapshot, spec)
            message = f"{say_mixed(snapshot, spec)}. {diagnose(snapshot, blamed).message}"
        except InfeasibleRequest as infeasible:
            message = str(infeasible)
    return replace(
        diagnose(snapshot, blamed),
        message=message if snapshot.names else "the cluster has no nodes yet: start an agent",
        reason=_reason(snapshot, spec),
        nodes_wanted=spec.nodes,
    )


def _reason(snapshot: ClusterSnapshot, spec: JobSpec) -> PendingReason | None:
    if fits(snapshot, spec):
        return None
    return PendingReason.RESOURCES if could_fit(snapshot, spec) else PendingReason.NODES_UNAVAILABLE


def _with_isolation(spec: JobSpec, message: str) -> str:
    isolation = isolation_of_job(spec)
    return message if isolation is None else f"{message} Note: {isolation}."


def _message(
    snapshot: ClusterSnapshot, spec: JobSpec, now: int, empty: int, ruled_out: tuple[RuledOut, ...]
) -> str:
    request = node_request(spec)
    if not snapshot.names:
        return "the cluster has no nodes yet: start an agent"
    if fits(snapshot, spec):
        return f"fits now: {counted(now, 'node')} could hold it, it needs {spec.nodes}."
    try:
        check_feasible(snapshot, spec)
    except InfeasibleRequest as infeasible:
        return str(infeasible)
    if now >= spec.nodes and (short := say_short_licenses(snapshot, spec)):
        return f"{short}."
    if now >= spec.nodes:
        needs = f"needs {counted(spec.nodes, 'node')} {wishes_in_words(spec)}"
        return f"{needs}; {now} could each hold a part of it now, too far apart."
    needs = f"needs {counted(spec.nodes, 'node')} with {in_words(request, adjective='free')}"
    if empty >= spec.nodes:
        state = f"{now} of {empty} {'has' if now == 1 else 'have'} them now"
    else:
        state = f"{empty or 'none'} that could hold it {'is' if empty <= 1 else 'are'} up and open"
    return f"{needs}; {state}. " + " ".join(f"{item.detail}." for item in ruled_out)


def _ruled_out(
    inventory: Inventory, request: NodeRequest, constraint: Constraint, out: BoolColumn
) -> RuledOut:
    return RuledOut(
        constraint=constraint,
        nodes=int(np.count_nonzero(out)),
        gpus=int(inventory.gpus_total[out].sum()),
        detail=_DETAILS[constraint](inventory, request, out),
    )


_Detail = Callable[[Inventory, NodeRequest, BoolColumn], str]


def _nodes(out: BoolColumn) -> str:
    return counted(int(np.count_nonzero(out)), "node")


def _be(out: BoolColumn) -> str:
    return "is" if np.count_nonzero(out) == 1 else "are"


def _have(out: BoolColumn) -> str:
    return "has" if np.count_nonzero(out) == 1 else "have"


def _models(inventory: Inventory, request: NodeRequest, out: BoolColumn) -> str:
    fitted: Counter[str] = Counter()
    for known, row in zip(inventory.classes, inventory.gpus_by_class, strict=True):
        fitted[known.model] += int(np.count_nonzero(row[out] > 0))
    without = int(np.count_nonzero(inventory.gpus_total[out] == 0))
    found = [f"{nodes} {model}" for model, nodes in fitted.most_common(_MODELS_NAMED) if nodes > 0]
    found += [f"{without} no GPU"] if without else []
    return f"{_nodes(out)} {_have(out)} no {request.gpu_model} ({', '.join(found)})"


def _partition(inventory: Inventory, request: NodeRequest, out: BoolColumn) -> str:
    name = request.partition or inventory.default_partition
    return f"{_nodes(out)} {_be(out)} not in partition {name}"


def _gpus(request: NodeRequest) -> str:
    return counted(request.gpus, "GPU" if request.mig_profile is None else f"{request.mig_profile} slice")


def _gpus_free(inventory: Inventory, request: NodeRequest, out: BoolColumn) -> str:
    if request.gpu_milli < WHOLE_MILLI:
        return f"{_nodes(out)} {_have(out)} no such GPU with {request.gpu_milli}/{WHOLE_MILLI} free"
    return f"{_nodes(out)} {_have(out)} fewer than {_gpus(request)} free"


def _fewer(out: BoolColumn, wanted: Counts) -> str:
    words = " and ".join(counter_in_words(name, amount) for name, amount in wanted)
    return f"{_nodes(out)} {_have(out)} less than {words}"


_DETAILS: dict[Constraint, _Detail] = {
    Constraint.PARTITION: _partition,
    Constraint.NODELIST: lambda _, r, out: f"{_nodes(out)} {_be(out)} not in nodelist {','.join(r.nodelist)}",
    Constraint.EXCLUDE: lambda _, r, out: f"{_nodes(out)} {_be(out)} excluded by the job",
    Constraint.REACHABLE: lambda _, r, out: f"{_nodes(out)} {_be(out)} down",
    Constraint.SCHEDULABLE: lambda _, r, out: f"{_nodes(out)} {_be(out)} cordoned or drained",
    Constraint.GPU_MODEL: _models,
    Constraint.GPU_MEMORY: lambda _, r, out: (
        f"{_nodes(out)} {_have(out)} no GPU known to have {in_bytes(r.gpu_memory_bytes or 0)}"
    ),
    Constraint.MIG_PROFILE: lambda _, r, out: f"{_nodes(out)} {_have(out)} no MIG slice {r.mig_profile}",
    Constraint.GPU_FRACTION: lambda _, r, out: f"{_nodes(out)} {_have(out)} no shareable GPU",
    Constraint.GPUS: lambda _, r, out: f"{_nodes(out)} {_have(out)} fewer than {_gpus(r)}",
    Constraint.CPUS: lambda _, r, out: f"{_nodes(out)} {_have(out)} fewer than {counted(r.cpus, 'CPU')}",
    Constraint.MEMORY: lambda _, r, out: f"{_nodes(out)} {_have(out)} less than {in_bytes(r.memory_bytes)}",
    Constraint.DISK: lambda _, r, out: _fewer(out, split_counters(r)[0]),
    Constraint.GRES: lambda _, r, out: _fewer(out, split_counters(r)[1]),
    Constraint.SEGMENT: lambda _, r, out: f"{_nodes(out)} {_have(out)} no room for {island_in_words(r)}",
    Constraint.SEGMENT_FREE: lambda _, r, out: (
        f"{_nodes(out)} {_have(out)} too few free together for {island_in_words(r)}"
    ),
    Constraint.GPUS_FREE: _gpus_free,
    Constraint.CPUS_FREE: lambda _, r, out: (
        f"{_nodes(out)} {_have(out)} fewer than {counted(r.cpus, 'CPU')} free"
    ),
    Constraint.MEMORY_FREE: lambda _, r, out: (
        f"{_nodes(out)} {_have(out)} less than {in_bytes(r.memory_bytes)} free"
    ),
    Constraint.DISK_FREE: lambda _, r, out: _fewer(out, split_counters(r)[0]) + " free",
    Constraint.GRES_FREE: lambda _, r, out: _fewer(out, split_counters(r)[1]) + " free",
}
