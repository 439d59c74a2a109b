"""A plan into events: the cluster must still be the one that the plan was made on."""

from __future__ import annotations

from gpusched.domain.allocation import Allocation, GrantedDevice, NodeAllocation
from gpusched.domain.errors import InsufficientResources, StalePlan
from gpusched.domain.events import JobAllocated
from gpusched.domain.ids import AttemptId
from gpusched.engine.state import ClusterState
from gpusched.engine.transaction import Transaction
from gpusched.placement.placement import NodePlacement, Placement
from gpusched.policy.plan import Plan


def commit_plan(tx: Transaction, plan: Plan) -> None:
    """Grant every start of ``plan``.

    Raises:
        StalePlan: The cluster changed since the plan was made; nothing was recorded.
    """
    state = tx.state
    if plan.generation != state.generation:
        raise StalePlan(f"plan of generation {plan.generation}, cluster is at {state.generation}: plan again")
    for start in plan.starts:
        job = state.jobs[start.job_id]
        attempt = AttemptId(job.job_id, job.next_epoch)
        tx.record(
            JobAllocated(
                job_id=job.job_id,
                epoch=job.next_epoch,
                allocation=grant(state, attempt, start.placement, tx.now_us),
            )
        )


def grant(state: ClusterState, attempt: AttemptId, placement: Placement, now_us: int) -> Allocation:
    """Fill a proposal with what launching and billing need to know."""
    nodes = tuple(_grant_node(state, part) for part in placement.nodes)
    return Allocation(
        nodes=nodes,
        master_port=_free_port(state, nodes[0].address, attempt),
        granted_at_us=now_us,
    )


def _grant_node(state: ClusterState, part: NodePlacement) -> NodeAllocation:
    facts = state.nodes[part.node].facts
    fitted = {device.uuid: device for device in facts.devices}
    return NodeAllocation(
        node=part.node,
        address=facts.address,
        interface=facts.interface,
        devices=tuple(
            GrantedDevice(uuid, fitted[uuid].model, fitted[uuid].declared, part.gpu_milli)
            for uuid in part.devices
        ),
        cpu_ids=part.cpu_ids,
        cpus_pinnable=facts.cpus_pinnable,
        memory_bytes=part.memory_bytes,
    )


def _free_port(state: ClusterState, address: str, attempt: AttemptId) -> int:
    """The search starts at a port that moves with job and attempt: one just freed rests a while, and what
    was started again does not meet a foreign program on the same port once more."""
    ports = state.master_ports
    first = attempt.job_id + attempt.epoch
    for step in range(len(ports)):
        port = ports[(first + step) % len(ports)]
        if (address, port) not in state.leased_ports:
            return port
    raise InsufficientResources(
        f"all {len(ports)} rendezvous ports of {address} are leased: widen launch.master_ports"
    )
