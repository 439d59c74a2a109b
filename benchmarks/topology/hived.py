"""HiveD's cases: steps on one cluster of virtual clusters with guaranteed cells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.topology.cells import CellGang, CellPlacement, Cells, Chain, Owner, Promise, check_gang
from benchmarks.topology.verdict import Verdict
from gpusched.domain.errors import InvalidSpec
from gpusched.placement.tree import build_tree

Case = Mapping[str, Any]
Gpu = tuple[str, int]  # node, index


class World:
    """The cluster as the product sees it, and the names of its GPUs."""

    def __init__(self, cluster: Case) -> None:
        types = cluster["cell_types"]
        leaves: dict[str, list[tuple[tuple[str, ...], Gpu]]] = {}
        names: dict[str, list[tuple[str, tuple[str, ...]]]] = {}
        for number, top in enumerate(cluster["top_cells"]):
            found = list(_leaves(top, (f"{number:04}",), None))
            leaves.setdefault(top["type"], []).extend(found)
            names.setdefault(top["type"], []).extend(_pinned(top, (f"{number:04}",)))
        self.gpus = {chain: [gpu for _, gpu in found] for chain, found in leaves.items()}
        self.chains = {
            name: Chain(
                name,
                build_tree(levels := _levels(types, name), [path for path, _ in found]),
                next(at for at, level in enumerate(levels) if types.get(level, {}).get("is_node")),
            )
            for name, found in leaves.items()
        }
        tenants = cluster["virtual_clusters"]
        owners = {pinned: tenant for tenant, entry in tenants.items() for pinned in entry["pinned"]}
        self.cells = Cells(
            list(self.chains.values()),
            [
                _promise(self.chains, tenant, cell)
                for tenant, entry in tenants.items()
                for cell in entry["cells"]
            ],
            [
                self._owner(chain, path, pinned, owners[pinned])
                for chain, found in names.items()
                for pinned, path in found
                if pinned in owners
            ],
        )
        self.came: dict[str, list[int]] = {}  # GPUs of the pods of each group so far
        self.places: dict[str, list[CellPlacement]] = {}  # of a group, not yet given to a pod
        self.pods: dict[str, str] = {}  # which pod took which place

    def _owner(self, chain: str, path: tuple[str, ...], pinned: str, tenant: str) -> Owner:
        level = len(path) - 1
        domain = self.chains[chain].tree.paths[level].index(path)
        return Owner(tenant=tenant, chain=chain, level=level, domain=domain, pinned=pinned)


def _levels(types: Case, top: str) -> list[str]:
    levels = [top]
    while levels[-1] in types:
        levels.append(types[levels[-1]]["child"])
    return levels


def _leaves(cell: Case, path: tuple[str, ...], node: str | None) -> Iterator[tuple[tuple[str, ...], Gpu]]:
    node = cell.get("node", node)
    for number, child in enumerate(cell.get("children", ())):
        yield from _leaves(child, (*path, f"{number:04}"), node)
    for number, index in enumerate(cell.get("leaves", ())):
        yield (*path, f"{number:04}"), (str(node), index)


def _pinned(cell: Case, path: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    if "pinned" in cell:
        yield cell["pinned"], path
    for name, index in cell.get("pinned_leaves", {}).items():
        yield name, (*path, f"{cell['leaves'].index(index):04}")
    for number, child in enumerate(cell.get("children", ())):
        yield from _pinned(child, (*path, f"{number:04}"))


def _promise(chains: Mapping[str, Chain], tenant: str, cell: Case) -> Promise:
    types = cell["type_path"].split(".")
    return Promise(tenant, types[0], len(types) - 1, cell["count"])


def answer_all(cluster: Case, cases: Sequence[Case]) -> dict[str, dict[str, Any]]:
    """Run the steps in order on one cluster, and the invalid requests each on a fresh one."""
    world = World(cluster)
    steps = sorted((case for case in cases if case["script"] == "normal"), key=lambda case: case["step"])
    found = {case["id"]: _step(world, case) for case in steps}
    for case in cases:
        if case["script"] == "invalid":
            fresh = World(cluster)
            answers = [_step(fresh, pod) for pod in case["pods"]]
            found[case["id"]] = {"rejected": any("rejected" in each for each in answers)}
    return found


def _step(world: World, pod: Case) -> dict[str, Any]:
    group, priority = pod["group"], None if pod["priority"] == -1 else pod["priority"]
    members = [(entry["pods"], entry["leaves"]) for entry in pod["group_members"]]
    sizes = [*world.came.get(group, []), pod["leaves"]]
    try:
        check_gang(priority, members, sizes)
    except InvalidSpec as wrong:
        return {"rejected": True, "why": str(wrong)}
    world.came[group] = sizes
    if group not in world.places:
        gang = CellGang(
            tenant=pod["virtual_cluster"],
            priority=priority,
            tasks=tuple(
                (f"{group}.{size}.{number}", size) for pods, size in members for number in range(pods)
            ),
            gpu_type=pod.get("leaf_type"),
            pinned=pod.get("pinned"),
        )
        placed = world.cells.place(gang)
        if placed is None:
            world.came[group].pop()
            victims = world.cells.victims(gang)
            return (
                {"wait": True}
                if victims is None
                else {"preempt": [world.pods.get(name, name) for name in victims]}
            )
        world.places[group] = list(placed)
    mine = next(part for part in world.places[group] if len(part.rows) == pod["leaves"])
    world.places[group].remove(mine)
    world.pods[mine.task] = pod["pod"]
    gpus = [world.gpus[mine.chain][row] for row in mine.rows]
    return {"bind": {"node": gpus[0][0], "leaves": [index for _, index in gpus]}}


def judge(cluster: Case, case: Case, found: dict[str, Any]) -> Verdict:
    """Compare the decision, and where both bind, the size of the cell that holds the GPUs."""
    expected = case["expect"]
    kind = next(iter(expected))
    if kind not in found or (kind == "rejected" and found[kind] != expected[kind]):
        return Verdict(False, why=f"{found}, expected {expected}")
    if kind != "bind":
        return Verdict(True, equal=True)
    ours, theirs = found["bind"], expected["bind"]
    sizes = [_cell_size(cluster, each["node"], set(each["leaves"])) for each in (ours, theirs)]
    if len(set(ours["leaves"])) != case["leaves"] or sizes[0] > sizes[1]:
        return Verdict(False, why=f"{ours} lies in a cell of {sizes[0]} GPUs, {theirs} in one of {sizes[1]}")
    same = ours["node"] == theirs["node"] and set(ours["leaves"]) == set(theirs["leaves"])
    return Verdict(True, sizes[0] < sizes[1], same)


def _cell_size(cluster: Case, node: str, indices: set[int]) -> int:
    """GPUs of the smallest cell that holds all of these of one node."""
    found = [
        (path, index)
        for number, top in enumerate(cluster["top_cells"])
        for path, (name, index) in _leaves(top, (f"{number:04}",), None)
        if name == node
    ]
    mine = [path for path, index in found if index in indices]
    shared = next(
        length for length in range(len(mine[0]), -1, -1) if len({path[:length] for path in mine}) == 1
    )
    return sum(path[:shared] == mine[0][:shared] for path, _ in found)
