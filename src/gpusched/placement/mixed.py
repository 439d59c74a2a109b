"""Gangs of unlike components: all of them or none, each on nodes of its own.

Which nodes can take a part of which component is known for each node alone, so whether the whole gang
fits is Hall's condition: every set of components finds, among the nodes that suit at least one of them,
as many as they need together (P. Hall, "On Representatives of Subsets", 1935). A greedy choice that takes
no node that would break it always ends with the whole gang placed (the sets of nodes that can be matched
are a matroid), so what exists is found without a search. With C components and N nodes the condition
costs O(2^C · N); C is at most ``spec_limits.COMPONENTS_MAX``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from gpusched.placement.inventory import BoolColumn, IntColumn
from gpusched.placement.tree import Tree


def can_match(suits: Sequence[BoolColumn], wanted: Sequence[int]) -> bool:
    """Tell whether every component finds its nodes, none of them twice.

    Args:
        suits: Per component, (N,) nodes that could take a part of it.
        wanted: Per component, how many nodes it needs.
    """
    open_ = [number for number, count in enumerate(wanted) if count > 0]
    return all(
        np.count_nonzero(np.logical_or.reduce([suits[number] for number in some]))
        >= sum(wanted[number] for number in some)
        for size in range(1, len(open_) + 1)
        for some in combinations(open_, size)
    )


def match(
    suits: Sequence[BoolColumn], wanted: Sequence[int], ranked: Sequence[IntColumn]
) -> list[IntColumn] | None:
    """Choose the nodes of every component, the best that leave the others theirs.

    Args:
        suits: Per component, (N,) nodes that could take a part of it.
        wanted: Per component, how many nodes it needs.
        ranked: Per component, rows of the nodes that suit it, the best first.

    Returns:
        Per component, (wanted,) rows; None if there is no such choice.
    """
    if not can_match(suits, wanted):
        return None
    left, missing = [mask.copy() for mask in suits], list(wanted)
    chosen: list[IntColumn] = []
    for number, rows in enumerate(ranked):
        mine: list[int] = []
        for row in rows.tolist():
            if not missing[number]:
                break
            if not left[number][row]:
                continue
            without = [mask.copy() for mask in left]
            for mask in without:
                mask[row] = False
            missing[number] -= 1
            if can_match(without, missing):
                left = without
                mine.append(row)
            else:
                missing[number] += 1
        chosen.append(np.array(mine, dtype=np.int64))
    return chosen


def domains_to_try(
    tree: Tree, required: int | None, preferred: int | None, able: BoolColumn
) -> Iterator[BoolColumn]:
    """Node sets in which a gang may be, the nearest first and of equally near ones the smallest.

    The domains of the preferred level, then of each wider one up to the required level; without a
    required level, at last all nodes.

    Args:
        tree: Where the nodes hang.
        required: The level inside one domain of which the gang must be; None if it need not.
        preferred: The level to begin with; None: the required one.
        able: (N,) nodes that could take any part of it.
    """
    narrowest = required if preferred is None else preferred
    if narrowest is not None:
        for level in range(narrowest, (0 if required is None else required) - 1, -1):
            masks = []
            for domain in range(len(tree.paths[level])):
                mask = np.zeros(len(able), dtype=bool)
                mask[tree.rows[tree.columns[:, level] == domain]] = True
                masks.append(mask & able)
            yield from sorted(masks, key=np.count_nonzero)
    if required is None:
        yield able
