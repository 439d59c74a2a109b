"""Guaranteed cells, on two pairs of nodes with four GPUs each."""

from __future__ import annotations

import pytest

from benchmarks.topology.cells import CellGang, Cells, Chain, Owner, Promise, check_gang
from gpusched.domain.errors import InvalidSpec
from gpusched.placement.tree import build_tree

PATHS = [(f"pair{gpu // 8}", f"node{gpu // 4}", f"half{gpu // 2 % 2}", f"gpu{gpu % 2}") for gpu in range(16)]
CHAIN = Chain("pair", build_tree(("pair", "node", "half", "gpu"), PATHS), 1)
PAIR, NODE, HALF = range(3)


def cells(*promises, pinned=()):
    return Cells(
        [CHAIN], [Promise(tenant, "pair", level, count) for tenant, level, count in promises], pinned
    )


def gang(tenant, *gpus, priority=1, name="g", pinned=None):
    tasks = tuple((f"{name}{number}", size) for number, size in enumerate(gpus))
    return CellGang(tenant=tenant, priority=priority, tasks=tasks, pinned=pinned)


def rows(placed):
    return [part.rows for part in placed]


def test_a_tenant_gets_its_promise_and_no_more():
    world = cells(("a", NODE, 1), ("b", PAIR, 1))
    assert rows(world.place(gang("a", 4))) == [(0, 1, 2, 3)]
    assert world.place(gang("a", 1, name="h")) is None


def test_a_cell_is_not_taken_where_it_would_break_another_promise():
    world = cells(("a", NODE, 2), ("b", PAIR, 1))
    assert rows(world.place(gang("a", 4))) == [(0, 1, 2, 3)]
    # The second node must come out of the same pair: b is owed a whole one.
    assert rows(world.place(gang("a", 4, name="h"))) == [(4, 5, 6, 7)]
    assert rows(world.place(gang("b", 4, 4, name="i"))) == [(8, 9, 10, 11), (12, 13, 14, 15)]


def test_split_cells_are_used_up_before_whole_ones_are_split():
    world = cells(("a", HALF, 3))
    for name in "ghi":
        world.place(gang("a", 2, name=name))
    used = sorted(row for held in world.held.values() for row in held.placement.rows)
    assert used == [0, 1, 2, 3, 4, 5]


def test_gpus_of_a_task_lie_in_the_smallest_cell_that_has_them():
    world = cells(("a", NODE, 1))
    world.place(gang("a", 1))
    assert rows(world.place(gang("a", 2, name="h"))) == [(2, 3)]


def test_a_gang_that_does_not_fit_changes_nothing():
    world = cells(("a", NODE, 2))
    assert world.place(gang("a", 4, 4, 4)) is None
    assert not world.held
    assert rows(world.place(gang("a", 4, 4))) == [(0, 1, 2, 3), (4, 5, 6, 7)]


def test_what_is_idle_may_be_used_without_a_guarantee_and_keeps_away_from_guaranteed_tasks():
    world = cells(("a", NODE, 1))
    world.place(gang("a", 1))
    assert rows(world.place(gang("z", 1, priority=None, name="z"))) == [(4,)]


def test_without_a_guarantee_a_task_has_to_go_when_its_cell_is_wanted():
    world = cells(("a", PAIR, 2))
    for number in range(4):
        world.place(gang("z", 4, priority=None, name=f"z{number}-"))
    wanted = gang("a", 4)
    assert world.place(wanted) is None
    assert len(world.victims(wanted)) == 1


def test_only_lower_priorities_of_the_same_tenant_may_have_to_go():
    world = cells(("a", NODE, 1), ("b", NODE, 1))
    world.place(gang("a", 4, priority=5))
    world.place(gang("b", 4, priority=0, name="b"))
    assert world.victims(gang("a", 4, priority=5, name="h")) is None
    assert world.victims(gang("a", 4, priority=6, name="h")) == ("g0",)


def test_a_cell_goes_back_when_its_last_task_ends():
    world = cells(("a", NODE, 1), ("b", NODE, 3))
    world.place(gang("a", 2, 2))
    world.release("g0")
    world.release("g1")
    assert world.place(gang("b", 4, 4, 4, name="b")) is not None
    assert world.place(gang("a", 4, name="h")) is not None


def test_a_pinned_cell_is_its_tenants_alone():
    world = cells(
        ("a", NODE, 2),
        pinned=[Owner(tenant="a", chain="pair", level=NODE, domain=0, pinned="mine")],
    )
    assert rows(world.place(gang("a", 4))) == [(4, 5, 6, 7)]
    assert rows(world.place(gang("a", 4, pinned="mine", name="h"))) == [(0, 1, 2, 3)]


@pytest.mark.parametrize(
    ("priority", "members", "sizes", "words"),
    [
        (1001, [(1, 1)], [1], "1001 is outside 0 to 1000"),
        (1, [(1, 8)], [2], "declares 0 tasks of 2 GPUs"),
        (1, [(1, 8)], [8, 8], "declares 1 tasks of 8 GPUs, not 2"),
    ],
)
def test_a_gang_that_contradicts_itself_is_refused(priority, members, sizes, words):
    with pytest.raises(InvalidSpec, match=words):
        check_gang(priority, members, sizes)
