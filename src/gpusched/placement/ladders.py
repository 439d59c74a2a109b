"""What a job could ask less of: a ladder per field, on which each rung asks for less than the one before.

``relax`` climbs them. A new field of a JobSpec that can keep a job waiting gets its ladder here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import gcd

import numpy as np

from gpusched.domain.diagnosis import FieldChange
from gpusched.domain.job_spec import JobSpec, Segment
from gpusched.domain.node import WHOLE_MILLI
from gpusched.placement.describe import counted, in_bytes, in_time
from gpusched.placement.fit import fit_now
from gpusched.placement.placement import Counts
from gpusched.placement.request import DISK, GRES_PREFIX, is_model_match, node_request
from gpusched.placement.snapshot import ClusterSnapshot

ANY_LIMIT_S = 365 * 86_400
"""Offered as a time limit where any will do."""

_MIB = 1 << 20
_MINUTE_S = 60
_MODELS_NAMED = 3


@dataclass(frozen=True, slots=True)
class Rung:
    """A hypothetical request, in words and as what to write in the job file."""

    spec: JobSpec
    text: str
    changes: tuple[FieldChange, ...]


@dataclass(frozen=True, slots=True)
class Ladder:
    """``size`` rungs, the nearest to what was asked first; each is made when it is looked at."""

    size: int
    rung: Callable[[int], Rung]


MakeLadder = Callable[[ClusterSnapshot, JobSpec], Ladder]
"""Makes the ladder of one field for any request: a pair climbs one ladder from a rung of another."""


def every_ladder(snapshot: ClusterSnapshot, time_limit_max_s: int | None) -> tuple[MakeLadder, ...]:
    """One per field, those first that change least of what the job computes.

    Args:
        snapshot: Names the partitions.
        time_limit_max_s: With a time limit up to this the job would end before the head starts; None where
            that is not what it waits for.
    """
    partitions = tuple(map(_partition, snapshot.inventory.partitions))
    early = _exclude, _time_limit(time_limit_max_s), _nodelist
    gres = tuple(_gres(name) for name in snapshot.inventory.counters if name.startswith(GRES_PREFIX))
    late = _topology_required, _segment, _shape, _memory, _disk, _cpus, _licenses
    last = _gpu_memory, _gpu_model, _gpu_share, _gpus, _nodes
    return (*early, *partitions, *late, *gres, *last)


def _of(rungs: Iterable[Rung]) -> Ladder:
    known = tuple(rungs)
    return Ladder(len(known), known.__getitem__)


_NOTHING = _of(())


def _exclude(snapshot: ClusterSnapshot, spec: JobSpec) -> Ladder:
    """Leave out one more name of a node that could take a part, in the order given."""
    if not spec.exclude:
        return _NOTHING
    fitting = fit_now(snapshot, node_request(replace(spec, exclude=())))
    useful = [name for name in spec.exclude if name in snapshot.index and fitting[snapshot.index[name]]]

    def rung(at: int) -> Rung:
        without = useful[: at + 1]
        kept = tuple(name for name in spec.exclude if name not in without)
        change = FieldChange("exclude", ",".join(kept) or None)
        return Rung(replace(spec, exclude=kept), f"without exclude {','.join(without)}", (change,))

    return Ladder(len(useful), rung)


def _time_limit(most_s: int | None) -> MakeLadder:
    def ladder(_: ClusterSnapshot, spec: JobSpec) -> Ladder:
        if most_s is None or most_s < 1 or (spec.time_limit_s is not None and spec.time_limit_s <= most_s):
            return _NOTHING
        whole_s = most_s - most_s % _MINUTE_S or most_s
        limit = in_time(whole_s)
        text = f"time_limit ≤ {limit}, so that it ends before the head starts (backfill)"
        if whole_s == ANY_LIMIT_S:
            text = "any time_limit: the head waits for jobs that have none"
        return _of([Rung(replace(spec, time_limit_s=whole_s), text, (FieldChange("time_limit", limit),))])

    return ladder


def _nodelist(_: ClusterSnapshot, spec: JobSpec) -> Ladder:
    if not spec.nodelist:
        return _NOTHING
    return _of([Rung(replace(spec, nodelist=()), "without nodelist", (FieldChange("nodelist", None),))])


def _partition(name: str) -> MakeLadder:
    """Climb to one partition; each has a ladder of its own, as none is nearer than another."""

    def ladder(snapshot: ClusterSnapshot, spec: JobSpec) -> Ladder:
        if name == (spec.partition or snapshot.inventory.default_partition):
            return _NOTHING
        change = FieldChange("partition", name)
        return _of([Rung(replace(spec, partition=name), f"partition {name}", (change,))])

    return ladder


def _topology_required(snapshot: ClusterSnapshot, spec: JobSpec) -> Ladder:
    level, levels = spec.topology_required, snapshot.inventory.tree.levels
    if level is None:
        return _NOTHING
    wider = list(levels[: levels.index(level)]) if level in levels else []

    def rung(at: int) -> Rung:
        name = ([*wider[::-1], None])[at]
        text = f"topology_required={level}"
        text = f"without {text}" if name is None else f"topology_required={name} instead of {level}"
        return Rung(replace(spec, topology_required=name), text, (FieldChange("topology_required", name),))

    return Ladder(len(wider) + 1, rung)


def _segment(snapshot: ClusterSnapshot, spec: JobSpec) -> Ladder:
    segment, levels = spec.segment, snapshot.inventory.tree.levels
    if segment is None:
        return _NOTHING
    widest = levels.index(spec.topology_required) if spec.topology_required in levels else 0
    wider = levels[widest : levels.index(segment.level)] if segment.level in levels else ()
    asked = f"segment {segment.size} within {segment.level}"
    rungs = [
        Rung(
            replace(spec, segment=Segment(segment.size, level)),
            f"segment {segment.size} within {level} instead of {segment.level}",
            (FieldChange("segment", f"{segment.size} within {level}"),),
        )
        for level in reversed(wider)
    ]
    without = Rung(replace(spec, segment=None), f"without {asked}", (FieldChange("segment", None),))
    return _of([*rungs, without])


def _shape(_: ClusterSnapshot, spec: JobSpec) -> Ladder:
    """As many GPUs and ranks in all, with the same share each, on more nodes."""
    shared = gcd(spec.gpus_per_node, spec.tasks_per_node)
    return _of(_on_more_nodes(spec, parts) for parts in range(2, shared + 1) if shared % parts == 0)


def _on_more_nodes(spec: JobSpec, parts: int) -> Rung:
    nodes, gpus, tasks = spec.nodes * parts, spec.gpus_per_node // parts, spec.tasks_per_node // parts
    memory = -(-spec.memory_bytes // parts // _MIB) * _MIB
    changed = replace(spec, nodes=nodes, gpus_per_node=gpus, tasks_per_node=tasks, memory_bytes=memory)
    numbers = {"nodes": nodes, "gpus_per_node": gpus, "tasks_per_node": tasks}
    changes = [FieldChange(field, str(number)) for field, number in numbers.items()]
    if memory:
        changes.append(FieldChange("mem", f"{memory // _MIB}M"))
    asked = f"instead of {spec.nodes} with {spec.gpus_per_node}"
    return Rung(changed, f"{nodes} nodes with {counted(gpus, 'GPU')} each {asked}", tuple(changes))


def _memory(snapshot: ClusterSnapshot, spec: JobSpec) -> Ladder:
    """Lower to what is free on some node, in whole MiB."""
    sizes = _below(np.unique(snapshot.memory_free).tolist(), spec.memory_bytes)

    def rung(at: int) -> Rung:
        text = f"mem {in_bytes(sizes[at])} instead of {in_bytes(spec.memory_bytes)}"
        change = FieldChange("mem", f"{sizes[at] // _MIB}M")
        return Rung(replace(spec, memory_bytes=sizes[at]), text, (change,))

    return Ladder(len(sizes), rung)


def _disk(snapshot: ClusterSnapshot, spec: JobSpec) -> Ladder:
    """Lower to the scratch disk that is free on some node, in whole MiB."""
    free = snapshot.inventory.amounts_of(DISK, snapshot.counters_free)
    sizes = _below(np.unique(free).tolist(), spec.disk_bytes)

    def rung(at: int) -> Rung:
        text = f"tmp {in_bytes(sizes[at])} instead of {in_bytes(spec.disk_bytes)}"
        change = FieldChange("tmp", f"{sizes[at] // _MIB}M")
        return Rung(replace(spec, disk_bytes=sizes[at]), text, (change,))

    return Ladder(len(sizes), rung)


def _gres(counter: str) -> MakeLadder:
    """Climb down one generic counter, one at a time, at last to none of it."""
    name = counter.removeprefix(GRES_PREFIX)

    def ladder(_: ClusterSnapshot, spec: JobSpec) -> Ladder:
        asked = dict(spec.gres).get(name, 0)

        def rung(at: int) -> Rung:
            left = asked - 1 - at
            gres = _with_count(spec.gres, name, left)
            text = f"{left} of {name} per node instead of {asked}"
            return Rung(replace(spec, gres=gres), text, (_counts_change("gres", gres),))

        return Ladder(asked, rung)

    return ladder


def _licenses(snapshot: ClusterSnapshot, spec: JobSpec) -> Ladder:
    """Take what is free of each licence that is short."""
    free = {name: max(0, snapshot.licenses_free.get(name, 0)) for name, _ in spec.licenses}
    short = [(name, count) for name, count in spec.licenses if count > free[name]]
    if not short:
        return _NOTHING
    licenses = spec.licenses
    for name, _ in short:
        licenses = _with_count(licenses, name, free[name])
    text = " and ".join(f"{free[name]} of licence {name} instead of {count}" for name, count in short)
    return _of([Rung(replace(spec, licenses=licenses), text, (_counts_change("licenses", licenses),))])


def _with_count(counts: Counts, name: str, count: int) -> Counts:
    changed = ((known, count if known == name else number) for known, number in counts)
    return tuple((known, number) for known, number in changed if number > 0)


def _counts_change(field: str, counts: Counts) -> FieldChange:
    return FieldChange(field, ",".join(f"{name}:{count}" for name, count in counts) or None)


def _gpu_share(snapshot: ClusterSnapshot, spec: JobSpec) -> Ladder:
    """Lower a share of a GPU to what is left of some shared one."""
    if not spec.is_gpu_shared:
        return _NOTHING
    shares = [left for left in np.unique(snapshot.milli_free).tolist() if 0 < left < spec.gpu_milli][::-1]

    def rung(at: int) -> Rung:
        share = f"{shares[at] / WHOLE_MILLI:g}"
        text = f"{share} of a GPU instead of {spec.gpu_milli / WHOLE_MILLI:g}"
        return Rung(replace(spec, gpu_milli=shares[at]), text, (FieldChange("gpu_fraction", share),))

    return Ladder(len(shares), rung)


def _gpu_memory(snapshot: ClusterSnapshot, spec: JobSpec) -> Ladder:
    """Lower to what some devices have, and at last to any."""
    asked = spec.gpu_memory_bytes
    if asked is None:
        return _NOTHING
    sizes = _below((each.memory_bytes or 0 for each in snapshot.inventory.classes), asked)
    rungs = [
        Rung(
            replace(spec, gpu_memory_bytes=size),
            f"gpu_mem {in_bytes(size)} instead of {in_bytes(asked)}",
            (FieldChange("gpu_mem", f"{size // _MIB}M"),),
        )
        for size in sizes
    ]
    without = replace(spec, gpu_memory_bytes=None)
    return _of([*rungs, Rung(without, f"without gpu_mem {in_bytes(asked)}", (FieldChange("gpu_mem", None),))])


def _below(sizes: Iterable[int], asked: int) -> list[int]:
    whole = {size - size % _MIB for size in sizes}
    return sorted((size for size in whole if 0 < size < asked), reverse=True)


def _cpus(_: ClusterSnapshot, spec: JobSpec) -> Ladder:
    def rung(at: int) -> Rung:
        cpus = spec.cpus_per_task - 1 - at
        text = f"{counted(cpus, 'CPU')} per task instead of {spec.cpus_per_task}"
        return Rung(replace(spec, cpus_per_task=cpus), text, (FieldChange("cpus_per_task", str(cpus)),))

    return Ladder(spec.cpus_per_task - 1, rung)


def _gpu_model(snapshot: ClusterSnapshot, spec: JobSpec) -> Ladder:
    if spec.gpu_model is None:
        return _NOTHING
    text = f"any GPU model{_free_models(snapshot, spec.gpu_model)} instead of {spec.gpu_model}"
    return _of([Rung(replace(spec, gpu_model=None), text, (FieldChange("gpu_model", None),))])


def _free_models(snapshot: ClusterSnapshot, wanted: str) -> str:
    inventory = snapshot.inventory
    free: dict[str, int] = {}
    for known, row in zip(inventory.classes, snapshot.gpus_free_by_class, strict=True):
        if known.mig_profile is None and not is_model_match(wanted, known.model):
            free[known.model] = free.get(known.model, 0) + int(row.sum())
    most = sorted(((number, model) for model, number in free.items() if number > 0), reverse=True)
    words = ", ".join(f"{number} {model}" for number, model in most[:_MODELS_NAMED])
    return f" ({words} free)" if words else ""


def _gpus(_: ClusterSnapshot, spec: JobSpec) -> Ladder:
    """Fewer GPUs on each node; where each task has its own, fewer tasks with them."""
    asked, tasks = spec.gpus_per_node, spec.tasks_per_node
    per_task = asked // tasks if tasks > 1 else 1

    def rung(at: int) -> Rung:
        gpus = asked - (at + 1) * per_task
        changes, words = [FieldChange("gpus_per_node", str(gpus))], counted(gpus, "GPU")
        changed = replace(spec, gpus_per_node=gpus)
        if tasks > 1:
            fewer = gpus // per_task
            changed = replace(changed, tasks_per_node=fewer)
            changes.append(FieldChange("tasks_per_node", str(fewer)))
            words += f" and {counted(fewer, 'task')}"
        return Rung(changed, f"{words} per node instead of {asked}", tuple(changes))

    return Ladder(max(0, asked // per_task - 1) if per_task else 0, rung)


def _nodes(_: ClusterSnapshot, spec: JobSpec) -> Ladder:
    """Fewer nodes, in steps that keep segments whole."""
    step = 1
    if spec.segment is not None:
        step = spec.segment.size // gcd(spec.segment.size, spec.tasks_per_node)
    fewer = range((spec.nodes - 1) // step * step, 0, -step)

    def rung(at: int) -> Rung:
        text = f"{counted(fewer[at], 'node')} instead of {spec.nodes}"
        return Rung(replace(spec, nodes=fewer[at]), text, (FieldChange("nodes", str(fewer[at])),))

    return Ladder(len(fewer), rung)
