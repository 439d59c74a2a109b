"""KAI's cases: rounds over jobs in queues, with trees of groups, fractions of GPUs and elastic jobs."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.topology.elastic import PodSet, fullness, next_tasks
from benchmarks.topology.groups import Group, Packing, Task, TaskPlacement, Ways, place_group
from benchmarks.topology.queues import Queue, QueueTree
from benchmarks.topology.shared_nodes import WHOLE, Shape, SharedNodes
from benchmarks.topology.verdict import Verdict
from gpusched.domain.errors import InvalidSpec
from gpusched.placement.tree import Tree, build_tree

Case = Mapping[str, Any]
GPU_MEMORY_MIB = 100
ACTIVE = {"running", "placed", "waiting"}
PLENTY = 1 << 40


@dataclass(slots=True)
class _Cluster:
    """The case as the product sees it. ``now`` is free at once, ``soon`` when what is going away is gone."""

    tree: Tree
    now: SharedNodes
    soon: SharedNodes
    rows: dict[str, int]
    quota: QueueTree
    state: dict[str, str]
    node: dict[str, str]
    devices: dict[tuple[str, str], int] = field(default_factory=dict)  # (node, tag) -> device


def answer(case: Case) -> dict[str, dict[str, str]]:
    """Run the rounds; the state and node of every task that got one."""
    cluster = _cluster(case)
    for _ in range(case["rounds"]):
        _round(case, cluster)
    return {
        task["name"]: {"state": cluster.state[task["name"]], "node": cluster.node[task["name"]]}
        for job in case["jobs"]
        for task in job["tasks"]
        if cluster.state[task["name"]] != task["state"]
    }


def _cluster(case: Case) -> _Cluster:
    levels = tuple(case.get("levels") or ("node",))
    nodes = case["nodes"]
    paths = [
        tuple(at[level] for level in levels)
        if (at := {"node": node["name"], **node.get("at", {})}).keys() >= set(levels)
        else None
        for node in nodes
    ]
    free = SharedNodes(
        models=["any"] * len(nodes),
        cpu_milli=np.array([node.get("cpu", PLENTY) for node in nodes], dtype=np.int64),
        memory_mib=np.full(len(nodes), PLENTY, dtype=np.int64),
        gpus=np.array([node["gpus"] for node in nodes], dtype=np.int64),
    )
    tasks = [task for job in case["jobs"] for task in job["tasks"]]
    cluster = _Cluster(
        build_tree(levels, paths),
        free,
        copy.deepcopy(free),
        {node["name"]: row for row, node in enumerate(nodes)},
        QueueTree({queue["name"]: _queue(queue) for queue in case["queues"]}),
        {task["name"]: task["state"] for task in tasks},
        {task["name"]: task.get("node", "") for task in tasks},
    )
    for job in case["jobs"]:
        for task in job["tasks"]:
            if task.get("node") and task["state"] != "pending":
                _hold(cluster, job, task)
    return cluster


def _queue(queue: Case) -> Queue:
    limit = queue.get("limit_gpus")
    return Queue(
        name=queue["name"],
        deserved_milli=round(queue["quota_gpus"] * WHOLE),
        limit_milli=None if limit is None else round(limit * WHOLE),
        parent=queue.get("parent"),
    )


def _shape(job: Case, task: Case) -> Shape:
    gpus = task.get("gpus", job.get("gpus_per_task", 0))
    if memory_mib := job.get("gpu_memory_mib_per_task"):
        gpus = memory_mib / GPU_MEMORY_MIB
    milli = round(gpus * WHOLE)
    cpus = job.get("cpu_per_task", 0)
    if milli >= WHOLE:
        return Shape(cpu_milli=cpus, gpu_milli=WHOLE, gpus=milli // WHOLE)
    return Shape(cpu_milli=cpus, gpu_milli=milli, gpus=1 if milli else 0)


def _hold(cluster: _Cluster, job: Case, task: Case) -> None:
    """Count a task that is on a node when the rounds begin."""
    shape, row = _shape(job, task), cluster.rows[task["node"]]
    tag = (task["node"], task["gpu_tag"]) if "gpu_tag" in task and shape.is_part else None
    devices = cluster.now.whole_devices(row, shape.gpus)
    if tag is not None:
        devices = (cluster.devices.setdefault(tag, devices[0] if devices else 0),)
    cluster.now.take(row, shape, devices)
    if task["state"] == "releasing":
        return
    cluster.soon.take(row, shape, devices)
    cluster.quota.charge(job["queue"], shape.total_milli, preemptible=job["preemptible"])


def _round(case: Case, cluster: _Cluster) -> None:
    """Give every job its turn until each has had what it can get."""
    waiting = list(enumerate(case["jobs"]))
    while waiting:
        turn = min(waiting, key=lambda entry: _order(case, cluster, *entry))
        if not _start_more(case, cluster, turn[1]):
            waiting.remove(turn)


def _order(case: Case, cluster: _Cluster, place: int, job: Case) -> tuple[Any, ...]:
    return (
        cluster.quota.saturation(job["queue"]),
        -job["priority"],
        fullness(_pod_sets(cluster, job)),
        place,
    )


def _pod_sets(cluster: _Cluster, job: Case) -> list[PodSet]:
    ordered = sorted(job["tasks"], key=lambda task: -task.get("rank", 0))
    return [
        PodSet(
            entry["name"],
            entry["min"],
            sum(cluster.state[task["name"]] in ACTIVE for task in _tasks_of(job["tasks"], entry["name"])),
            tuple(
                task["name"]
                for task in _tasks_of(ordered, entry["name"])
                if cluster.state[task["name"]] == "pending"
            ),
        )
        for entry in _leaves(job["groups"])
    ]


def _leaves(group: Case) -> Iterator[Case]:
    for inner in group["groups"]:
        yield from _leaves(inner)
    yield from group["pod_sets"]


def _tasks_of(tasks: list[Any], pod_set: str) -> list[Any]:
    return [task for task in tasks if task.get("pod_set", "default") == pod_set]


def _start_more(case: Case, cluster: _Cluster, job: Case) -> bool:
    """Start what the job is next to get: now, or once what is going away is gone. False: nothing starts."""
    chosen = next_tasks(_pod_sets(cluster, job))
    if not chosen:
        return False
    tasks = {task["name"]: task for task in job["tasks"]}
    shapes = {name: _shape(job, tasks[name]) for names in chosen.values() for name in names}
    milli = sum(shape.total_milli for shape in shapes.values())
    if not cluster.quota.admits(job["queue"], milli, preemptible=job["preemptible"]):
        return False
    ways = Ways(Packing(case["placement"]["nodes"]), Packing(case["placement"]["gpus"]))
    try:
        group = _group(case, cluster, job, job["groups"], chosen)
    except InvalidSpec:
        return False
    for free, state in ((cluster.now, "placed"), (cluster.soon, "waiting")):
        placed = place_group(free, cluster.tree, group, ways)
        if placed is not None:
            _record(case, cluster, shapes, placed, state)
            cluster.quota.charge(job["queue"], milli, preemptible=job["preemptible"])
            return True
    return False


def _record(
    case: Case, cluster: _Cluster, shapes: dict[str, Shape], placed: tuple[TaskPlacement, ...], state: str
) -> None:
    for part in placed:
        cluster.soon.take(part.row, shapes[part.task], part.devices)
        cluster.state[part.task] = state
        cluster.node[part.task] = case["nodes"][part.row]["name"]
        # What is promised out of what is free is free no more.
        now, soon, row = cluster.now, cluster.soon, part.row
        if state == "placed":
            now.take(row, shapes[part.task], part.devices)
        now.gpu[row] = np.minimum(now.gpu[row], soon.gpu[row])
        now.whole[row] = np.count_nonzero(now.gpu[row] == WHOLE)
        now.cpu[row] = min(now.cpu[row], soon.cpu[row])


def _group(
    case: Case, cluster: _Cluster, job: Case, group: Case, chosen: dict[str, tuple[str, ...]]
) -> Group:
    pod_sets = tuple(
        Group(
            required=_level(cluster.tree, entry.get("required")),
            preferred=_level(cluster.tree, entry.get("preferred")),
            held=_held(cluster, job, [entry["name"]]),
            tasks=tuple(_task(case, job, name) for name in chosen.get(entry["name"], ())),
        )
        for entry in group["pod_sets"]
    )
    inner = tuple(_group(case, cluster, job, part, chosen) for part in group["groups"])
    return Group(
        required=_level(cluster.tree, group.get("required")),
        preferred=_level(cluster.tree, group.get("preferred")),
        held=_held(cluster, job, [entry["name"] for entry in _leaves(group)]),
        parts=inner + pod_sets,
    )


def _level(tree: Tree, name: str | None) -> int | None:
    return None if name is None else tree.level(name)


def _held(cluster: _Cluster, job: Case, pod_sets: list[str]) -> frozenset[int]:
    return frozenset(
        cluster.rows[cluster.node[task["name"]]]
        for task in job["tasks"]
        if task.get("pod_set", "default") in pod_sets and cluster.state[task["name"]] in ACTIVE
    )


def _task(case: Case, job: Case, name: str) -> Task:
    task = next(task for task in job["tasks"] if task["name"] == name)
    allowed = None
    if kinds := task.get("only_kind"):
        allowed = np.array([node.get("kind") in kinds for node in case["nodes"]])
    return Task(name, _shape(job, task), allowed)


def judge(case: Case, found: dict[str, dict[str, str]]) -> Verdict:
    """Compare the state of every listed task, the validity of every placement, and the domains spanned."""
    tasks = {task["name"]: (job, task) for job in case["jobs"] for task in job["tasks"]}
    state = {name: found.get(name, {}).get("state", task["state"]) for name, (_, task) in tasks.items()}
    node = {name: found.get(name, {}).get("node", task.get("node")) for name, (_, task) in tasks.items()}
    expected = case["expect"]
    wrong = [f"{name} is {state[name]}" for name in expected if state[name] != expected[name]["state"]]
    problem = _invalid(case, state, node)
    if wrong or problem:
        return Verdict(False, why="; ".join(wrong + ([problem] if problem else [])))
    theirs = {name: entry["node"] for name, entry in expected.items() if "node" in entry}
    spans = [_spans(case, {name: node[name] for name in theirs}), _spans(case, theirs)]
    if any(spans[0].get(key, 0) > most for key, most in spans[1].items()):
        return Verdict(False, why=f"spans {spans[0]}, expected {spans[1]}")
    return Verdict(True, spans[0] != spans[1], all(node[name] == there for name, there in theirs.items()))


def _spans(case: Case, nodes: Mapping[str, str | None]) -> dict[tuple[str, str], int]:
    """Domains that each job's tasks span, per level."""
    at = {node["name"]: {**node.get("at", {}), "node": node["name"]} for node in case["nodes"]}
    levels = [*case.get("levels", ()), "node"]
    spans = {}
    for job in case["jobs"]:
        held = [nodes[task["name"]] for task in job["tasks"] if nodes.get(task["name"])]
        for depth, level in enumerate(levels):
            inside = {tuple(at[name].get(key) for key in levels[: depth + 1]) for name in held if name}
            spans[job["name"], level] = len(inside)
    return spans


def _invalid(case: Case, state: dict[str, str], node: dict[str, str | None]) -> str | None:
    """What a placement breaks: GPUs, CPU, kinds, required levels or least numbers."""
    at = {entry["name"]: entry for entry in case["nodes"]}
    used = dict.fromkeys(at, 0.0)
    cpus = dict.fromkeys(at, 0.0)
    for job in case["jobs"]:
        for task in job["tasks"]:
            name, where = task["name"], node[task["name"]]
            if state[name] not in ("running", "placed") or where is None:
                continue
            used[where] += _shape(job, task).total_milli
            cpus[where] += job.get("cpu_per_task", 0)
            if "only_kind" in task and at[where].get("kind") not in task["only_kind"]:
                return f"{name} is on a node of another kind"
        if problem := _broken(case, job, job["groups"], state, node):
            return problem
    over = [name for name, entry in at.items() if used[name] > entry["gpus"] * WHOLE]
    over += [name for name, entry in at.items() if cpus[name] > entry.get("cpu", PLENTY)]
    return f"more is used than is on {over[0]}" if over else None


def _broken(
    case: Case, job: Case, group: Case, state: dict[str, str], node: dict[str, str | None]
) -> str | None:
    names = {entry["name"]: entry for entry in _leaves(group)}
    active = [task for task in job["tasks"] if state[task["name"]] in ACTIVE]
    started = any(state[task["name"]] in ("placed", "waiting") for task in job["tasks"])
    for entry in [{**group, "members": list(names)}] + [{**e, "members": [n]} for n, e in names.items()]:
        inside = [task for task in active if task.get("pod_set", "default") in entry["members"]]
        if started and len(inside) < entry.get("min", 0):
            return f"{entry['name']} has fewer than {entry['min']} tasks"
        if level := entry.get("required"):
            levels = case["levels"][: case["levels"].index(level) + 1]
            places = {entry["name"]: entry.get("at", {}) for entry in case["nodes"]}
            held = {tuple(places[str(node[t["name"]])].get(key) for key in levels) for t in inside}
            if started and len(held) > 1:
                return f"{entry['name']} spans {len(held)} domains of {level}"
    return next((found for part in group["groups"] if (found := _broken(case, job, part, state, node))), None)
