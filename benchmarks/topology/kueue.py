"""Kueue's cases: pod sets of a workload on a tree of domains, placed one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.topology.verdict import Verdict, combine
from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.placement.domains import Fill, GangAsk, Shortfall
from gpusched.placement.topology import place_on_tree
from gpusched.placement.tree import Segment, Tree, build_tree

Case = Mapping[str, Any]
Answer = dict[str, list[dict[str, Any]] | None]
Amounts = dict[str, NDArray[np.int64]]


def answer(case: Case) -> Answer:
    """Place the pod sets in order; a set refused is None and uses nothing."""
    tree, free = _cluster(case)
    placed: Answer = {}
    for pod_set in case["pod_sets"]:
        request = {"pods": 1, **pod_set["request"]}
        room = np.full(len(tree.paths[-1]), np.iinfo(np.int64).max)
        for resource, amount in request.items():
            if amount > 0:
                room = np.minimum(room, free.get(resource, np.zeros_like(room)) // amount)
        try:
            counts = place_on_tree(tree, room, _ask(case, tree, pod_set))
        except InvalidSpec:
            placed[pod_set["name"]] = None
            continue
        if isinstance(counts, Shortfall):
            placed[pod_set["name"]] = None
            continue
        for resource, amount in request.items():
            free[resource] = free.get(resource, np.zeros_like(counts)) - counts * amount
        placed[pod_set["name"]] = [
            {"count": int(counts[leaf]), "values": _values(tree, leaf)} for leaf in np.flatnonzero(counts)
        ]
    return placed


def _cluster(case: Case) -> tuple[Tree, Amounts]:
    """The tree of the nodes that take part, and what is free on each of its leaves."""
    taking = [_path(case, node) for node in case["nodes"]]
    tree = build_tree(case["levels"], taking)
    resources = {resource for node in case["nodes"] for resource in node["free"]}
    return tree, {
        resource: tree.leaf_room(np.array([node["free"].get(resource, 0) for node in case["nodes"]]))
        for resource in sorted(resources)
    }


def _path(case: Case, node: Case) -> tuple[str, ...] | None:
    at, labels = node["at"], {**node["at"], **node.get("labels", {})}
    wanted = case.get("node_filter", {})
    if not node.get("schedulable", True) or any(labels.get(key) != value for key, value in wanted.items()):
        return None
    return tuple(at[level] for level in case["levels"]) if at.keys() >= set(case["levels"]) else None


def _ask(case: Case, tree: Tree, pod_set: Case) -> GangAsk:
    mode, level = pod_set["mode"], pod_set.get("level")
    fill = Fill.EVEN if case["options"].get("balanced") else Fill.FEWEST
    if mode in ("unconstrained", "none") and case["options"].get("unconstrained_order") == "least_free":
        fill = Fill.SMALLEST_FIRST
    return GangAsk(
        count=pod_set["count"],
        required=tree.level(level) if mode == "required" else None,
        preferred=tree.level(level) if mode == "preferred" else None,
        segments=tuple(_segment(tree, entry) for entry in pod_set.get("slices") or ()),
        fill=fill,
    )


def _segment(tree: Tree, entry: Case) -> Segment:
    if entry.get("size") is None:
        raise InvalidSpec((Violation("segment", "has no size"),))
    return Segment(tree.level(entry["level"]), entry["size"])


def _values(tree: Tree, leaf: int) -> list[str]:
    path = tree.paths[-1][leaf]
    return [path[-1]] if tree.levels[-1] == "hostname" else list(path)


def judge(case: Case, answers: Answer) -> Verdict:
    """Compare with the expected outcome: decisions, validity, domains on every level."""
    left, verdicts = _cluster(case), []
    for pod_set in case["pod_sets"]:
        verdicts.append(_judge_one(case, left, pod_set, answers[pod_set["name"]]))
    return combine(verdicts)


def _judge_one(
    case: Case, cluster: tuple[Tree, Amounts], pod_set: Case, found: list[dict[str, Any]] | None
) -> Verdict:
    expected, name = pod_set["expect"], pod_set["name"]
    if found is None or not expected["placed"]:
        agrees = (found is not None) == expected["placed"]
        return Verdict(agrees, equal=agrees, why="" if agrees else f"{name}: placed is {found is not None}")
    if problem := _invalid(case, cluster, pod_set, found):
        return Verdict(False, why=f"{name}: {problem}")
    paths = {tuple(_values(cluster[0], leaf)): path for leaf, path in enumerate(cluster[0].paths[-1])}
    ours = _spans([paths[tuple(domain["values"])] for domain in found])
    theirs = _spans([paths[tuple(domain["values"])] for domain in expected["domains"]])
    if any(mine > other for mine, other in zip(ours, theirs, strict=True)):
        return Verdict(False, why=f"{name}: spans {ours}, expected {theirs}")
    return Verdict(True, ours != theirs, _as_set(found) == _as_set(expected["domains"]))


def _spans(paths: list[tuple[str, ...]]) -> list[int]:
    return [len({path[: level + 1] for path in paths}) for level in range(len(paths[0]))]


def _as_set(domains: list[dict[str, Any]]) -> Counter[tuple[str, ...]]:
    return Counter({tuple(domain["values"]): domain["count"] for domain in domains})


def _invalid(
    case: Case, cluster: tuple[Tree, Amounts], pod_set: Case, found: list[dict[str, Any]]
) -> str | None:
    """Count, capacity, required level and whole slices, judged from the nodes anew; takes what is used."""
    tree, free = cluster
    leaves = {tuple(_values(tree, leaf)): leaf for leaf in range(len(tree.paths[-1]))}
    if sum(domain["count"] for domain in found) != pod_set["count"]:
        return "the counts don't add up"
    for domain in found:
        for resource, amount in {"pods": 1, **pod_set["request"]}.items():
            free[resource][leaves[tuple(domain["values"])]] -= amount * domain["count"]
    if any((amounts < 0).any() for amounts in free.values()):
        return "more is used than is free"
    groups = [(pod_set["level"], pod_set["count"])] if pod_set["mode"] == "required" else []
    for level, size in groups + [(entry["level"], entry["size"]) for entry in pod_set.get("slices") or ()]:
        held: Counter[tuple[str, ...]] = Counter()
        for domain in found:
            path = tree.paths[-1][leaves[tuple(domain["values"])]]
            held[path[: case["levels"].index(level) + 1]] += domain["count"]
        if any(count % size for count in held.values()):
            return f"groups of {size} are cut across {level}"
    return None
