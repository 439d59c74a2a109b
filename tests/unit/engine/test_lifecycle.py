"""A job's life, one rule a test."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cluster import ALICE, BOB, OPERATOR, Cluster, ended, facts, failed, spec

from gpusched.domain.commands import LaunchTasks, StopTasks
from gpusched.domain.errors import (
    InfeasibleRequest,
    InvalidSpec,
    NotFound,
    NotPermitted,
    RequestIdReused,
    WrongState,
)
from gpusched.domain.events import JobEnded, NodeDrained, NodeFaulted, NodeJoined, TaskFailed
from gpusched.domain.ids import AttemptId, Epoch, JobId, NodeName
from gpusched.domain.job_spec import OnDisconnect
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.node import Schedulability
from gpusched.engine.core import EngineSettings
from gpusched.engine.inputs import (
    CancelJob,
    CommandAcknowledged,
    CordonNode,
    DrainDeadlinePassed,
    DrainNode,
    HoldJob,
    LeaseEnded,
    NodeHeard,
    NodeSilent,
    ReleaseJob,
    RequeueJob,
    ResumeNode,
    Submit,
)

N1, N2 = NodeName("n1"), NodeName("n2")


@pytest.fixture
def two_nodes() -> Cluster:
    cluster = Cluster()
    cluster.join(facts("n1"), facts("n2"))
    return cluster


def run_gang(cluster: Cluster, **changes: object) -> int:
    (job_id,) = cluster.submit(spec(nodes=2, gpus_per_node=4, tasks_per_node=2, **changes))
    cluster.cycle()
    cluster.start_all(job_id)
    return job_id


def test_gang_goes_from_the_queue_to_completed(two_nodes: Cluster) -> None:
    (job_id,) = two_nodes.submit(spec(nodes=2, gpus_per_node=4))
    assert two_nodes.job(job_id).state is JobState.PENDING
    two_nodes.cycle()
    assert two_nodes.job(job_id).state is JobState.CONFIGURING
    launches = [q.command for batch in two_nodes.batches for q in batch.queued]
    assert [type(c) for c in launches] == [LaunchTasks, LaunchTasks]
    assert {c.node for c in launches} == {"n1", "n2"}
    two_nodes.start_all(job_id)
    assert two_nodes.job(job_id).state is JobState.RUNNING
    two_nodes.end_all(job_id)
    assert two_nodes.job(job_id).state is JobState.COMPLETED
    assert two_nodes.job(job_id).exit_code == 0


def test_gang_is_running_only_when_every_node_has_started(two_nodes: Cluster) -> None:
    (job_id,) = two_nodes.submit(spec(nodes=2, gpus_per_node=1))
    two_nodes.cycle()
    two_nodes.join(facts("n3"))
    attempt = two_nodes.job(job_id).attempt
    assert attempt is not None
    from gpusched.domain.events import TasksStarted

    two_nodes.report(TasksStarted(job_id=job_id, epoch=Epoch(1), node=attempt.node_names[0], pids=(7,)))
    assert two_nodes.job(job_id).state is JobState.CONFIGURING


def test_one_rank_failing_stops_the_other_nodes_and_is_named(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes)
    job = two_nodes.job(job_id)
    two_nodes.report(failed(job, N2, 3, 7, "boom"))
    assert two_nodes.job(job_id).state is JobState.COMPLETING
    stops = [q.command for q in two_nodes.batches[-1].queued]
    assert [(type(c), c.node) for c in stops] == [(StopTasks, "n1"), (StopTasks, "n2")]
    two_nodes.end_all(job_id, exit_code=143)
    final = two_nodes.job(job_id)
    assert final.state is JobState.FAILED
    assert final.exit_code == 7
    assert final.end_detail == "rank 3 on n2 exited with code 7; its last output:\n  | boom"


def test_devices_stay_taken_until_every_node_is_proven_free(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes)
    (waiting,) = two_nodes.submit(spec(nodes=2, gpus_per_node=4))
    two_nodes.report(ended(two_nodes.job(job_id), N1))
    two_nodes.cycle()
    assert two_nodes.job(waiting).state is JobState.PENDING
    two_nodes.report(ended(two_nodes.job(job_id), N2))
    two_nodes.cycle()
    assert two_nodes.job(waiting).state is JobState.CONFIGURING


def test_a_repeated_report_changes_nothing(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes)
    fact = ended(two_nodes.job(job_id), N1)
    two_nodes.report(fact)
    length = len(two_nodes.log)
    two_nodes.report(fact)
    assert len(two_nodes.log) == length


def test_a_report_of_an_older_attempt_changes_nothing(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes, requeue=True)
    stale = ended(two_nodes.job(job_id), N1, exit_code=1)
    two_nodes.end_all(job_id, cause=EndReason.NODE_FAIL)
    two_nodes.cycle()
    assert two_nodes.job(job_id).attempt_id == AttemptId(JobId(job_id), Epoch(2))
    length = len(two_nodes.log)
    two_nodes.report(stale)
    assert len(two_nodes.log) == length


def test_infrastructure_failure_requeues_only_jobs_marked_so(two_nodes: Cluster) -> None:
    once = run_gang(two_nodes)
    two_nodes.end_all(once, cause=EndReason.SHIM_LOST)
    assert two_nodes.job(once).state is JobState.FAILED
    again = run_gang(two_nodes, requeue=True)
    two_nodes.end_all(again, cause=EndReason.SHIM_LOST)
    assert two_nodes.job(again).state is JobState.PENDING


def test_the_programs_own_failure_is_never_requeued(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes, requeue=True)
    two_nodes.end_all(job_id, exit_code=1)
    assert two_nodes.job(job_id).state is JobState.FAILED


def test_a_job_that_keeps_losing_its_nodes_is_held(two_nodes: Cluster) -> None:
    (job_id,) = two_nodes.submit(spec(gpus_per_node=1, requeue=True))
    for _ in range(5):
        two_nodes.cycle()
        two_nodes.end_all(job_id, cause=EndReason.NODE_FAIL)
    job = two_nodes.job(job_id)
    assert (job.state, job.is_held) == (JobState.PENDING, True)
    assert two_nodes.cycle() == ()


def test_every_ended_job_has_exactly_one_end_in_the_log(two_nodes: Cluster) -> None:
    for exit_code in (0, 3):
        job_id = run_gang(two_nodes)
        two_nodes.end_all(job_id, exit_code=exit_code)
    (pending,) = two_nodes.submit(spec())
    two_nodes.step([CancelJob(who=ALICE, request_id=two_nodes.request_id(), job_id=pending)])
    ends = [r.event.job_id for r in two_nodes.log if isinstance(r.event, JobEnded)]
    assert sorted(ends) == [1, 2, 3]


def test_cancel_stops_a_running_job_and_says_who(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes)
    two_nodes.step([CancelJob(who=OPERATOR, request_id=two_nodes.request_id(), job_id=JobId(job_id))])
    two_nodes.end_all(job_id, exit_code=143)
    job = two_nodes.job(job_id)
    assert (job.state, job.end_detail) == (JobState.CANCELLED, "cancelled by root")


def test_requeue_by_its_owner_starts_a_new_attempt(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes)
    two_nodes.step([RequeueJob(who=ALICE, request_id=two_nodes.request_id(), job_id=JobId(job_id))])
    two_nodes.end_all(job_id, exit_code=143)
    two_nodes.cycle()
    job = two_nodes.job(job_id)
    assert (job.state, job.attempt_id) == (JobState.CONFIGURING, AttemptId(JobId(job_id), Epoch(2)))


def test_a_job_requeued_with_hold_does_not_start_again_until_it_is_released(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes)
    requeue = RequeueJob(who=ALICE, request_id=two_nodes.request_id(), job_id=job_id, hold=True)
    two_nodes.step([requeue])
    two_nodes.end_all(job_id)
    two_nodes.cycle()
    assert (two_nodes.job(job_id).state, two_nodes.job(job_id).is_held) == (JobState.PENDING, True)
    two_nodes.step([ReleaseJob(who=ALICE, request_id=two_nodes.request_id(), job_id=job_id)])
    two_nodes.cycle()
    assert two_nodes.job(job_id).state is JobState.CONFIGURING


def test_held_jobs_wait_and_go_when_released(two_nodes: Cluster) -> None:
    (job_id,) = two_nodes.submit(spec(hold=True))
    assert two_nodes.cycle() == ()
    two_nodes.step([ReleaseJob(who=ALICE, request_id=two_nodes.request_id(), job_id=job_id)])
    two_nodes.cycle()
    assert two_nodes.job(job_id).state is JobState.CONFIGURING


def test_a_stranger_may_not_change_a_job(two_nodes: Cluster) -> None:
    (job_id,) = two_nodes.submit(spec(hold=True))
    for kind in (CancelJob, HoldJob, ReleaseJob, RequeueJob):
        (answer,) = two_nodes.step([kind(who=BOB, request_id=two_nodes.request_id(), job_id=job_id)])
        assert isinstance(answer, NotPermitted)
    assert two_nodes.job(job_id).is_held


def test_retry_of_a_submission_gets_the_first_answer(two_nodes: Cluster) -> None:
    request = Submit(who=ALICE, request_id=two_nodes.request_id(), specs=(spec(),))
    assert two_nodes.step([request]) == two_nodes.step([request]) == ((JobId(1),),)
    assert two_nodes.step([request, request]) == ((JobId(1),), (JobId(1),))
    assert two_nodes.engine.state.next_job_id == 2


def test_the_same_request_twice_in_one_tick_makes_one_job(two_nodes: Cluster) -> None:
    request = Submit(who=ALICE, request_id=two_nodes.request_id(), specs=(spec(),))
    assert two_nodes.step([request, request]) == ((JobId(1),), (JobId(1),))


def test_a_request_id_with_another_body_is_refused(two_nodes: Cluster) -> None:
    request_id = two_nodes.request_id()
    two_nodes.step([Submit(who=ALICE, request_id=request_id, specs=(spec(),))])
    other = Submit(who=ALICE, request_id=request_id, specs=(spec(nodes=2),))
    (answer,) = two_nodes.step([other])
    assert isinstance(answer, RequestIdReused)
    assert two_nodes.engine.state.next_job_id == 2


def test_request_ids_of_different_users_do_not_meet(two_nodes: Cluster) -> None:
    request_id = two_nodes.request_id()
    answers = two_nodes.step(
        [Submit(who=who, request_id=request_id, specs=(spec(),)) for who in (ALICE, BOB)]
    )
    assert answers == ((JobId(1),), (JobId(2),))


def test_a_bad_job_in_a_batch_refuses_the_whole_batch(two_nodes: Cluster) -> None:
    with pytest.raises(InvalidSpec):
        two_nodes.submit(spec(), spec(nodes=0))
    assert two_nodes.engine.state.jobs == {}


def test_a_job_that_can_never_fit_is_refused_with_the_largest_that_could(two_nodes: Cluster) -> None:
    with pytest.raises(InfeasibleRequest, match="4"):
        two_nodes.submit(spec(gpus_per_node=5))


def test_ended_and_unknown_jobs_are_told_apart(two_nodes: Cluster) -> None:
    (job_id,) = two_nodes.submit(spec())
    cancel = CancelJob(who=ALICE, request_id=two_nodes.request_id(), job_id=job_id)
    two_nodes.step([cancel])
    (again,) = two_nodes.step([CancelJob(who=ALICE, request_id=two_nodes.request_id(), job_id=job_id)])
    (unknown,) = two_nodes.step([CancelJob(who=ALICE, request_id=two_nodes.request_id(), job_id=JobId(99))])
    assert isinstance(again, WrongState)
    assert isinstance(unknown, NotFound)


def test_a_cordoned_node_gets_no_work_and_keeps_what_it_has(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes)
    for node in (N1, N2):
        two_nodes.step([CordonNode(who=OPERATOR, request_id=two_nodes.request_id(), node=node, reason="fan")])
    assert two_nodes.job(job_id).state is JobState.RUNNING
    (waiting,) = two_nodes.submit(spec())
    two_nodes.cycle()
    assert two_nodes.job(waiting).state is JobState.PENDING
    two_nodes.step([ResumeNode(who=OPERATOR, request_id=two_nodes.request_id(), node=N1)])
    two_nodes.cycle()
    assert two_nodes.job(waiting).state is JobState.CONFIGURING


def test_a_cordoned_node_that_is_cordoned_again_says_the_newer_reason(two_nodes: Cluster) -> None:
    for reason in ("fan", "fan, and a new driver"):
        two_nodes.step([CordonNode(who=OPERATOR, request_id=two_nodes.request_id(), node=N1, reason=reason)])
    assert two_nodes.engine.state.nodes[N1].reason == "fan, and a new driver"


def test_a_draining_node_is_drained_when_its_last_job_ends(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes)
    drain = DrainNode(who=OPERATOR, request_id=two_nodes.request_id(), node=N1, reason="fan", deadline_s=None)
    two_nodes.step([drain])
    assert two_nodes.engine.state.nodes[N1].schedulability is Schedulability.DRAINING
    two_nodes.end_all(job_id)
    assert two_nodes.engine.state.nodes[N1].schedulability is Schedulability.DRAINED
    assert isinstance(two_nodes.log[-1].event, NodeDrained)


def test_the_drain_deadline_ends_what_remains_and_requeues_what_may(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes, requeue=True)
    two_nodes.step(
        [DrainNode(who=OPERATOR, request_id=two_nodes.request_id(), node=N1, reason="fan", deadline_s=5)]
    )
    two_nodes.step(facts_=[DrainDeadlinePassed(N1)])
    assert two_nodes.job(job_id).state is JobState.COMPLETING
    two_nodes.end_all(job_id, exit_code=143)
    assert two_nodes.job(job_id).state is JobState.PENDING


def test_silence_makes_a_node_unreachable_and_moves_no_job(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes, requeue=True)
    two_nodes.step(facts_=[NodeSilent(N1, 20.0)])
    assert not two_nodes.engine.state.nodes[N1].reachable
    assert two_nodes.job(job_id).state is JobState.RUNNING
    two_nodes.step(facts_=[NodeHeard(N1)])
    assert two_nodes.engine.state.nodes[N1].reachable


def test_reconnecting_with_the_same_facts_writes_nothing(two_nodes: Cluster) -> None:
    length = len(two_nodes.log)
    two_nodes.join(facts("n1"))
    assert len(two_nodes.log) == length
    two_nodes.join(facts("n1", gpus=2))
    assert isinstance(two_nodes.log[-1].event, NodeJoined)


def test_a_rank_that_the_kernel_killed_for_memory_is_the_jobs_own_failure(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes)
    killed = replace(failed(two_nodes.job(job_id), N2, 1, 137), cause=EndReason.OUT_OF_MEMORY)
    two_nodes.report(killed)
    two_nodes.end_all(job_id, exit_code=137)
    job = two_nodes.job(job_id)
    assert (job.state, job.end_reason, job.exit_code) == (JobState.FAILED, EndReason.OUT_OF_MEMORY, 137)
    assert job.end_detail is not None and "for lack of memory" in job.end_detail
    assert not any(isinstance(r.event, NodeFaulted) for r in two_nodes.log)


def test_an_attempt_that_the_agent_forgot_has_failed(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes)
    for queued in two_nodes.engine.outbox_of(N1):
        two_nodes.step(facts_=[CommandAcknowledged(N1, queued.seq)])
    two_nodes.join(facts("n1"))
    job = two_nodes.job(job_id)
    assert job.state is JobState.COMPLETING
    assert job.attempt is not None
    assert job.attempt.stop_reason is EndReason.NODE_FAIL


def test_an_unacknowledged_launch_is_not_taken_for_forgotten(two_nodes: Cluster) -> None:
    (job_id,) = two_nodes.submit(spec(nodes=2))
    two_nodes.cycle()
    two_nodes.join(facts("n1"), facts("n2"))
    assert two_nodes.job(job_id).state is JobState.CONFIGURING


def test_an_attempt_that_is_over_here_is_stopped_there(two_nodes: Cluster) -> None:
    two_nodes.join(facts("n1"), attempts=(AttemptId(JobId(77), Epoch(3)),))
    (stop,) = (q.command for q in two_nodes.batches[-1].queued)
    assert isinstance(stop, StopTasks)
    assert (stop.node, stop.job_id, stop.epoch) == ("n1", 77, 3)


def test_only_the_first_failing_rank_is_recorded(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes)
    job = two_nodes.job(job_id)
    two_nodes.report(failed(job, N1, 0, 1))
    two_nodes.report(failed(job, N2, 2, 9))
    assert sum(isinstance(r.event, TaskFailed) for r in two_nodes.log) == 1


def test_leased_ports_of_live_jobs_on_one_address_differ(two_nodes: Cluster) -> None:
    ids = two_nodes.submit(*[spec() for _ in range(12)])
    two_nodes.cycle()
    leases = set()
    for job_id in ids:
        attempt = two_nodes.job(job_id).attempt
        assert attempt is not None
        leases.add((attempt.allocation.nodes[0].address, attempt.allocation.master_port))
    assert len(leases) == len(ids)


def test_an_attempt_and_the_next_one_meet_on_different_ports_of_the_clusters_range() -> None:
    cluster = Cluster(EngineSettings(master_ports=range(40_000, 41_000)))
    cluster.join(facts("n1"))
    (job_id,) = cluster.submit(spec())
    ports = []
    for _ in range(2):
        cluster.cycle()
        attempt = cluster.job(job_id).attempt
        assert attempt is not None
        ports.append(attempt.allocation.master_port)
        cluster.step([RequeueJob(who=ALICE, request_id=cluster.request_id(), job_id=job_id)])
        cluster.end_all(job_id)
    assert len(set(ports)) == 2
    assert all(port in range(40_000, 41_000) for port in ports)


def test_a_lease_that_ended_moves_what_may_be_replaced_and_nothing_else(two_nodes: Cluster) -> None:
    two_nodes.join(facts("n3"))
    (movable,) = two_nodes.submit(spec(nodelist=(N1, N2), gpus_per_node=1, requeue=True))
    (fixed,) = two_nodes.submit(spec(nodelist=(N1,), gpus_per_node=1))
    two_nodes.cycle()
    for job_id in (movable, fixed):
        two_nodes.start_all(job_id)
    two_nodes.step(facts_=[NodeSilent(N1, 16.0)])
    two_nodes.step(facts_=[LeaseEnded(N1, 19.0)])
    assert two_nodes.job(movable).state is JobState.PENDING
    assert two_nodes.job(fixed).state is JobState.RUNNING
    two_nodes.cycle()
    attempt = two_nodes.job(movable).attempt
    assert attempt is not None
    assert (attempt.epoch, attempt.node_names) == (2, (N2,))


def test_a_launch_that_never_arrived_is_never_sent_once_its_lease_ended(two_nodes: Cluster) -> None:
    (job_id,) = two_nodes.submit(spec(nodelist=(N1, N2), requeue=True))
    two_nodes.cycle()
    assert [type(q.command) for q in two_nodes.engine.outbox_of(N1)] == [LaunchTasks]
    two_nodes.step(facts_=[NodeSilent(N1, 16.0), LeaseEnded(N1, 19.0)])
    assert [type(q.command) for q in two_nodes.engine.outbox_of(N1)] == [StopTasks]
    assert two_nodes.job(job_id).state is JobState.PENDING


def test_a_gang_whose_one_node_lost_its_lease_is_stopped_on_the_others_first(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes, requeue=True)
    two_nodes.step(facts_=[NodeSilent(N1, 16.0), LeaseEnded(N1, 19.0)])
    job = two_nodes.job(job_id)
    assert job.state is JobState.COMPLETING
    two_nodes.report(ended(job, N2, exit_code=143))
    assert two_nodes.job(job_id).state is JobState.PENDING


def test_keep_running_is_honoured_for_a_job_that_may_be_requeued(two_nodes: Cluster) -> None:
    job_id = run_gang(two_nodes, requeue=True, on_disconnect=OnDisconnect.KEEP_RUNNING)
    two_nodes.step(facts_=[NodeSilent(N1, 16.0), LeaseEnded(N1, 600.0)])
    assert two_nodes.job(job_id).state is JobState.RUNNING


def test_a_node_cannot_take_the_command_of_another(two_nodes: Cluster) -> None:
    two_nodes.submit(spec(nodelist=(N1,)))
    two_nodes.cycle()
    (queued,) = two_nodes.engine.outbox_of(N1)
    two_nodes.step(facts_=[CommandAcknowledged(N2, queued.seq)])
    assert two_nodes.engine.outbox_of(N1) == (queued,)
