"""The main path on real processes: submitted over gRPC, placed, run, streamed, billed."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from live import output, shell

from benchmarks.cluster import Head, running_agents, until
from gpusched.domain.errors import InfeasibleRequest, NotFound, RequestIdReused, WrongState
from gpusched.domain.events import JobEnded, TasksStarted
from gpusched.domain.ids import NodeName, RequestId
from gpusched.domain.job import JobFilter
from gpusched.domain.job_spec import Component, JobSpec, WarningSignal
from gpusched.domain.job_state import EndReason, JobState, PendingReason
from gpusched.domain.launch_plan import NOTES_WORD
from gpusched.domain.node import Schedulability
from gpusched.domain.usage import GroupBy, UsageClass
from gpusched.wire.client import Client


def test_an_agent_loads_nothing_that_only_heads_and_members_need(home: Path, head: Head) -> None:
    with running_agents(head, ("light",), "--devices", "none") as (pid,):
        mapped = Path(f"/proc/{pid}/maps").read_text()
    assert "cygrpc" in mapped
    for heavy in ("numpy", "pydantic", "sqlalchemy", "cryptography", "torch"):
        assert heavy not in mapped


def test_every_rank_gets_exactly_the_environment_that_is_shown(client: Client) -> None:
    script = "tr '\\0' '\\n' </proc/$$/environ"
    job_id = client.jobs.submit(
        shell(script, nodes=2, gpus_per_node=2, tasks_per_node=2, env=(("GREETING", "hello"),))
    )
    view = client.jobs.wait(job_id)
    assert view.job.state is JobState.COMPLETED
    assert view.plan is not None
    # From the node's own user database; the secret by which a dead shim's processes are found; the head.
    node_fills = {"HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "GPUSCHED_CONTAINMENT"}
    node_fills |= {"GPUSCHED_ADDRESS", "GPUSCHED_RANK_TOKEN_FILE"}
    for part in view.plan.nodes:
        for task in part.tasks:
            lines = output(client, job_id, task.global_rank).splitlines()
            got = dict(line.split("=", 1) for line in lines if "=" in line)
            shown = dict(task.env)
            said = {name: value for name, value in shown.items() if not value.startswith(NOTES_WORD)}
            assert said.items() <= got.items()
            assert shown.keys() <= got.keys()
            assert got.keys() - shown.keys() <= node_fills
            assert got["GREETING"] == "hello"
            assert got["WORLD_SIZE"] == "4"
            assert got["CUDA_VISIBLE_DEVICES"] == ""  # declared devices are not offered to CUDA


def test_ranks_find_one_master_and_count_up_over_nodes(client: Client) -> None:
    script = (
        'echo "{\\"rank\\": $RANK, \\"local\\": $LOCAL_RANK, \\"master\\": \\"$MASTER_ADDR:$MASTER_PORT\\"}"'
    )
    job_id = client.jobs.submit(shell(script, nodes=2, gpus_per_node=2, tasks_per_node=2))
    said = [json.loads(output(client, job_id, rank)) for rank in range(4)]
    assert [entry["rank"] for entry in said] == [0, 1, 2, 3]
    assert [entry["local"] for entry in said] == [0, 1, 0, 1]
    assert len({entry["master"] for entry in said}) == 1


def test_a_failing_rank_ends_the_gang_and_is_named_with_its_last_words(client: Client) -> None:
    script = 'if [ "$RANK" = 3 ]; then echo "no such file" >&2; exit 7; fi; sleep 300'
    job_id = client.jobs.submit(shell(script, nodes=2, tasks_per_node=2, kill_wait_s=2))
    job = client.jobs.wait(job_id).job
    assert (job.state, job.exit_code) == (JobState.FAILED, 7)
    assert job.end_detail is not None
    assert "rank 3 on n2 exited with code 7" in job.end_detail
    assert "no such file" in job.end_detail


def test_the_last_line_arrives_though_it_has_no_newline(client: Client) -> None:
    job_id = client.jobs.submit(shell("echo first; printf last"))
    assert output(client, job_id) == "first\nlast"


def test_tail_and_since_choose_what_is_streamed(client: Client) -> None:
    job_id = client.jobs.submit(shell("seq 1000"))
    ended = client.jobs.wait(job_id).job.ended_at_us
    assert ended is not None
    tail = b"".join(chunk.data for chunk in client.jobs.logs(job_id, tail_lines=2))
    assert tail == b"999\n1000\n"
    later = b"".join(chunk.data for chunk in client.jobs.logs(job_id, since_us=ended + 3_600_000_000))
    assert later == b""


def test_a_large_output_is_streamed_whole_and_in_order(client: Client) -> None:
    job_id = client.jobs.submit(shell("seq 1 600000"))
    assert output(client, job_id) == "".join(f"{i}\n" for i in range(1, 600_001))


def test_logs_of_a_job_that_never_started_and_of_unknown_ranks_are_refused(client: Client) -> None:
    held = client.jobs.submit(shell("true", hold=True))
    with pytest.raises(WrongState, match="--follow"):
        list(client.jobs.logs(held))
    done = client.jobs.submit(shell("true"))
    client.jobs.wait(done)
    with pytest.raises(NotFound, match="ranks 0 to 0"):
        list(client.jobs.logs(done, ranks=(5,)))


def test_the_time_limit_warns_then_ends_the_job(client: Client) -> None:
    program = """
import signal, sys, threading
signal.signal(signal.SIGUSR1, lambda *_: print("warned", flush=True))
signal.signal(signal.SIGTERM, lambda *_: (print("asked", flush=True), sys.exit(0)))
print("ready", flush=True)
while True: signal.pause()
"""
    spec = JobSpec(
        name="limited",
        command=(sys.executable, "-S", "-c", program),
        workdir="/tmp",
        time_limit_s=4,
        signal=WarningSignal("SIGUSR1", 2),
        kill_wait_s=5,
    )
    job_id = client.jobs.submit(spec)
    job = client.jobs.wait(job_id).job
    assert (job.state, job.end_reason) == (JobState.FAILED, EndReason.TIME_LIMIT)
    assert output(client, job_id) == "ready\nwarned\nasked\n"


def test_cancel_reaches_a_running_job_and_a_pending_one(client: Client) -> None:
    running = client.jobs.submit(shell("sleep 300", nodes=2, gpus_per_node=4, kill_wait_s=1))
    pending = client.jobs.submit(shell("sleep 300", nodes=2, gpus_per_node=4))
    why = client.jobs.explain(pending)
    assert why.reason is PendingReason.RESOURCES
    assert why.relaxations == ()  # every GPU is held: nothing less than all of them helps
    client.jobs.cancel(pending)
    client.jobs.cancel(running)
    for job_id in (running, pending):
        assert client.jobs.wait(job_id).job.state is JobState.CANCELLED


def test_a_job_that_waits_is_told_what_less_would_start_it_and_that_much_does(client: Client) -> None:
    running = client.jobs.submit(shell("sleep 300", gpus_per_node=3, kill_wait_s=1))
    until(lambda: client.jobs.get(running).job.state is JobState.RUNNING, "the job to run")
    asked = shell("true", nodes=2, gpus_per_node=4)
    foreseen = client.jobs.plan(asked).diagnosis.relaxations
    pending = client.jobs.submit(asked)
    offered = client.jobs.explain(pending).relaxations
    assert (
        [each.text for each in offered]
        == ["1 GPU per node instead of 4", "1 node instead of 2"]
        == [each.text for each in foreseen]
    )
    fewer = client.jobs.submit(shell("true", nodes=2, gpus_per_node=1))
    (limit,) = client.jobs.explain(fewer).relaxations  # it fits, and may not outlast a head without forecast
    assert limit.text.startswith("any time_limit")
    client.jobs.cancel(pending)
    assert client.jobs.wait(fewer).job.state is JobState.COMPLETED
    client.jobs.cancel(running)


def test_a_gang_gets_the_room_that_a_defragmentation_plan_promises(client: Client) -> None:
    half = shell("sleep 300", gpus_per_node=2, kill_wait_s=1, requeue=True)
    first, second, third = (client.jobs.submit(half) for _ in range(3))  # two share a node
    until(lambda: client.jobs.get(third).job.state is JobState.RUNNING, "the jobs to run")
    client.jobs.cancel(second)
    client.jobs.wait(second)
    gang = client.jobs.submit(shell("true", gpus_per_node=4))
    plan = client.jobs.plan_defrag(gang)
    (move,) = plan.moves
    assert (move.job_id in (first, third), plan.is_fewest, plan.jobs_ahead) == (True, True, 0)
    assert client.jobs.plan_defrag(client.jobs.get(gang).job.spec).gang_nodes == plan.gang_nodes
    client.jobs.requeue(move.job_id, hold=True)
    ran = client.jobs.wait(gang).job
    assert (ran.state, ran.attempt and ran.attempt.node_names) == (JobState.COMPLETED, plan.gang_nodes)
    client.jobs.release(move.job_id)
    until(lambda: client.jobs.get(move.job_id).job.state is JobState.RUNNING, "the moved job to run again")
    for job_id in (first, third):
        client.jobs.cancel(job_id)
        client.jobs.wait(job_id)


def test_a_gang_of_unlike_components_runs_as_one_job(client: Client) -> None:
    trainer = Component(name="trainer", gpus_per_node=2, tasks_per_node=2)
    server = Component(name="server", command=("/bin/bash", "-c", "echo serves as $RANK of $WORLD_SIZE"))
    spec = shell("echo trains as $RANK on $LOCAL_RANK", nodes=2, components=(trainer, server))
    job_id = client.jobs.submit(spec)
    job = client.jobs.wait(job_id).job
    assert (job.state, job.spec.components) == (JobState.COMPLETED, (trainer, server))
    said = [output(client, job_id, rank) for rank in range(3)]
    assert said == ["trains as 0 on 0\n", "trains as 1 on 1\n", "serves as 2 of 3\n"]
    with pytest.raises(InfeasibleRequest, match="component trainer: "):
        client.jobs.submit(replace(spec, components=(replace(trainer, gpus_per_node=64), server)))


def test_requeue_runs_a_second_attempt_with_its_own_epoch(client: Client) -> None:
    script = 'echo "attempt $GPUSCHED_EPOCH"; [ "$GPUSCHED_EPOCH" = 2 ] || sleep 300'
    job_id = client.jobs.submit(shell(script, kill_wait_s=1))
    for recorded in client.jobs.watch((job_id,)):
        if isinstance(recorded.event, TasksStarted):
            break
    client.jobs.requeue(job_id)
    view = client.jobs.wait(job_id)
    assert (view.job.state, view.job.attempt and view.job.attempt.epoch) == (JobState.COMPLETED, 2)
    assert output(client, job_id) == "attempt 2\n"


def test_watch_replays_from_the_start_and_ends_with_the_job(client: Client) -> None:
    job_id = client.jobs.submit(shell("true"))
    live = list(client.jobs.watch((job_id,)))
    again = list(client.jobs.watch((job_id,)))
    assert live == again
    assert isinstance(live[-1].event, JobEnded)
    assert list(client.jobs.watch((job_id,), after_seq=live[-2].seq)) == live[-1:]


def test_jobs_are_listed_by_page_and_by_filter(client: Client) -> None:
    ids = client.jobs.submit_many([shell("true", name=f"j{i}", hold=True) for i in range(25)])
    listed = [view.job.job_id for view in client.jobs.list(page_size=10)]
    assert listed == sorted(ids, reverse=True)
    named = list(client.jobs.list(where=JobFilter(name="j7")))
    assert [view.job.spec.name for view in named] == ["j7"]
    assert list(client.jobs.list(where=JobFilter(states=(JobState.RUNNING,)))) == []


def test_retry_of_a_submission_makes_one_job_and_another_body_is_refused(client: Client) -> None:
    request_id = RequestId("the-same")
    first = client.jobs.submit(shell("true", hold=True), request_id=request_id)
    assert client.jobs.submit(shell("true", hold=True), request_id=request_id) == first
    with pytest.raises(RequestIdReused):
        client.jobs.submit(shell("false", hold=True), request_id=request_id)
    assert len(list(client.jobs.list())) == 1


def test_a_job_that_can_never_fit_is_refused_and_nothing_is_left(client: Client) -> None:
    with pytest.raises(InfeasibleRequest, match="largest node of partition main has 4"):
        client.jobs.submit(shell("true", gpus_per_node=5))
    assert list(client.jobs.list()) == []


def test_the_plan_is_what_the_submission_then_gets(client: Client) -> None:
    spec = shell("true", nodes=2, gpus_per_node=2, tasks_per_node=2)
    preview = client.jobs.plan(spec)
    view = client.jobs.wait(client.jobs.submit(spec))
    assert preview.plan is not None and view.plan is not None
    assert [node.node for node in preview.plan.nodes] == [node.node for node in view.plan.nodes]
    assert [node.devices for node in preview.plan.nodes] == [node.devices for node in view.plan.nodes]
    assert Decimal(preview.price_per_hour or "0") == 4 * 3600


def test_drained_nodes_get_no_work_until_resumed(client: Client) -> None:
    n1 = NodeName("n1")
    client.nodes.drain(n1, "fan")
    assert client.nodes.get(n1).node.schedulability is Schedulability.DRAINED
    view = client.jobs.wait(client.jobs.submit(shell("true")))
    assert view.job.attempt is not None
    assert view.job.attempt.node_names == ("n2",)
    client.nodes.resume(n1)
    assert client.nodes.get(n1).node.schedulability is Schedulability.OPEN


def test_the_bill_of_a_job_agrees_in_every_report(client: Client) -> None:
    job_id = client.jobs.submit(shell("sleep 0.5", nodes=2, gpus_per_node=2))
    client.jobs.wait(job_id)
    usage = client.reports.usage()
    gpu_us = sum(i.end_us - i.start_us for i in usage if i.job_id == job_id)
    cost = Decimal(client.jobs.get(job_id).cost or "0")
    assert cost == Decimal(gpu_us) / 1_000_000  # the rate is 3600 EUR an hour
    assert gpu_us >= 4 * 500_000
    for group_by in GroupBy:
        report = client.reports.cost(group_by)
        assert sum(line.billed_cost for line in report.lines) == report.total
        assert report.currency == "EUR"
    classes = {interval.usage_class for interval in usage}
    assert {UsageClass.PRODUCTIVE, UsageClass.STARTUP, UsageClass.UNALLOCATED} <= classes
