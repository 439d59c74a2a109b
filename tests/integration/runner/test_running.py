"""Starting ranks, and how they end by themselves."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from integration.runner.rig import Node, carriers, launch_of, python, shell, task

from gpusched.domain.events import TaskFailed, TasksEnded, TasksStarted
from gpusched.domain.identity import Identity
from gpusched.domain.ids import AttemptId, DeviceUuid
from gpusched.domain.job_state import EndReason
from gpusched.domain.telemetry import DeviceUse

IS_ROOT = os.getuid() == 0


async def test_ranks_start_and_end_and_both_are_reported_in_order(node: Node) -> None:
    ended = await node.run(launch_of(shell("echo one"), shell("echo two", rank=1)))
    assert [type(fact) for fact in node.seen] == [TasksStarted, TasksEnded]
    assert ended.cause is None
    assert [(exit_.global_rank, exit_.exit_code) for exit_ in ended.exits] == [(0, 0), (1, 0)]
    started = node.seen[0]
    assert isinstance(started, TasksStarted) and len(set(started.pids)) == 2
    assert await node.output(ranks=(0,)) == "one\n"
    assert await node.output(ranks=(1,)) == "two\n"


async def test_use_counts_processor_time_and_memory_of_the_ranks(node: Node) -> None:
    burn = "x = bytearray(80 << 20)\nimport time\nwhile time.process_time() < 0.3: pass"
    ended = await node.run(launch_of(python(burn)))
    assert ended.use.cpu_s is not None and ended.use.cpu_s >= 0.3
    assert ended.use.wall_s >= 0.3
    assert ended.use.memory_peak_bytes is not None and ended.use.memory_peak_bytes >= 80 << 20


async def test_device_use_comes_from_the_callers_measurement(home: Path) -> None:
    node = Node(home)
    asked: list[AttemptId] = []

    def measure(attempt_id: AttemptId) -> tuple[DeviceUse, ...]:
        asked.append(attempt_id)
        return (DeviceUse(uuid=DeviceUuid("GPU-1"), energy_j=0.0),)

    await node.start(measure=measure)
    ended = await node.run(launch_of(task(0, "true")))
    assert ended.use.devices == (DeviceUse(uuid=DeviceUuid("GPU-1"), energy_j=0.0),)
    assert len(asked) == 1
    await node.stop()


async def test_a_failing_rank_is_reported_with_its_code_and_last_words(node: Node) -> None:
    ended = await node.run(launch_of(shell("seq 100; echo worse >&2; exit 7")))
    failed = next(fact for fact in node.seen if isinstance(fact, TaskFailed))
    assert failed.exit.exit_code == 7
    assert len(failed.last_lines) == 20
    assert failed.last_lines[-2:] == ("100", "worse")
    assert ended.exits == (failed.exit,)


async def test_a_rank_killed_by_a_signal_is_reported_with_the_signal(node: Node) -> None:
    ended = await node.run(launch_of(shell("kill -SEGV $$")))
    assert ended.exits[0].exit_code is None
    assert ended.exits[0].signal == signal.SIGSEGV


async def test_one_failing_rank_ends_its_siblings_and_only_it_is_blamed(node: Node) -> None:
    ended = await node.run(launch_of(shell("exec sleep 600"), shell("exit 3", rank=1)))
    blamed = [fact.exit.global_rank for fact in node.seen if isinstance(fact, TaskFailed)]
    assert blamed == [1]
    assert {exit_.global_rank: exit_.shell_code for exit_ in ended.exits} == {0: 128 + signal.SIGTERM, 1: 3}
    assert ended.cause is None


async def test_a_failure_is_told_while_a_sibling_still_takes_its_time_to_stop(node: Node) -> None:
    stubborn = shell("trap '' TERM; echo ready; while :; do sleep 0.1; done")
    fail = python(
        "import os,time\nwhile not os.path.exists(os.environ['GO']): time.sleep(0.01)\nraise SystemExit(3)",
        rank=1,
        GO=str(node.home / "go"),
    )
    launch = replace(launch_of(stubborn, fail), kill_wait_s=600)
    assert node.runner is not None
    await node.runner.launch(launch)
    await node.report(TasksStarted)
    (node.home / "go").touch()
    failed = await node.report(TaskFailed)
    assert isinstance(failed, TaskFailed) and failed.exit.global_rank == 1
    assert node.runner.attempts.unsettled()
    await node.runner.stop(launch.job_id, launch.epoch, 0, "enough")
    await node.report(TasksEnded)


async def test_a_rank_gets_exactly_the_environment_it_was_given(node: Node) -> None:
    await node.run(launch_of(task(0, "/usr/bin/env", GREETING="grüezi\nzäme")))
    lines = (await node.output()).splitlines()
    names = {line.split("=")[0] for line in lines if "=" in line}
    assert names == {"PATH", "RANK", "GREETING", "GPUSCHED_CONTAINMENT"}
    assert "GREETING=grüezi" in lines and "zäme" in lines


async def test_a_rank_inherits_no_descriptor_no_signal_setting_and_no_terminal(node: Node) -> None:
    look = (
        "import os, signal\n"
        "fds = sorted(int(n) for n in os.listdir('/proc/self/fd'))\n"
        "print([fd for fd in fds if fd > 2 and os.path.exists(f'/proc/self/fd/{fd}')])\n"
        "print(os.readlink('/proc/self/fd/0'), os.getsid(0) == os.getpid(), os.umask(0))\n"
        "status = open('/proc/self/status').read()\n"
        "print([line.split()[1] for line in status.splitlines() if line.startswith('SigBlk')])\n"
        "print(signal.getsignal(signal.SIGUSR1) == signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL)"
    )
    await node.run(launch_of(python(look)))
    assert (await node.output()).splitlines() == [
        "[]",
        f"{os.devnull} True {0o022}",
        "['0000000000000000']",
        "True",
    ]


async def test_a_rank_is_pinned_to_the_processors_it_was_granted(node: Node) -> None:
    cpu = min(os.sched_getaffinity(0))
    pinned = replace(python("import os; print(os.sched_getaffinity(0))"), cpu_ids=(cpu, 99_999))
    await node.run(launch_of(pinned))
    assert await node.output() == f"{{{cpu}}}\n"


async def test_a_script_runs_where_argv_names_it(node: Node, tmp_path: Path) -> None:
    launch = replace(
        launch_of(task(0, "{script}", "a b")),
        script='#!/bin/sh\necho "$1" from $(pwd)\n',
        workdir=str(tmp_path),
    )
    await node.run(launch)
    assert await node.output() == f"a b from {tmp_path}\n"


# ── what cannot be started ──────────────────────────────────────────────────────────────────


async def _refused(node: Node, *args: object, **changes: object) -> str:
    ended = await node.run(replace(launch_of(*args), **changes))  # type: ignore[arg-type]
    assert ended.cause is EndReason.LAUNCH_FAILED
    assert ended.exits == ()
    assert not any(isinstance(fact, TasksStarted | TaskFailed) for fact in node.seen)
    assert ended.detail is not None
    return ended.detail


async def test_a_missing_program_is_named_with_the_path_that_was_searched(node: Node) -> None:
    detail = await _refused(node, task(0, "trainx"))
    assert "trainx" in detail and os.environ["PATH"] in detail and "install it" in detail


async def test_a_missing_workdir_is_named(node: Node) -> None:
    detail = await _refused(node, task(0, "true"), workdir="/nowhere/at/all")
    assert "/nowhere/at/all" in detail and "every node" in detail


async def test_a_program_that_may_not_be_executed_says_chmod(node: Node, tmp_path: Path) -> None:
    program = tmp_path / "train.sh"
    program.write_text("#!/bin/sh\n")
    assert "chmod +x" in await _refused(node, task(0, str(program)))


async def test_a_program_without_an_interpreter_line_says_so(node: Node, tmp_path: Path) -> None:
    program = tmp_path / "train"
    program.write_text("echo hi\n")
    program.chmod(0o755)
    assert "#! line" in await _refused(node, task(0, str(program)))


async def test_when_one_rank_cannot_start_no_other_goes_on(node: Node) -> None:
    await _refused(node, shell("exec sleep 600"), task(1, "/no/such/program"))
    assert carriers(node.token()) == []


# ── users ───────────────────────────────────────────────────────────────────────────────────

NOBODY = Identity("nobody", 65534, 65534)


@pytest.mark.skipif(not IS_ROOT, reason="only root can start ranks as another user; the twin below runs then")
async def test_root_starts_the_rank_as_its_owner_and_nothing_of_root_is_left(node: Node) -> None:
    script = (
        "#!/bin/sh\nid -u; id -g; id -G\n"
        "grep -E '^(NoNewPrivs|CapEff|CapPrm)' /proc/self/status | tr -s '[:space:]' ' '\n"
        'test -r "$ATTEMPT" || echo closed\n'
    )
    task_ = task(0, "{script}", ATTEMPT=str(node.files().path))
    ended = await node.run(replace(launch_of(task_), owner=NOBODY, script=script))
    assert (await node.output()).split() == [
        *("65534", "65534", "65534"),
        *("CapPrm:", "0000000000000000", "CapEff:", "0000000000000000", "NoNewPrivs:", "1"),
        "closed",
    ]
    assert ended.exits[0].is_success


@pytest.mark.skipif(IS_ROOT, reason="root may become anybody; the twin above runs then")
async def test_without_root_a_job_of_another_user_is_refused(node: Node) -> None:
    detail = await _refused(node, task(0, "true"), owner=Identity("other", os.getuid() + 1, 1))
    assert "run the agent as root" in detail


async def test_the_jobs_user_can_neither_enter_nor_change_the_attempts_folder(node: Node) -> None:
    await node.run(launch_of(task(0, "true")))
    for path in (node.files().path, node.files().rank_logs(0)):
        assert path.stat().st_mode & 0o777 == 0o700
        assert path.stat().st_uid == os.getuid()
    for path in (*node.files().rank_logs(0).iterdir(), node.files().record, node.files().order):
        assert path.stat().st_mode & 0o777 == 0o600


async def test_hundreds_of_attempts_at_once_all_end_once(node: Node) -> None:
    assert node.runner is not None
    launches = [launch_of(task(0, "true"), job_id=number) for number in range(1, 201)]
    await asyncio.gather(*map(node.runner.launch, launches))
    ended: list[int] = []
    while len(ended) < len(launches):
        fact = await node.report(TasksEnded)
        ended.append(fact.job_id)
    assert sorted(ended) == list(range(1, 201))
    assert node.runner.attempts.unsettled() == ()
