from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gpusched.domain.allocation import Allocation, GrantedDevice, NodeAllocation
from gpusched.domain.identity import Identity
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.launch_plan import LaunchPlan
from gpusched.launch.plan import make_launch_plan

ADA = Identity("ada", 1000, 1000)


def allocation_for(
    spec: JobSpec, *, declared: bool = False, uuid: str = "GPU", pinnable: bool = True
) -> Allocation:
    prefix = "DECLARED" if declared else uuid
    return Allocation(
        nodes=tuple(
            NodeAllocation(
                node=f"gpu{n:02}",
                address=f"10.0.0.{n}",
                interface=f"eth{n}",
                devices=tuple(
                    GrantedDevice(f"{prefix}-{n}-{d}", "NVIDIA H100 80GB HBM3", declared)
                    for d in range(spec.gpus_per_node)
                ),
                cpu_ids=tuple(range(8, 8 + spec.cpus_per_node)),
                cpus_pinnable=pinnable,
                memory_bytes=spec.memory_bytes,
            )
            for n in range(1, spec.nodes + 1)
        ),
        master_port=29_513,
        granted_at_us=1_800_000_000_250_000,
    )


@pytest.fixture
def plan_of() -> Callable[..., LaunchPlan]:
    """Make the plan of a 2x2 job with these changes to its spec."""

    def make(
        *,
        declared: bool = False,
        uuid: str = "GPU",
        pinnable: bool = True,
        epoch: int = 1,
        **changes: Any,
    ) -> LaunchPlan:
        spec = JobSpec(
            name="digits",
            command=("python", "train.py", "--epochs", "3"),
            workdir="/home/ada/digits",
            nodes=2,
            gpus_per_node=2,
            tasks_per_node=2,
            cpus_per_task=2,
            memory_bytes=2 << 30,
            time_limit_s=600,
        )
        spec = replace(spec, **changes)
        allocation = allocation_for(spec, declared=declared, uuid=uuid, pinnable=pinnable)
        return make_launch_plan(17, epoch, spec, ADA, allocation, cluster="lab")

    return make
