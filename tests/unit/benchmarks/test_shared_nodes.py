"""What is refused in words where GPUs are shared by the pods of a gang of unlike components."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.topology.shared_nodes import WHOLE, Shape, SharedNodes
from gpusched.domain.errors import InfeasibleRequest, StalePlan


def part(milli, cpus=1):
    return Shape(cpu_milli=cpus * 1000, gpus=1, gpu_milli=milli)


def whole(gpus, cpus):
    return Shape(cpu_milli=cpus * 1000, gpus=gpus, gpu_milli=WHOLE)


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
    nodes = SharedNodes(
        models=("A",), cpu_milli=np.array([8000]), memory_mib=np.array([1 << 20]), gpus=np.array([2])
    )
    nodes.take(0, part(500), (0,))
    before = nodes.gpu.tolist(), nodes.cpu.tolist(), nodes.whole.tolist()
    with pytest.raises(StalePlan, match=named):
        nodes.take(0, shape, devices)
    assert (nodes.gpu.tolist(), nodes.cpu.tolist(), nodes.whole.tolist()) == before
