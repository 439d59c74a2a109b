"""Where requests for shared GPUs go, and what is refused in words."""

from __future__ import annotations

import numpy as np
import pytest

from gpusched.domain.errors import InfeasibleRequest, StalePlan
from gpusched.placement.fragmentation import RequestMix
from gpusched.placement.shared_columns import Packer
from gpusched.placement.shared_nodes import WHOLE, Shape, SharedNodes
from gpusched.placement.shared_packing import FutureValue


def cluster(*nodes):
    """Each node: model, CPUs, GPUs."""
    models, cpus, gpus = zip(*nodes, strict=True)
    memory = np.full(len(nodes), 1 << 20)
    return SharedNodes(models=models, cpu_milli=np.array(cpus) * 1000, memory_mib=memory, gpus=np.array(gpus))


def part(milli, cpus=1, **more):
    return Shape(cpu_milli=cpus * 1000, gpus=1, gpu_milli=milli, **more)


def whole(gpus, cpus, **more):
    return Shape(cpu_milli=cpus * 1000, gpus=gpus, gpu_milli=WHOLE, **more)


def packer(nodes, *mix):
    return Packer(nodes, FutureValue(nodes, RequestMix.of(mix)))


def test_a_part_completes_a_gpu_rather_than_opening_another():
    nodes = cluster(("A", 64, 4))
    take = packer(nodes, part(700), part(300), whole(1, 8))
    assert take.place(part(700)) == (0, (0,))
    assert take.place(part(300)) == (0, (0,))


def test_a_part_leaves_the_gap_that_usual_requests_fill():
    nodes = cluster(("A", 64, 2))
    take = packer(nodes, part(600), part(400), part(500))
    take.place(part(600))
    take.place(part(500))
    assert take.place(part(400)) == (0, (0,))
    assert take.place(part(500)) == (0, (1,))


def test_a_request_for_many_cpus_goes_where_cpus_are_plenty():
    nodes = cluster(("A", 16, 2), ("A", 64, 2))
    take = packer(nodes, whole(1, 8), whole(1, 32))
    assert take.place(whole(1, 8)) == (0, (0,))
    assert take.place(whole(1, 16))[0] == 1


def test_a_request_without_gpu_leaves_the_cpus_that_gpus_need():
    nodes = cluster(("A", 16, 4), ("A", 64, 2))
    take = packer(nodes, whole(1, 4), Shape(cpu_milli=8000))
    assert take.place(Shape(cpu_milli=8000))[0] == 1


def test_a_request_for_any_model_leaves_the_scarce_one_free():
    nodes = cluster(("scarce", 64, 1), ("plenty", 64, 8))
    take = packer(nodes, whole(1, 4), whole(1, 4, models=("scarce",)))
    assert take.place(whole(1, 4))[0] == 1
    assert take.place(whole(1, 4, models=("scarce",))) == (0, (0,))


def test_whole_nodes_stay_whole_for_wide_requests():
    nodes = cluster(("A", 64, 4), ("A", 64, 4))
    take = packer(nodes, whole(1, 4), whole(4, 16))
    first, _ = take.place(whole(1, 4))
    assert take.place(whole(1, 4))[0] == first
    assert take.place(whole(4, 16)) == (1 - first, (0, 1, 2, 3))


def test_equal_nodes_are_taken_in_order():
    nodes = cluster(("A", 64, 1), ("A", 64, 1), ("A", 64, 1))
    take = packer(nodes, whole(1, 4))
    assert [take.place(whole(1, 4))[0] for _ in range(3)] == [0, 1, 2]
    assert take.place(whole(1, 4)) is None


def test_memory_is_a_limit_though_no_score_knows_it():
    nodes = cluster(("A", 64, 2), ("A", 64, 2))
    nodes.memory[:] = (10, 100)
    take = packer(nodes, part(500))
    assert take.place(part(500, memory_mib=50))[0] == 1
    assert take.place(part(500, memory_mib=5000)) is None


def test_a_mix_without_gpus_and_an_unknown_model_are_no_trouble():
    nodes = cluster(("A", 8, 1))
    take = packer(nodes, Shape(cpu_milli=1000))
    assert take.place(part(500, models=("B",))) is None
    assert take.place(part(500)) == (0, (0,))


def test_the_mix_keeps_the_most_frequent_shapes_that_cover_what_is_asked():
    mix = RequestMix.of([part(500)] * 90 + [part(100)] * 6 + [part(200)] * 4, cover=0.95)
    assert mix.shapes == (part(500), part(100))
    assert mix.shares == pytest.approx((90 / 96, 6 / 96))


@pytest.mark.parametrize(("gpus", "milli"), [(2, 500), (1, 0), (1, 1001), (0, 300), (-1, 1000)])
def test_a_share_that_no_gpu_can_give_is_refused(gpus, milli):
    with pytest.raises(InfeasibleRequest, match="ask for"):
        Shape(cpu_milli=0, gpus=gpus, gpu_milli=milli)


@pytest.mark.parametrize(
    ("shape", "devices", "named"),
    [
        (part(600), (0,), "GPU 0"),
        (whole(1, 99), (1,), "CPU"),
        (whole(2, 1), (1,), "1 devices named for 2"),
        (part(100), (7,), "GPU 7"),
    ],
)
def test_taking_what_is_not_free_changes_nothing(shape, devices, named):
    nodes = cluster(("A", 8, 2))
    nodes.take(0, part(500), (0,))
    before = nodes.gpu.tolist(), nodes.cpu.tolist(), nodes.whole.tolist()
    with pytest.raises(StalePlan, match=named):
        nodes.take(0, shape, devices)
    assert (nodes.gpu.tolist(), nodes.cpu.tolist(), nodes.whole.tolist()) == before
