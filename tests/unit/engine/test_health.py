"""A sick device or node, from the agent's first word to its return: every step an event."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster import BOB, OPERATOR, Cluster, facts, spec

from gpusched.daemon.xid_table import default_xids
from gpusched.domain.commands import RepairNode
from gpusched.domain.errors import WrongState
from gpusched.domain.events import (
    AttemptStopping,
    BreakerTripped,
    HealthCleared,
    HealthJudged,
    HealthReported,
    NodeDrainStarted,
    NodeResumed,
    OutageBegan,
    OutagesEnded,
    RepairEnded,
    RepairStarted,
)
from gpusched.domain.health import Breaker, Condition, HealthObserved, HealthRules, Sighting, Signal
from gpusched.domain.ids import DeviceUuid, NodeName
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.node import Schedulability
from gpusched.engine.core import EngineSettings
from gpusched.engine.fold import fold
from gpusched.engine.inputs import (
    CommandNotKnown,
    CordonNode,
    HealthDue,
    NodeConnected,
    Reported,
    ResetBreaker,
    ResumeNode,
)
from gpusched.engine.state import ClusterState

N1 = NodeName("n1")
GPU = DeviceUuid("GPU-n1-0")
DISK = Condition(signal=Signal.DISK_FULL, detail="/ is 97 % full")


def xid(code: int, *devices: DeviceUuid, words: str = "said the driver") -> Condition:
    return Condition(signal=Signal.XID, code=code, devices=devices, detail=words)


class Clinic(Cluster):
    """A cluster whose nodes say how they are."""

    def __init__(self, nodes: int = 3, breaker: Breaker | None = None) -> None:
        rules = HealthRules(xids=default_xids(), breaker=breaker or Breaker(nodes=100))
        super().__init__(EngineSettings(health=rules))
        self.join(*(facts(f"n{i}") for i in range(1, nodes + 1)))
        self._observed_us = 0

    def see(self, *conditions: Condition, node: NodeName = N1, repeat: bool = False) -> None:
        """The agent saw these just now, and tells it, perhaps twice."""
        sightings = []
        for condition in conditions:
            self._observed_us += 1
            sightings.append(Sighting(observed_us=self._observed_us, condition=condition))
        self.tell(node, sightings=tuple(sightings), times=2 if repeat else 1)

    def tell(
        self,
        node: NodeName,
        *conditions: Condition,
        sightings: tuple[Sighting, ...] = (),
        is_complete: bool | None = None,
        times: int = 1,
    ) -> None:
        """The agent's picture; complete unless it only tells of sightings."""
        observed = HealthObserved(
            node=node,
            boot_id=self.node(node).facts.boot_id,
            conditions=conditions,
            sightings=sightings,
            is_complete=not sightings if is_complete is None else is_complete,
        )
        for _ in range(times):
            self.step(facts_=[Reported(node, observed)])

    def node(self, name: NodeName = N1):
        return self.engine.state.nodes[name]

    def repaired(self, *failures: str, node: NodeName = N1) -> None:
        repair = self.node(node).health.repair
        assert repair is not None
        answer = RepairEnded(node=node, number=repair.number, failures=failures)
        self.step(facts_=[Reported(node, answer), Reported(node, answer)])

    def run(self, **changes: object) -> int:
        (job_id,) = self.submit(spec(**changes))
        self.cycle()
        self.start_all(job_id)
        assert self.job(job_id).state is JobState.RUNNING
        return job_id

    def kinds(self, since: int = 0) -> list[type]:
        return [type(recorded.event) for recorded in self.log[since:]]

    def free_gpus(self, node: NodeName = N1) -> int:
        snapshot = self.engine.state.snapshot
        return int(snapshot.gpus_free[snapshot.index[node]])

    def ask(self, kind: type, **body: object) -> object:
        (answer,) = self.step([kind(who=OPERATOR, request_id=self.request_id(), **body)])
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_a_device_that_needs_a_reset_goes_out_alone_and_comes_back_after_its_check() -> None:
    clinic = Clinic()
    before = len(clinic.log)
    clinic.see(xid(95, GPU), repeat=True)
    assert clinic.kinds(before) == [HealthReported, HealthJudged, OutageBegan, RepairStarted]
    assert clinic.node().schedulability is Schedulability.OPEN
    assert clinic.free_gpus() == 3
    order = clinic.batches[-2].queued[-1].command
    assert order == RepairNode(node=N1, number=1, reset=(GPU,), check=(GPU,))
    before = len(clinic.log)
    clinic.repaired()
    assert clinic.kinds(before) == [RepairEnded, OutagesEnded]
    assert clinic.free_gpus() == 4
    assert clinic.node().health.findings == ()


def test_jobs_on_the_sick_device_end_and_run_again_elsewhere_and_others_go_on() -> None:
    clinic = Clinic(nodes=2)
    sick, well = clinic.run(gpus_per_node=1, requeue=True), clinic.run(gpus_per_node=1, requeue=True)
    assert clinic.job(sick).attempt.node_names == clinic.job(well).attempt.node_names == (N1,)
    (device,) = clinic.job(sick).attempt.allocation.nodes[0].devices
    clinic.see(xid(95, device.uuid))
    assert clinic.job(sick).attempt.stop_reason is EndReason.NODE_UNHEALTHY
    assert clinic.job(well).state is JobState.RUNNING
    assert clinic.node().health.repair is None  # the device is not free yet
    clinic.end_all(sick)
    assert clinic.node().health.repair is not None
    assert clinic.job(sick).state is JobState.PENDING
    assert clinic.job(sick).failed_on == (N1,)
    clinic.cycle()
    assert clinic.job(sick).attempt.node_names == (NodeName("n2"),)


def test_a_retry_goes_back_where_it_failed_if_nothing_else_could_hold_it() -> None:
    clinic = Clinic(nodes=1)
    job_id = clinic.run(gpus_per_node=4, requeue=True)
    clinic.see(xid(95, GPU))
    clinic.end_all(job_id)
    clinic.cycle()
    assert clinic.job(job_id).state is JobState.PENDING  # one of four devices is out
    clinic.repaired()
    clinic.cycle()
    assert clinic.job(job_id).attempt.node_names == (N1,)


def test_a_pending_remap_lets_the_job_finish_and_resets_when_empty() -> None:
    clinic = Clinic()
    job_id = clinic.run(gpus_per_node=1)
    (device,) = clinic.job(job_id).attempt.allocation.nodes[0].devices
    clinic.tell(N1, Condition(signal=Signal.REMAP_PENDING, detail="one row", devices=(device.uuid,)))
    assert clinic.job(job_id).state is JobState.RUNNING
    assert clinic.node().health.repair is None
    clinic.end_all(job_id)
    assert clinic.job(job_id).state is JobState.COMPLETED
    assert clinic.node().health.repair.devices == (device.uuid,)
    assert clinic.free_gpus() == 3


def test_a_card_off_the_bus_takes_the_node_and_only_a_reboot_brings_it_back() -> None:
    clinic = Clinic()
    job_id = clinic.run(gpus_per_node=1, requeue=True)
    before = len(clinic.log)
    clinic.see(xid(79, GPU))
    assert clinic.kinds(before) == [
        HealthReported,
        HealthJudged,
        OutageBegan,
        NodeDrainStarted,
        AttemptStopping,
    ]
    clinic.end_all(job_id)
    assert clinic.node().schedulability is Schedulability.DRAINED
    assert clinic.node().health.repair is None
    rebooted = replace(facts("n1"), boot_id="next")
    clinic.step(facts_=[NodeConnected(rebooted, ())])
    assert clinic.node().health.repair.devices == ()  # a check is all it needs
    clinic.repaired()
    assert clinic.node().schedulability is Schedulability.OPEN


def test_a_full_disk_drains_and_the_node_returns_when_there_is_room_again() -> None:
    clinic = Clinic()
    job_id = clinic.run(gpus_per_node=1)
    clinic.tell(N1, DISK, times=3)
    assert clinic.kinds().count(HealthReported) == 1
    assert clinic.node().schedulability is Schedulability.DRAINING
    assert clinic.node().reason == "DiskFull: / is 97 % full"
    assert clinic.job(job_id).state is JobState.RUNNING
    clinic.end_all(job_id)
    assert clinic.node().schedulability is Schedulability.DRAINED
    assert clinic.node().health.repair is None
    before = len(clinic.log)
    clinic.tell(N1)
    assert clinic.kinds(before) == [HealthCleared, RepairStarted]
    clinic.repaired()
    assert clinic.kinds(before)[2:] == [RepairEnded, OutagesEnded, NodeResumed]
    assert clinic.node().schedulability is Schedulability.OPEN


def test_an_agent_that_has_only_begun_to_look_clears_nothing() -> None:
    clinic = Clinic()
    clinic.tell(N1, DISK)
    clinic.tell(N1, is_complete=False)
    assert [finding.condition for finding in clinic.node().health.findings] == [DISK]


def test_a_check_that_fails_keeps_the_node_out_until_something_changes() -> None:
    clinic = Clinic()
    clinic.tell(N1, DISK)
    clinic.tell(N1)
    clinic.repaired("CheckFailed: no infiniband")
    assert clinic.node().schedulability is Schedulability.DRAINED
    assert clinic.node().health.failures == ("CheckFailed: no infiniband",)
    clinic.tell(N1, Condition(signal=Signal.CHECK_FAILED, detail="no infiniband"))
    assert clinic.node().health.repair is None
    clinic.tell(N1)
    clinic.repaired()
    assert clinic.node().schedulability is Schedulability.OPEN


def test_a_node_that_an_operator_cordoned_never_returns_by_itself() -> None:
    clinic = Clinic()
    clinic.tell(N1, DISK)
    clinic.ask(CordonNode, node=N1, reason="looking into it")
    clinic.tell(N1)
    assert clinic.node().health.repair is None
    assert clinic.node().schedulability is Schedulability.CORDONED


def test_an_operators_resume_overrides_everything() -> None:
    clinic = Clinic()
    clinic.tell(N1, DISK)
    clinic.see(xid(95, GPU))
    clinic.ask(ResumeNode, node=N1)
    assert clinic.node().schedulability is Schedulability.OPEN
    assert clinic.node().health.outages == ()
    assert clinic.node().health.repair is None
    assert clinic.free_gpus() == 4
    with pytest.raises(WrongState, match="open for work already"):
        clinic.ask(ResumeNode, node=N1)


def test_a_late_answer_to_an_earlier_repair_changes_nothing() -> None:
    clinic = Clinic()
    clinic.see(xid(95, GPU))
    clinic.ask(ResumeNode, node=N1)
    clinic.see(xid(64, GPU))
    assert clinic.node().health.repair.number == 2
    clinic.step(facts_=[Reported(N1, RepairEnded(node=N1, number=1, failures=()))])
    assert clinic.node().health.repair.number == 2


def test_an_agent_that_came_back_is_told_its_repair_again() -> None:
    clinic = Clinic()
    clinic.see(xid(95, GPU))
    clinic.step(facts_=[NodeConnected(facts("n1"), ())])
    assert clinic.batches[-1].queued[-1].command == RepairNode(node=N1, number=1, reset=(GPU,), check=(GPU,))


def test_news_of_an_earlier_boot_or_of_another_node_is_not_taken() -> None:
    clinic = Clinic()
    before = len(clinic.log)
    stale = HealthObserved(node=N1, boot_id="older", conditions=(DISK,), sightings=(), is_complete=True)
    clinic.step(facts_=[Reported(N1, stale), Reported(NodeName("n2"), replace(stale, boot_id="boot-n1"))])
    assert clinic.kinds(before) == []


def test_an_application_error_of_two_users_drains_the_node() -> None:
    clinic = Clinic()
    mine = clinic.run(gpus_per_node=4)
    clinic.see(xid(13, GPU))
    clinic.end_all(mine, exit_code=1)
    assert clinic.node().schedulability is Schedulability.OPEN
    (theirs,) = clinic.submit(spec(gpus_per_node=4, nodelist=(N1,)), who=BOB)
    clinic.cycle()
    clinic.see(xid(13, GPU))
    assert clinic.node().schedulability is Schedulability.DRAINING
    assert clinic.job(theirs).state is JobState.CONFIGURING


def test_a_workflow_xid_waits_ten_seconds_and_then_is_judged_alone() -> None:
    clinic = Clinic()
    before = len(clinic.log)
    clinic.see(xid(48, GPU))
    assert clinic.kinds(before) == [HealthReported]
    clinic.step(facts_=[HealthDue(N1)])
    assert clinic.kinds(before) == [HealthReported]
    clinic.now_us += 10_000_000
    clinic.step(facts_=[HealthDue(N1), HealthDue(N1)])
    assert clinic.kinds(before) == [HealthReported, HealthJudged, OutageBegan, RepairStarted]


def test_the_breaker_stops_take_outs_at_its_threshold_until_an_operator_looked() -> None:
    clinic = Clinic(nodes=20, breaker=Breaker(nodes=2, share=0.2, window_s=300))
    names = [NodeName(f"n{i}") for i in range(1, 7)]
    for name in names:
        clinic.tell(name, DISK)
    out = [name for name in names if clinic.node(name).schedulability is not Schedulability.OPEN]
    assert out == names[:4]  # 20 % of 20
    assert clinic.kinds().count(BreakerTripped) == 2
    assert "4 nodes were taken out" in next(
        recorded.event.detail for recorded in clinic.log if isinstance(recorded.event, BreakerTripped)
    )
    clinic.now_us += 1_000_000_000
    clinic.tell(NodeName("n9"), DISK)
    assert clinic.node(NodeName("n9")).schedulability is Schedulability.OPEN  # time alone resets nothing
    clinic.ask(ResetBreaker)
    for name in [*names[4:], NodeName("n9")]:
        assert clinic.node(name).schedulability is not Schedulability.OPEN, name
    with pytest.raises(WrongState, match="has not tripped"):
        clinic.ask(ResetBreaker)


def test_slow_decay_does_not_trip_the_breaker() -> None:
    clinic = Clinic(nodes=4, breaker=Breaker(nodes=2, share=0.2, window_s=300))
    for name in ("n1", "n2", "n3"):
        clinic.tell(NodeName(name), DISK)
        clinic.now_us += 301_000_000
    assert BreakerTripped not in clinic.kinds()


def test_a_tripped_breaker_ends_no_job() -> None:
    clinic = Clinic(nodes=3, breaker=Breaker(nodes=1, share=0.0))
    job_id = clinic.run(gpus_per_node=1, nodelist=(N1,))
    clinic.tell(NodeName("n2"), DISK)
    clinic.see(xid(79, GPU))
    assert BreakerTripped in clinic.kinds()
    assert clinic.job(job_id).state is JobState.RUNNING


def test_the_state_is_the_same_after_a_restart_and_after_folding_the_log() -> None:
    clinic = Clinic()
    clinic.run(gpus_per_node=2)
    clinic.see(xid(63, GPU), xid(13, GPU))
    clinic.tell(NodeName("n2"), DISK)
    state = clinic.engine.state
    again = ClusterState.of(state.partitions, jobs=state.jobs.values(), nodes=state.nodes.values())
    assert (again.snapshot.milli_free == state.snapshot.milli_free).all()
    folded = fold(clinic.log, state.partitions)
    assert folded.nodes == state.nodes


def test_a_device_that_is_out_makes_a_job_wait_and_not_infeasible() -> None:
    clinic = Clinic(nodes=1)
    clinic.see(xid(95, GPU))
    (job_id,) = clinic.submit(spec(gpus_per_node=4))
    clinic.cycle()
    assert clinic.job(job_id).state is JobState.PENDING
    (small,) = clinic.submit(spec(gpus_per_node=3))
    clinic.cycle()
    assert clinic.job(small).state is JobState.CONFIGURING  # who cannot start blocks nobody


def test_of_equal_nodes_the_one_that_failed_least_is_taken() -> None:
    clinic = Clinic(nodes=3)
    for name in ("n1", "n1", "n2"):
        clinic.tell(NodeName(name), DISK)
        clinic.tell(NodeName(name))
        clinic.repaired(node=NodeName(name))
    job_id = clinic.run(gpus_per_node=1)
    assert clinic.job(job_id).attempt.node_names == (NodeName("n3"),)
    (wide,) = clinic.submit(spec(gpus_per_node=4, nodes=2))  # a lemon is better than nothing
    clinic.cycle()
    assert clinic.job(wide).attempt.node_names == (
        NodeName("n1"),
        NodeName("n2"),
    )


def test_a_repair_that_an_older_agent_does_not_know_waits_for_an_operator() -> None:
    clinic = Clinic()
    clinic.see(xid(95, GPU))
    (order,) = (queued for queued in clinic.engine.outbox_of(N1) if isinstance(queued.command, RepairNode))
    why = "agent n1 0.3.0 does not know RepairNode: upgrade it"
    clinic.step(facts_=[CommandNotKnown(N1, order, why)])
    assert clinic.node(N1).health.failures == (why,)
    assert clinic.engine.outbox_of(N1) == ()
