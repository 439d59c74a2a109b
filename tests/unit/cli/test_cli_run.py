"""``gpusched run``: the job's code is the command's code, and Ctrl-C cancels or detaches."""

from __future__ import annotations

import io
import signal
import threading
from dataclasses import replace

import pytest
from fakes.cli_head import ADA, NOW_US, SPEC, allocation

from gpusched.cli import run as following
from gpusched.cli.main import main
from gpusched.cli.screen import note
from gpusched.domain import events
from gpusched.domain.errors import HeadUnavailable, NotFound
from gpusched.domain.job_state import EndReason, JobState
from gpusched.domain.logs import LogChunk

FOUR_RANKS = ("run", "-N", "2", "--ntasks-per-node", "2", "--", "true")


def ended(state=JobState.COMPLETED, reason=EndReason.COMPLETED, exit_code=0):
    return events.JobEnded(job_id=19, state=state, reason=reason, detail=None, exit_code=exit_code)


def story(*more):
    """The events of a two-node job: submitted, granted, all ranks running, and ``more``."""
    told = (
        events.JobSubmitted(job_id=19, spec=SPEC, owner=ADA),
        events.JobAllocated(job_id=19, epoch=1, allocation=allocation(declared=True)),
        events.TasksStarted(job_id=19, epoch=1, node="n1", pids=(1, 2)),
        events.TasksStarted(job_id=19, epoch=1, node="n2", pids=(1, 2)),
        *more,
    )
    return [events.Recorded(i, NOW_US, event) for i, event in enumerate(told, 1)]


def test_run_follows_the_output_and_ends_well(cli, head):
    head.jobs.events = story(ended())
    head.jobs.chunks = [LogChunk(global_rank=3, node="n2", offset=0, data=b"hello\nbye", is_last=True)]
    said = cli(*FOUR_RANKS)
    assert (said.code, said.out) == (0, "[3] hello\n[3] bye\n")
    assert said.err.splitlines() == [
        "Submitted job 19",
        "Job 19 starts on n[1-2] (declared GPUs), attempt 1",
        "Job 19 COMPLETED: Completed",
    ]


def test_whoever_waits_in_the_queue_is_told_so(cli, head, monkeypatch):
    is_told = threading.Event()

    def noted(text):
        note(text)
        if "waits" in text:
            is_told.set()

    def granted_late():
        submitted, *rest = story(ended())
        yield submitted
        assert is_told.wait(30)
        yield from rest

    monkeypatch.setattr(following, "PATIENCE_S", 0.2)
    monkeypatch.setattr(following, "note", noted)
    head.jobs.events = granted_late()
    assert cli(*FOUR_RANKS).err.splitlines()[:3] == [
        "Submitted job 19",
        "Job 19 waits: `gpusched explain 19` says for what",
        "Job 19 starts on n[1-2] (declared GPUs), attempt 1",
    ]


@pytest.mark.parametrize(("given", "code"), [(7, 7), (137, 137), (None, 1), (0, 1)])
def test_run_ends_with_the_jobs_own_code(given, code, cli, head):
    head.jobs.events = story(ended(JobState.FAILED, EndReason.RANK_FAILED, given))
    assert cli(*FOUR_RANKS).code == code


def test_the_last_lines_of_a_failed_rank_are_shown_as_lines(cli, head):
    detail = "rank 0 on n1 exited with code 7; its last output:\n  | Trace\x1b[31m"
    head.jobs.events = story(replace(ended(JobState.FAILED, EndReason.RANK_FAILED, 7), detail=detail))
    lines = cli(*FOUR_RANKS).err.splitlines()
    assert lines[-2:] == [
        "Job 19 FAILED: NonZeroExitCode: rank 0 on n1 exited with code 7; its last output:",
        "  | Trace\\x1b[31m",
    ]


def test_quiet_leaves_only_the_output_unless_the_job_failed(cli, head):
    head.jobs.events = story(ended())
    assert cli("run", "--quiet", "--", "true").err == ""
    head.jobs.events = story(ended(JobState.FAILED, EndReason.RANK_FAILED, 7))
    assert cli("run", "--quiet", "--", "true").err == "Job 19 FAILED: NonZeroExitCode\n"


def test_the_output_of_every_attempt_is_followed(cli, head):
    again = [
        events.JobRequeued(job_id=19, epoch=1),
        events.JobAllocated(job_id=19, epoch=2, allocation=allocation()),
        events.TasksStarted(job_id=19, epoch=2, node="n1", pids=(1,)),
        events.TasksStarted(job_id=19, epoch=2, node="n2", pids=(1,)),
        ended(),
    ]
    head.jobs.events = story(*again)
    assert cli(*FOUR_RANKS).code == 0
    assert [what[2]["epoch"] for what in head.asked if what[0] == "logs"] == [1, 2]


def test_output_is_asked_for_once_every_node_runs(cli, head):
    def told():
        for recorded in story(ended()):
            assert not [what for what in head.asked if what[0] == "logs"] or recorded.seq > 4
            yield recorded

    head.jobs.watch = lambda job_ids, after_seq=0: told()
    assert cli(*FOUR_RANKS).code == 0


def test_a_job_that_never_started_a_rank_needs_no_output(cli, head):
    def nothing(job_id, **query):
        raise NotFound("no output")

    stopping = events.AttemptStopping(
        job_id=19, epoch=1, reason=EndReason.LAUNCH_FAILED, detail="no python", by=None, exit_code=None
    )
    told = [*story()[:2], events.Recorded(3, NOW_US, stopping)]
    head.jobs.events = [
        *told,
        events.Recorded(4, NOW_US, ended(JobState.FAILED, EndReason.LAUNCH_FAILED, None)),
    ]
    head.jobs.logs = nothing
    said = cli(*FOUR_RANKS)
    assert said.code == 1
    assert "Job 19 FAILED: LaunchFailed" in said.err


def test_a_head_that_goes_away_is_said_and_the_job_goes_on(cli, head):
    def gone(job_ids, after_seq=0):
        yield from story()
        raise HeadUnavailable("the head went away")

    head.jobs.watch = gone
    said = cli(*FOUR_RANKS)
    assert said.code == 6
    assert "Job 19 goes on by itself: gpusched logs -f 19" in said.err
    assert [what for what in head.asked if what[0] == "cancel"] == []


def test_run_takes_one_job(cli, head, tmp_path):
    (tmp_path / "two.yaml").write_text("run: [a]\n---\nrun: [b]\n")
    assert cli("run", "two.yaml").code == 2
    assert head.asked == []


@pytest.fixture
def interrupted(head):
    """A job that runs until it is cancelled; Ctrl-C arrives while it does. Set ``again`` for a second one."""
    cancelled = threading.Event()
    state = {"again": False}

    def press_ctrl_c():
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def cancel(job_id):
        head.asked.append(("cancel", job_id))
        cancelled.set()

    def watch(job_ids, after_seq=0):
        yield from story()
        press_ctrl_c()
        cancelled.wait(30)
        if state["again"]:
            press_ctrl_c()
            threading.Event().wait(30)
        yield events.Recorded(9, NOW_US, ended(JobState.CANCELLED, EndReason.CANCELLED, 143))

    head.jobs.cancel = cancel
    head.jobs.watch = watch
    yield state
    cancelled.set()


def cancels(head):
    return [what for what in head.asked if what[0] == "cancel"]


def test_ctrl_c_where_nobody_can_answer_cancels_and_waits_for_the_end(cli, head, interrupted):
    said = cli(*FOUR_RANKS)
    assert said.code == 130
    assert cancels(head) == [("cancel", 19)]
    assert "Job 19 CANCELLED: Cancelled" in said.err


def test_a_second_ctrl_c_detaches(cli, head, interrupted):
    interrupted["again"] = True
    said = cli(*FOUR_RANKS)
    assert said.code == 130
    assert "Detached; job 19 goes on: gpusched logs -f 19" in said.err


@pytest.mark.parametrize(("answer", "cancelled"), [("c\n", 1), ("d\n", 0), ("x\nd\n", 0), ("", 0)])
def test_ctrl_c_at_a_terminal_asks(answer, cancelled, head, interrupted, tmp_path, monkeypatch, capfd):
    session = head.session(tmp_path)
    session.is_interactive = lambda: True
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert main(list(FOUR_RANKS), session=session) == 130
    assert len(cancels(head)) == cancelled
    assert "Cancel job 19, or detach and leave it running?" in capfd.readouterr().err
