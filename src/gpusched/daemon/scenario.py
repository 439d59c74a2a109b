"""What a simulation starts from: nodes, jobs and settings; and what if these were others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import ceil

from gpusched.agent.declared import declare_devices
from gpusched.daemon.traces import TraceJob
from gpusched.domain.errors import NotFound
from gpusched.domain.identity import Identity, Principal, Role
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.job_spec import JobSpec
from gpusched.domain.node import NodeFacts
from gpusched.engine.core import EngineSettings
from gpusched.engine.inputs import NodeConnected, NodeHeard, NodeSilent
from gpusched.engine.simulation import Arrival, Happening
from gpusched.policy.order import Order
from gpusched.policy.quota import Quotas

_EPOCH_US = 1_577_836_800_000_000  # 2020-01-01: when virtual time begins, so that stamps read as dates
_NAMES_SHOWN = 8


@dataclass(frozen=True, slots=True)
class NamedArrival:
    """A job to come, and what it is called in the files it came from."""

    name: str
    arrival: Arrival


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """All that a simulation depends on."""

    nodes: tuple[NodeFacts, ...]  # that are there from the start
    jobs: tuple[NamedArrival, ...]  # in order of arrival
    happenings: tuple[Happening, ...] = ()
    settings: EngineSettings

    @property
    def all_nodes(self) -> dict[NodeName, NodeFacts]:
        """Every node that is ever there."""
        joining = (each.fact.facts for each in self.happenings if isinstance(each.fact, NodeConnected))
        return {facts.name: facts for facts in (*self.nodes, *joining)}

    @property
    def gpus(self) -> int:
        """On all nodes that are ever there."""
        return sum(len(facts.devices) for facts in self.all_nodes.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """Equal nodes, and how many jobs a cycle looks at."""

    nodes: int
    devices: str  # of each node, as ``gpusched agent --devices`` takes them
    cpus: int
    memory_bytes: int
    depth_max: int  # pending jobs that a cycle looks at

    def facts(self) -> tuple[NodeFacts, ...]:
        """The nodes.

        Raises:
            InvalidSpec: The devices do not read as devices.
        """
        return tuple(self._node(NodeName(f"n{number + 1:05}")) for number in range(self.nodes))

    def _node(self, name: NodeName) -> NodeFacts:
        return NodeFacts(
            name=name,
            boot_id=f"simulated-{name}",
            agent_version="simulated",
            address=str(name),
            interface=None,
            cpu_ids=tuple(range(self.cpus)),
            cpus_pinnable=False,
            memory_bytes=self.memory_bytes,
            devices=declare_devices(self.devices, name),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What if: other nodes, another order, other quotas. What is not given stays."""

    add_nodes: int = 0
    devices: str | None = None  # of the nodes added; None: as the first node has them
    without: frozenset[NodeName] = frozenset()
    order: Order | None = None
    quotas: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_any(self) -> bool:
        """Whether anything is to be other than it was."""
        return bool(self.add_nodes or self.without or self.order is not None or self.quotas)

    def applied(self, scenario: Scenario) -> Scenario:
        """The same jobs on the other cluster.

        Raises:
            NotFound: A node that is to go was never there.
        """
        known = scenario.all_nodes
        if missing := sorted(self.without - known.keys()):
            names = ", ".join(sorted(known)[:_NAMES_SHOWN])
            raise NotFound(f"no node {missing[0]!r} to do without; there are {len(known)}: {names} ...")
        settings = scenario.settings
        if self.order is not None:
            settings = replace(settings, ordering=replace(settings.ordering, order=self.order))
        return replace(
            scenario,
            nodes=(
                *(facts for facts in scenario.nodes if facts.name not in self.without),
                *self._added(known),
            ),
            happenings=tuple(each for each in scenario.happenings if _node_of(each) not in self.without),
            settings=replace(settings, quotas=Quotas({**settings.quotas.gpus_max, **self.quotas})),
        )

    def _added(self, known: Mapping[NodeName, NodeFacts]) -> Iterator[NodeFacts]:
        first = min(known.values(), key=lambda facts: facts.name)
        for number in range(1, self.add_nodes + 1):
            twin = _twin(first, NodeName(f"{first.name}-added{number:04}"))
            if self.devices is not None:
                twin = replace(twin, devices=declare_devices(self.devices, twin.name))
            yield twin


def _twin(facts: NodeFacts, name: NodeName) -> NodeFacts:
    """Another node like this one; its devices are others of the same kinds, wired alike."""
    uuid = {device.uuid: DeviceUuid(f"{device.uuid}-{name}") for device in facts.devices}
    devices = tuple(
        replace(
            device,
            uuid=uuid[device.uuid],
            peers=tuple(replace(link, peer=uuid.get(link.peer, link.peer)) for link in device.peers),
        )
        for device in facts.devices
    )
    return replace(facts, name=name, boot_id=f"simulated-{name}", address=str(name), devices=devices)


def _node_of(happening: Happening) -> NodeName | None:
    match happening.fact:
        case NodeConnected(facts=facts):
            return facts.name
        case NodeSilent(node=node) | NodeHeard(node=node):
            return node
        case _:
            return None


def arrival_of(job: TraceJob, gpus_per_node: int, limit_s: int | None) -> NamedArrival:
    """A job of a trace as it would be submitted here."""
    nodes, per_node = shape_of(job, gpus_per_node)
    spec = JobSpec(
        name=" ".join(job.workload) or "trace",
        command=("true",),
        nodes=nodes,
        gpus_per_node=per_node,
        cpus_per_task=1 if job.cpus is None else max(1, job.cpus // nodes),
        memory_bytes=0 if job.memory_bytes is None else job.memory_bytes // nodes,
        time_limit_s=limit_s,
        account=job.account or "default",
    )
    who = Principal(Identity(job.user or "trace", 1, 1), frozenset({Role.USER}))
    at_us = _EPOCH_US + round(job.submit_s * 1e6)
    return NamedArrival(
        job.name, Arrival(at_us=at_us, who=who, spec=spec, run_us=round(job.duration_s * 1e6))
    )


def shape_of(job: TraceJob, gpus_per_node: int) -> tuple[int, int]:
    """Nodes, and GPUs on each: the fewest nodes that can give the same number of GPUs each.

    What the trace says of nodes counts where it divides the GPUs. Without GPUs the nodes are kept.
    """
    if job.nodes is not None and job.gpus % job.nodes == 0:
        return job.nodes, job.gpus // job.nodes
    fewest = max(1, ceil(job.gpus / max(1, gpus_per_node)))
    nodes = next(count for count in range(fewest, max(fewest, job.gpus) + 1) if job.gpus % count == 0)
    return nodes, job.gpus // nodes
