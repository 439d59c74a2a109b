"""Jobs on the topology tree: what their wishes mean there, and which nodes keep them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gpusched.domain.errors import InfeasibleRequest
from gpusched.domain.inside import INSIDE_LEVELS
from gpusched.domain.job_spec import JobSpec, Spread
from gpusched.placement.balanced import place_evenly
from gpusched.placement.describe import counted
from gpusched.placement.domains import Fill, GangAsk, Shortfall, place_gang
from gpusched.placement.fit import fit_fitted
from gpusched.placement.inventory import Inventory
from gpusched.placement.request import node_request
from gpusched.placement.score import best
from gpusched.placement.tree import BoolColumn, IntColumn, Segment, Tree


def place_on_tree(tree: Tree, leaf_room: IntColumn, ask: GangAsk) -> IntColumn | Shortfall:
    """Share a gang out over leaves as ``ask`` wants it; see ``place_gang``.

    With ``Fill.EVEN`` evenly where an even share exists, else as with ``Fill.FEWEST``.

    Raises:
        InvalidSpec: The segments can't be kept whatever is free.
    """
    if ask.fill is Fill.EVEN and (even := place_evenly(tree, leaf_room, ask)) is not None:
        return even
    return place_gang(tree, leaf_room, ask)


def gang_ask(tree: Tree, spec: JobSpec) -> GangAsk | None:
    """Say what a job wishes of the topology, counted in nodes; None if nothing.

    Raises:
        InfeasibleRequest: It names a level that this cluster's topology does not have.
    """
    segment = spec.segment
    if segment is not None and segment.size <= spec.tasks_per_node:
        if segment.level not in INSIDE_LEVELS:
            level_of(tree, segment.level)
        segment = None  # kept on every node (``islands``)
    wishes = (spec.topology_required, spec.topology_preferred, segment, spec.spread)
    if all(wish is None for wish in wishes) or (wishes[:3] == (None,) * 3 and not tree.levels):
        return None
    even = spec.spread is Spread.EVEN
    segments = () if segment is None else (_segment(tree, spec, segment.level, segment.size),)
    preferred = level_of(tree, spec.topology_preferred)
    if even and preferred is None:  # as near as can be, but no nearer than a segment is wide
        preferred = segments[0].level if segments else tree.depth - 1
    return GangAsk(
        count=spec.nodes,
        required=level_of(tree, spec.topology_required),
        preferred=preferred,
        segments=segments,
        fill=Fill.EVEN if even else Fill.FEWEST,
    )


def level_of(tree: Tree, name: str | None) -> int | None:
    """The position of a level that a job names; None if it names none.

    Raises:
        InfeasibleRequest: There is no such level.
    """
    if name is None:
        return None
    if name not in tree.levels:
        if name in INSIDE_LEVELS:
            raise InfeasibleRequest(
                f"job wants to be inside one {name} with more ranks than a node of it has: "
                f"ask for a segment within {name} of at most tasks_per_node ranks"
            )
        known = f"has {', '.join(tree.levels)}: ask for one of these" if tree.levels else "is not described"
        raise InfeasibleRequest(f"job wants topology level {name}; the topology of this cluster {known}")
    return tree.levels.index(name)


def _segment(tree: Tree, spec: JobSpec, name: str, size: int) -> Segment:
    level = level_of(tree, name)
    assert level is not None
    return Segment(level, size // spec.tasks_per_node)


def choose_nodes(
    tree: Tree, ask: GangAsk, candidates: IntColumn, keys: Sequence[IntColumn]
) -> IntColumn | Shortfall:
    """Choose the nodes of a gang: domains as ``ask`` wishes, inside a leaf the best by ``keys``.

    Args:
        tree: Where the nodes hang; those that hang nowhere serve only wishes that need not be kept.
        ask: The gang, counted in nodes.
        candidates: (M,) rows of nodes that could take one node's part, ascending.
        keys: Each (M,), higher is better (``score.best``).

    Returns:
        (ask.count,) rows, or what is missing.

    Raises:
        InvalidSpec: The segments can't be kept whatever is free.
    """
    fitting = np.zeros(len(tree.leaf_of), dtype=np.int64)
    fitting[candidates] = 1
    counts = place_on_tree(tree, tree.leaf_room(fitting), ask)
    if isinstance(counts, Shortfall):
        if _must_be_kept(ask) or len(candidates) < ask.count:
            return counts
        return candidates[best(keys, ask.count)]
    leaf_of, chosen = tree.leaf_of[candidates], []
    for leaf in np.flatnonzero(counts):
        here = np.flatnonzero(leaf_of == leaf)
        chosen.append(candidates[here[best([key[here] for key in keys], int(counts[leaf]))]])
    return np.concatenate(chosen)


def _must_be_kept(ask: GangAsk) -> bool:
    return ask.required is not None or bool(ask.segments)


def leaf_key(tree: Tree, is_idle: BoolColumn, candidates: IntColumn) -> IntColumn:
    """Prefer leaves with few idle nodes, so that the others stay whole for gangs.

    Args:
        tree: Where the nodes hang.
        is_idle: (N,) nodes of which no GPU is held.
        candidates: (M,) rows of nodes.

    Returns:
        (M,) higher is better: 0 where a leaf has no idle node, or the node hangs nowhere.
    """
    idle = np.append(tree.leaf_room(is_idle.astype(np.int64)), 0)
    key: IntColumn = -idle[tree.leaf_of[candidates]]
    return key


def check_room(inventory: Inventory, spec: JobSpec) -> None:
    """Accept a gang that would find its nodes where it wishes them if all were up, open and empty.

    Raises:
        InfeasibleRequest: It would not.
        InvalidSpec: The segments can't be kept whatever is free.
    """
    large_enough = fit_fitted(inventory, node_request(spec))
    wants, fitting = f"job wants {counted(spec.nodes, 'node')}", int(np.count_nonzero(large_enough))
    if fitting < spec.nodes:
        raise InfeasibleRequest(f"{wants}; {fitting} would be large enough if empty: ask for less")
    tree = inventory.tree
    if (ask := gang_ask(tree, spec)) is None or not _must_be_kept(ask):
        return
    room = place_on_tree(tree, tree.leaf_room(large_enough.astype(np.int64)), ask)
    if isinstance(room, Shortfall):
        raise InfeasibleRequest(f"{wants} {_in_words(tree, ask, room)} even if empty: ask for less")


def _in_words(tree: Tree, ask: GangAsk, shortfall: Shortfall) -> str:
    words = []
    if ask.segments:
        segment = ask.segments[0]
        words.append(f"in segments of {segment.size}, each in one {tree.levels[segment.level]}")
    if ask.required is not None:
        words.append(f"in one {tree.levels[ask.required]}")
    unit = "segments" if ask.segments else "nodes"
    where = "the roomiest" if ask.required is not None else "the topology"
    return f"{', '.join(words)}; {where} has room for {shortfall.fits} of {shortfall.of} {unit}"


def wishes_in_words(spec: JobSpec) -> str:
    """Write what must hold: "in one rack, every 8 ranks in one leaf"."""
    words = [f"in one {spec.topology_required}"] if spec.topology_required is not None else []
    if spec.segment is not None:
        words.append(f"every {spec.segment.size} ranks in one {spec.segment.level}")
    return ", ".join(words) or "near each other"
