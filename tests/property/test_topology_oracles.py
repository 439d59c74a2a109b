"""Placement on the topology tree against plain loops and brute force, on small random trees."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import combinations, permutations

import numpy as np
import pytest
from fakes.clusters import H100, make_node
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gpusched.domain.job_spec import JobSpec, Spread
from gpusched.domain.job_spec import Segment as RankSegment
from gpusched.domain.partition import Partitions
from gpusched.domain.topology import NodePath, Topology, TopologyLevel
from gpusched.placement.domains import Fill, GangAsk, Shortfall, split
from gpusched.placement.gang import fits
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.placement.topology import place_on_tree
from gpusched.placement.tree import Segment, build_tree, in_rank_order, measure, ring_cost, ring_seconds

LEVELS = ("spine", "leaf", "rack")


@st.composite
def trees(draw, most=8):
    """A tree of three levels and the room of each of its racks."""
    paths = draw(
        st.lists(
            st.tuples(*(st.sampled_from([f"{level[0]}{number}" for number in range(3)]) for level in LEVELS)),
            min_size=1,
            max_size=most,
            unique=True,
        )
    )
    tree = build_tree(LEVELS, paths)
    room = draw(st.lists(st.integers(0, 5), min_size=len(paths), max_size=len(paths)))
    return tree, np.array(room)


def room_in(tree, room, level, domain, segments=()):
    """Tasks that a domain can take, by recursion: below a segment's level only whole ones count."""
    if level == tree.depth - 1:
        return int(room[domain])
    inside = np.flatnonzero(tree.parents[level + 1] == domain).tolist()
    return sum(room_in(tree, room, level + 1, child, segments) for child in inside)


def held_by(tree, counts, level):
    """Tasks of each domain of a level."""
    held: dict[tuple[str, ...], int] = {}
    for leaf, path in enumerate(tree.paths[-1]):
        held[path[: level + 1]] = held.get(path[: level + 1], 0) + int(counts[leaf])
    return {path: count for path, count in held.items() if count}


asks = st.integers(1, 12)
fills = st.sampled_from([Fill.FEWEST, Fill.EVEN, Fill.SMALLEST_FIRST])


@given(trees(), asks, st.integers(0, 2), fills)
def test_a_gang_stays_in_one_domain_whenever_one_can_hold_it(given_tree, count, preferred, fill):
    tree, room = given_tree
    assume(fill is not Fill.EVEN)  # an even share may prefer another domain of the same level
    counts = place_on_tree(tree, room, GangAsk(count=count, preferred=preferred, fill=fill))
    able = [
        level
        for level in range(preferred + 1)
        if any(room_in(tree, room, level, d) >= count for d in range(len(tree.paths[level])))
    ]
    if isinstance(counts, Shortfall):
        assert room.sum() < count and counts.of == count
        return
    assert not able or len(held_by(tree, counts, max(able))) == 1


@given(trees(), asks, st.integers(0, 2), st.integers(0, 2), fills)
def test_a_required_level_is_kept_and_refused_only_where_no_domain_has_room(
    given_tree, count, required, preferred, fill
):
    tree, room = given_tree
    ask = GangAsk(count=count, required=required, preferred=max(required, preferred), fill=fill)
    counts = place_on_tree(tree, room, ask)
    best = max(room_in(tree, room, required, d) for d in range(len(tree.paths[required])))
    if isinstance(counts, Shortfall):
        assert best < count and counts.fits == best
    else:
        assert best >= count and len(held_by(tree, counts, required)) == 1


@given(trees(), asks, st.sampled_from([None, 0, 1, 2]), fills)
def test_what_is_placed_is_all_of_it_and_fits(given_tree, count, preferred, fill):
    tree, room = given_tree
    counts = place_on_tree(tree, room, GangAsk(count=count, preferred=preferred, fill=fill))
    assert isinstance(counts, Shortfall) == (room.sum() < count)
    if not isinstance(counts, Shortfall):
        assert counts.sum() == count
        assert (counts <= room).all() and (counts >= 0).all()


@given(trees(), asks)
def test_no_other_choice_takes_fewer_domains_of_the_widest_level(given_tree, count):
    tree, room = given_tree
    counts = place_on_tree(tree, room, GangAsk(count=count, preferred=0))
    assume(not isinstance(counts, Shortfall))
    rooms = [room_in(tree, room, 0, domain) for domain in range(len(tree.paths[0]))]
    fewest = next(
        number
        for number in range(1, len(rooms) + 1)
        if any(sum(chosen) >= count for chosen in combinations(rooms, number))
    )
    assert len(held_by(tree, counts, 0)) == fewest


@given(trees(), asks)
def test_of_domains_that_hold_the_gang_the_one_with_least_room_is_taken(given_tree, count):
    tree, room = given_tree
    counts = place_on_tree(tree, room, GangAsk(count=count, required=1))
    assume(not isinstance(counts, Shortfall))
    rooms = {path: room_in(tree, room, 1, number) for number, path in enumerate(tree.paths[1])}
    (taken,) = held_by(tree, counts, 1)
    assert rooms[taken] == min(amount for amount in rooms.values() if amount >= count)


@given(trees(), st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), st.sampled_from([None, 0, 1]), fills)
def test_segments_stay_whole(given_tree, number, size, level, preferred, fill):
    tree, room = given_tree
    preferred = None if preferred is None else min(preferred, level)
    ask = GangAsk(count=number * size, preferred=preferred, segments=(Segment(level, size),), fill=fill)
    counts = place_on_tree(tree, room, ask)
    whole = sum(room_in(tree, room, level, d) // size for d in range(len(tree.paths[level])))
    assert isinstance(counts, Shortfall) == (whole < number)
    if not isinstance(counts, Shortfall):
        assert all(held % size == 0 for held in held_by(tree, counts, level).values())
        assert counts.sum() == number * size and (counts <= room).all()


@given(trees(), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
def test_segments_inside_segments_stay_whole(given_tree, number, times, inner):
    tree, room = given_tree
    segments = (Segment(0, times * inner), Segment(2, inner))
    counts = place_on_tree(tree, room, GangAsk(count=number * times * inner, segments=segments))
    if isinstance(counts, Shortfall):
        usable = [0] * len(tree.paths[0])
        for rack, amount in enumerate(room.tolist()):
            usable[int(tree.parents[1][tree.parents[2][rack]])] += amount // inner * inner
        assert sum(amount // (times * inner) for amount in usable) < number
        return
    for level, size in ((0, times * inner), (2, inner)):
        assert all(held % size == 0 for held in held_by(tree, counts, level).values())


@given(trees())
def test_room_counted_by_columns_is_room_counted_by_recursion(given_tree):
    tree, room = given_tree
    rooms = measure(tree, room, ())
    for level in range(tree.depth):
        wanted = [room_in(tree, room, level, domain) for domain in range(len(tree.paths[level]))]
        assert rooms.tasks[level].tolist() == rooms.units[level].tolist() == wanted


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), asks)
def test_splitting_takes_the_fewest_and_leaves_the_last_as_tight_as_can_be(rooms, wanted):
    units = np.array(rooms)
    taken = split(units, units, wanted, Fill.FEWEST)
    if sum(rooms) < wanted:
        assert taken is None
        return
    fewest = next(n for n in range(len(rooms) + 1) if sum(sorted(rooms, reverse=True)[:n]) >= wanted)
    assert len(taken) == fewest and sum(amount for _, amount in taken) == wanted
    *full, (last, rest) = taken
    assert all(amount == rooms[at] for at, amount in full)
    others = [room for at, room in enumerate(rooms) if at not in {at for at, _ in full}]
    assert rooms[last] == min(room for room in others if room >= rest)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=6), asks)
def test_no_even_share_of_as_few_domains_has_a_larger_smallest_part(rooms, count):
    tree = build_tree(("rack",), [(f"r{number}",) for number in range(len(rooms))])
    counts = place_on_tree(tree, np.array(rooms), GangAsk(count=count, preferred=0, fill=Fill.EVEN))
    if isinstance(counts, Shortfall):
        assert sum(rooms) < count
        return
    parts = [part for part in counts.tolist() if part]
    fewest = next(n for n in range(1, len(rooms) + 1) if sum(sorted(rooms, reverse=True)[:n]) >= count)
    best = max(
        min(count // fewest, *chosen) for chosen in combinations(rooms, fewest) if sum(chosen) >= count
    )
    assert len(parts) == fewest and min(parts) == best


@given(trees(most=6), st.data())
def test_no_order_of_the_nodes_has_a_cheaper_ring(given_tree, data):
    tree, _ = given_tree
    rows = np.array(data.draw(st.permutations(range(len(tree.leaf_of)))), dtype=np.int64)
    ours = ring_cost(tree, in_rank_order(tree, rows).tolist())
    assert ours == min(ring_cost(tree, order) for order in permutations(rows.tolist()))


@given(trees(most=6), st.lists(st.sampled_from([None, 1000.0, 4000.0]), min_size=3, max_size=3))
def test_a_ring_takes_as_long_as_its_links_above_the_nodes_and_is_unknown_if_one_is(given_tree, speeds):
    tree, _ = given_tree
    tree = replace(tree, bandwidths_mb_s=tuple(speeds))
    paths = [tree.paths[-1][leaf] for leaf in tree.leaf_of.tolist()]
    used = [
        speed
        for here, there in zip(paths, [*paths[1:], paths[0]], strict=True)
        for level, speed in enumerate(speeds)
        if here[: level + 1] != there[: level + 1]
    ]
    found = ring_seconds(tree, range(len(paths)))
    assert found == (None if None in used else pytest.approx(sum(2 * 1000 / speed for speed in used)))


@given(trees(most=6))
def test_a_ring_costs_the_links_between_neighbours(given_tree):
    tree, _ = given_tree
    paths = [tree.paths[-1][leaf] for leaf in tree.leaf_of.tolist()]
    cost = 0
    for number, here in enumerate(paths):
        there = paths[(number + 1) % len(paths)]
        shared = next((level for level in range(3) if here[level] != there[level]), 3)
        cost += 0 if len(paths) == 1 else 2 * (1 + 3 - shared)
    assert ring_cost(tree, range(len(paths))) == cost


@st.composite
def wishing_gangs(draw):
    """Up to six nodes on a small tree, some without GPUs, and a gang with wishes."""
    places = st.sampled_from([("a", "x"), ("a", "y"), ("b", "z")])
    paths = draw(st.lists(places, min_size=1, max_size=6))
    nodes = [make_node(f"n{i}", *[H100] * draw(st.sampled_from([0, 2, 2]))) for i in range(len(paths))]
    fabric = Topology(
        (TopologyLevel("spine"), TopologyLevel("leaf")),
        tuple(NodePath(f"n{i}", path) for i, path in enumerate(paths)),
    )
    snapshot = ClusterSnapshot.of(nodes, Partitions(), 1, fabric)
    size = draw(st.sampled_from([1, 2, 3]))
    required = draw(st.sampled_from([None, "spine"]))
    level = draw(st.sampled_from(["spine", "leaf"]))
    spec = JobSpec(
        name="gang",
        nodes=size * draw(st.integers(1, 3)),
        gpus_per_node=2,
        topology_required=required,
        segment=RankSegment(size, level) if size > 1 and (required, level) != ("leaf", "spine") else None,
        spread=draw(st.sampled_from([None, Spread.EVEN])),
    )
    return snapshot, spec, paths


def any_choice(snapshot, spec, paths):
    """Brute force: every choice of nodes, every way to cut it into segments."""
    depth = {"spine": 1, "leaf": 2}
    able = [row for row, gpus in enumerate(snapshot.gpus_free.tolist()) if gpus >= 2]
    segment = spec.segment or RankSegment(1, "leaf")
    for rows in combinations(able, spec.nodes):
        together = {paths[row][: depth[spec.topology_required or "leaf"]] for row in rows}
        if spec.topology_required is not None and len(together) > 1:
            continue
        in_domain = Counter(paths[row][: depth[segment.level]] for row in rows)
        if all(number % segment.size == 0 for number in in_domain.values()):
            return True
    return False


@given(wishing_gangs())
@settings(max_examples=200, deadline=None)
def test_a_gang_is_placed_whenever_any_choice_of_nodes_would_do(situation):
    """Where counting room decides, no search is needed and no bound applies."""
    snapshot, spec, paths = situation
    assert fits(snapshot, spec) == any_choice(snapshot, spec, paths)
