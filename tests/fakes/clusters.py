"""Small clusters for tests: nodes in one call, snapshots, and hypothesis strategies for random ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from hypothesis import strategies as st

from benchmarks.nodes import up_node
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import Device, Node, PciAncestor, PeerLink, Schedulability
from gpusched.domain.partition import Partition, Partitions
from gpusched.placement.placement import Placement
from gpusched.placement.snapshot import ClusterSnapshot
from gpusched.policy.plan import RunningEntry

H100, A100, A10 = "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB", "NVIDIA A10"
MEMORY = {H100: 80 << 30, A100: 40 << 30, A10: 24 << 30}
SLICE = "NVIDIA A100-SXM4-40GB MIG 1g.5gb"
LICENSES = (("matlab", 3), ("vcs", 1))
NVLINK_MB_S, PCIE_MB_S = 450_000, 32_000


def make_node(
    name: str,
    *models: str,
    cpus: int = 16,
    memory_bytes: int = 64 << 30,
    island: int | None = None,
    numa_nodes: int = 1,
    shareable: int = 0,
    disk_bytes: int | None = None,
    gres: tuple[tuple[str, int], ...] = (),
    reachable: bool = True,
    schedulability: Schedulability = Schedulability.OPEN,
) -> Node:
    """A node with one device per entry of ``models``, NVLinked in islands of that size (None: not at all).

    The first ``shareable`` of them may be shared; a model like "NVIDIA A100 MIG 1g.5gb" is a slice.
    """
    uuids = [f"GPU-{name}-{column}" for column in range(len(models))]
    numa_of = [column * numa_nodes // max(1, len(models)) for column in range(len(models))]
    numa_cpus = tuple(
        tuple(range(cpus * numa // numa_nodes, cpus * (numa + 1) // numa_nodes)) for numa in range(numa_nodes)
    )

    def link(here: int, there: int) -> PeerLink:
        is_linked = island is not None and here // island == there // island
        ancestor = PciAncestor.NUMA_NODE if numa_of[here] == numa_of[there] else PciAncestor.SYSTEM
        return PeerLink(
            uuids[there], 18 if is_linked else 0, NVLINK_MB_S if is_linked else PCIE_MB_S, ancestor
        )

    devices = tuple(
        Device(
            uuid=uuids[column],
            model=model,
            memory_bytes=5 << 30 if model == SLICE else MEMORY.get(model),
            numa_node=numa_of[column],
            mig_profile=model.partition(" MIG ")[2] or None,
            shareable=column < shareable,
            cpu_ids=numa_cpus[numa_of[column]],
            peers=tuple(link(column, other) for other in range(len(models)) if other != column),
        )
        for column, model in enumerate(models)
    )
    node = up_node(name, devices, cpus=cpus, memory_bytes=memory_bytes)
    facts = replace(node.facts, numa_cpu_ids=numa_cpus, disk_bytes=disk_bytes, gres=gres)
    return replace(node, facts=facts, reachable=reachable, schedulability=schedulability)


def snapshot_of(*nodes: Node, partitions: Partitions | None = None) -> ClusterSnapshot:
    return ClusterSnapshot.of(nodes, partitions or Partitions(), 1, licenses=LICENSES)


def take_all(snapshot: ClusterSnapshot, placement: Placement | RunningEntry) -> None:
    snapshot.take_licenses(placement.licenses)
    for part in placement.nodes:
        snapshot.take(part)


def give_all_back(snapshot: ClusterSnapshot, placement: Placement | RunningEntry) -> None:
    snapshot.give_back_licenses(placement.licenses)
    for part in placement.nodes:
        snapshot.give_back(part)


def columns_of(snapshot: ClusterSnapshot) -> tuple[object, ...]:
    """Everything that ``take`` and ``give_back`` may change, as one comparable value."""
    return (
        snapshot.milli_free.tolist(),
        snapshot.gpus_free.tolist(),
        snapshot.gpus_free_by_class.tolist(),
        snapshot.cpus_free.tolist(),
        snapshot.memory_free.tolist(),
        tuple(snapshot.cpu_bits_free),
        snapshot.counters_free.tolist(),
        dict(snapshot.licenses_free),
    )


TWO_PARTITIONS = Partitions((Partition(name="main"), Partition(name="odd", nodes=("n1", "n3", "n5"))))


@st.composite
def node_lists(draw: st.DrawFn, *, most: int = 6, always_up: bool = False) -> list[Node]:
    """Up to ``most`` nodes n0, n1, ... of mixed models, sizes and states."""
    states = st.just(Schedulability.OPEN) if always_up else st.sampled_from(Schedulability)
    return [
        make_node(
            f"n{number}",
            *draw(st.lists(st.sampled_from([H100, A100, A10, SLICE, "unknown"]), max_size=5)),
            cpus=draw(st.integers(1, 12)),
            memory_bytes=draw(st.integers(0, 8)),
            island=draw(st.sampled_from([None, 1, 2, 4])),
            numa_nodes=draw(st.integers(1, 2)),
            shareable=draw(st.integers(0, 4)),
            disk_bytes=draw(st.sampled_from([None, 0, 5])),
            gres=draw(st.sampled_from([(), (("fpga", 2),), (("fpga", 1), ("nic", 3))])),
            reachable=always_up or draw(st.booleans()),
            schedulability=draw(states),
        )
        for number in range(draw(st.integers(0, most)))
    ]


SHARES = st.sampled_from([1000, 1000, 250, 300, 500, 999, 1])


@st.composite
def specs(draw: st.DrawFn, *, plain: bool = False) -> JobSpec:
    """Requests that a small random cluster may or may not hold. Plain ones name no model or node."""
    names = st.lists(st.sampled_from([f"n{number}" for number in range(7)]), max_size=3).map(tuple)
    constraints: dict[str, object] = {}
    if not plain:
        constraints = {
            "gpu_model": draw(st.sampled_from([None, "h100", "A10", "NVIDIA", "B200"])),
            "gpu_memory_bytes": draw(st.sampled_from([None, 30 << 30, 80 << 30])),
            "partition": draw(st.sampled_from([None, "main", "odd", "nowhere"])),
            "nodelist": draw(st.one_of(st.just(()), names)),
            "exclude": draw(st.one_of(st.just(()), names)),
        }
    gpus = draw(st.integers(0, 4))
    return JobSpec(
        name="job",
        command=("true",),
        nodes=draw(st.integers(1, 3)),
        gpus_per_node=gpus,
        gpu_milli=draw(SHARES) if gpus == 1 else 1000,
        mig_profile=draw(st.sampled_from([None, None, None, "1g.5gb", "2g.10gb"])) if gpus else None,
        disk_bytes=draw(st.sampled_from([0, 0, 2, 5])),
        gres=draw(st.sampled_from([(), (), (("fpga", 1),), (("nic", 2), ("fpga", 1)), (("none", 1),)])),
        licenses=draw(st.sampled_from([(), (), (("matlab", 2),), (("vcs", 1), ("matlab", 1))])),
        cpus_per_task=draw(st.integers(1, 6)),
        memory_bytes=draw(st.integers(0, 5)),
        time_limit_s=draw(st.sampled_from([None, 10, 20, 50])),
        **constraints,  # type: ignore[arg-type]
    )


def occupy(snapshot: ClusterSnapshot, jobs: Iterable[JobSpec], place) -> Sequence[Placement]:  # type: ignore[no-untyped-def]
    """Place and hold each job that fits; returns what is held."""
    from gpusched.domain.errors import GpuschedError

    held = []
    for spec in jobs:
        try:
            placement = place(snapshot, spec)
        except GpuschedError:
            continue
        take_all(snapshot, placement)
        held.append(placement)
    return held
