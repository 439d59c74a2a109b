from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fakes.clusters import H100, make_node, snapshot_of

from gpusched.placement.devices import choose_cpus, choose_devices


def shape_of(*models: str, **wiring: int | None):
    return snapshot_of(make_node("n0", *models, **wiring)).inventory.shapes[0]


TWO_ISLANDS = {"island": 4, "numa_nodes": 2}


@pytest.mark.parametrize(
    ("free", "count", "chosen"),
    [
        ((0, 1, 2, 3, 4, 5, 6, 7), 4, (0, 1, 2, 3)),  # a whole island
        ((2, 3, 4, 5, 6, 7), 2, (2, 3)),  # the broken island first, the whole one stays whole
        ((3, 4, 5, 6, 7), 1, (3,)),
        ((0, 1, 2, 4, 5, 6, 7), 4, (4, 5, 6, 7)),  # the only island that can
        ((0, 1, 4, 5), 3, (0, 1, 4)),  # across islands only where it must
        ((1, 2, 5, 6), 4, (1, 2, 5, 6)),
        ((0, 1), 0, ()),
    ],
)
def test_devices_of_two_nvlink_islands_are_taken_island_by_island(free, count, chosen):
    assert choose_devices(shape_of(*[H100] * 8, **TWO_ISLANDS), free, count) == chosen


def test_devices_without_nvlink_come_from_one_numa_node():
    assert choose_devices(shape_of(*[H100] * 4, numa_nodes=2), (0, 2, 3), 2) == (2, 3)


def test_single_device_without_nvlink_leaves_a_pair_on_one_numa_node():
    assert choose_devices(shape_of(*[H100] * 4, numa_nodes=2), (0, 2, 3), 1) == (0,)


def test_consecutive_ranks_are_neighbours_where_columns_are_not():
    wired = shape_of(*[H100] * 4)
    pairs = np.ones((4, 4))
    pairs[[0, 2, 1, 3], [2, 0, 3, 1]] = 9
    assert choose_devices(replace(wired, bandwidth_mb_s=pairs), (0, 1, 2, 3), 4) == (0, 2, 1, 3)


def test_more_than_sixteen_devices_are_chosen_without_leaving_an_island():
    shape = shape_of(*[H100] * 24, island=8)
    assert choose_devices(shape, tuple(range(4, 24)), 8) in {tuple(range(8, 16)), tuple(range(16, 24))}


def test_each_device_gets_its_share_of_cpus_near_it_in_rank_order():
    assert choose_cpus(0xFF, (0xF0, 0x0F), (), 4) == (4, 5, 0, 1)


def test_cpus_come_from_elsewhere_when_the_near_ones_are_busy():
    assert choose_cpus(0b1110_0001, (0x0F,), (), 3) == (0, 5, 6)


def test_job_without_devices_takes_cpus_of_the_fullest_numa_node_that_holds_them():
    assert choose_cpus(0b1111_0110, (), (0x0F, 0xF0), 2) == (1, 2)
    assert choose_cpus(0b1111_0110, (), (0x0F, 0xF0), 3) == (4, 5, 6)
    assert choose_cpus(0b1111_0110, (), (0x0F, 0xF0), 5) == (1, 2, 4, 5, 6)
