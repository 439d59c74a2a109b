"""Groups of unlike tasks against brute force, on a few nodes."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.topology.groups import Group, Task, Ways, place_group
from benchmarks.topology.shared_nodes import WHOLE, Shape, SharedNodes
from gpusched.placement.tree import build_tree


def nodes_with(gpus):
    number = len(gpus)
    return SharedNodes(
        models=["H100"] * number,
        cpu_milli=np.full(number, 100),
        memory_mib=np.full(number, 100),
        gpus=np.array(gpus),
    )


def exists(gpus, leaf, parts):
    """Brute force: every node for every task, parts with ``required`` inside one leaf."""
    tasks = [(number, size) for number, (_, sizes) in enumerate(parts) for size in sizes]
    for rows in product(range(len(gpus)), repeat=len(tasks)):
        used = [0] * len(gpus)
        for row, (_, size) in zip(rows, tasks, strict=True):
            used[row] += size
        leaves = {
            number: {leaf[row] for row, (part, _) in zip(rows, tasks, strict=True) if part == number}
            for number in range(len(parts))
        }
        kept = all(not required or len(leaves[number]) < 2 for number, (required, _) in enumerate(parts))
        if kept and all(amount <= gpus[row] for row, amount in enumerate(used)):
            return True
    return False


part_lists = st.lists(
    st.tuples(st.booleans(), st.lists(st.integers(1, 4), min_size=1, max_size=2)), min_size=1, max_size=2
)


@given(
    st.lists(st.tuples(st.integers(1, 4), st.sampled_from("ab")), min_size=1, max_size=4),
    part_lists,
    st.booleans(),
)
def test_unlike_components_are_placed_together_whenever_they_can_be(nodes, parts, is_one_leaf):
    gpus, leaf = [number for number, _ in nodes], [name for _, name in nodes]
    free = nodes_with(gpus)
    before = free.gpu.copy()
    tree = build_tree(("leaf",), [(name,) for name in leaf])
    group = Group(
        required=0 if is_one_leaf else None,
        parts=tuple(
            Group(
                required=0 if required else None,
                tasks=tuple(
                    Task(f"{number}.{at}", Shape(cpu_milli=1, gpu_milli=WHOLE, gpus=size))
                    for at, size in enumerate(sizes)
                ),
            )
            for number, (required, sizes) in enumerate(parts)
        ),
    )
    placed = place_group(free, tree, group, Ways())
    joined = [(True, [size for _, sizes in parts for size in sizes])] if is_one_leaf else parts
    assert (placed is not None) == exists(gpus, leaf, joined)
    assert (free.gpu == before).all()
    for part in placed or ():
        number, at = map(int, part.task.split("."))
        free.take(part.row, Shape(cpu_milli=1, gpu_milli=WHOLE, gpus=parts[number][1][at]), part.devices)


def test_a_group_for_which_the_first_choice_fails_is_found_by_going_back():
    """The tightest node for the small task is the only one that could take the second large one."""
    free = nodes_with([3, 4])
    tree = build_tree(("leaf",), [("a",), ("a",)])
    sizes = (3, 1, 3)
    tasks = tuple(
        Task(str(at), Shape(cpu_milli=1, gpu_milli=WHOLE, gpus=size)) for at, size in enumerate(sizes)
    )
    placed = place_group(free, tree, Group(tasks=tasks), Ways())
    assert placed is not None and {part.task: part.row for part in placed}["1"] == 1
