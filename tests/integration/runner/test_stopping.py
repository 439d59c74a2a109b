"""Ending ranks: orders, the time limit, and those that do not want to go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from integration.runner.escapees import escape, escaped
from integration.runner.rig import (
    FIRST,
    JOB,
    NODE,
    Node,
    carriers,
    launch_of,
    python,
    said,
    shell,
    started,
    task,
)

from gpusched.agent.attempt_dir import attempts_folder, write_order
from gpusched.agent.shim.containment import Cgroup, own_cgroup
from gpusched.agent.shim.lease import Lease, boot_time_us
from gpusched.agent.shim.order import LeaseTerm, Order
from gpusched.agent.shim.proc import boot_id, is_same_process
from gpusched.agent.shim.record import Phase
from gpusched.domain.events import TaskFailed, TasksEnded
from gpusched.domain.job_spec import WarningSignal
from gpusched.domain.job_state import EndReason


async def stopped(node: Node, kill_wait_s: int) -> TasksEnded:
    assert node.runner is not None
    await node.runner.stop(JOB, FIRST, kill_wait_s, "somebody asked")
    ended = await node.report(TasksEnded)
    assert isinstance(ended, TasksEnded)
    return ended


async def test_a_stop_order_ends_the_ranks_and_blames_none_of_them(node: Node) -> None:
    await started(node, launch_of(shell("echo ready; exec sleep 600")))
    ended = await stopped(node, 600)
    assert ended.exits[0].signal == signal.SIGTERM
    assert ended.cause is None
    assert ended.detail == "somebody asked"
    assert not any(isinstance(fact, TaskFailed) for fact in node.seen)


async def test_a_rank_may_use_its_grace_to_end_well(node: Node) -> None:
    await started(node, launch_of(shell("trap 'echo saved; exit 0' TERM; sleep 600 & echo ready; wait")))
    ended = await stopped(node, 600)
    assert ended.exits[0].exit_code == 0
    assert await node.output() == "ready\nsaved\n"


async def test_a_program_under_a_shell_keeps_its_grace_when_the_shell_dies_first(node: Node) -> None:
    save = (
        "import signal, sys, time\n"
        "def save(*_):\n    time.sleep(0.5); print('saved', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, save); print('ready', flush=True)\nwhile True: time.sleep(1)"
    )
    inner = python(save)
    quoted = " ".join(f"'{word}'" for word in inner.argv[:-1])
    wrapped = task(0, "/bin/sh", "-c", f'{quoted} "$CODE"; echo never', CODE=save)
    await started(node, launch_of(wrapped))
    ended = await stopped(node, 600)
    assert ended.exits[0].signal == signal.SIGTERM
    assert await node.output() == "ready\nsaved\n"


async def test_a_rank_that_ignores_sigterm_is_killed_after_the_wait(node: Node) -> None:
    await started(node, launch_of(shell("trap '' TERM; echo ready; while :; do sleep 0.05; done")))
    ended = await stopped(node, 1)
    assert ended.exits[0].signal == signal.SIGKILL


async def test_a_second_stop_order_can_shorten_the_wait_of_the_first(node: Node) -> None:
    launch = launch_of(shell("trap 'echo deaf' TERM; echo ready; while :; do sleep 0.05; done"))
    await started(node, launch)
    assert node.runner is not None
    await node.runner.stop(JOB, FIRST, 600, "gently")
    await said(node, launch, "deaf")  # an order that replaces one not yet read is the only order
    ended = await stopped(node, 0)
    assert ended.exits[0].signal == signal.SIGKILL
    assert ended.detail == "gently"


async def test_stopping_what_has_ended_answers_with_the_same_end(node: Node) -> None:
    first = await node.run(launch_of(task(0, "true")))
    assert await stopped(node, 5) == first


# ── the time limit ──────────────────────────────────────────────────────────────────────────


async def test_at_the_time_limit_the_ranks_end_and_the_limit_is_the_cause(node: Node) -> None:
    ended = await node.run(replace(launch_of(shell("exec sleep 600")), time_limit_s=1))
    assert ended.cause is EndReason.TIME_LIMIT
    assert ended.detail == "time limit of 1 s passed"
    assert ended.use.wall_s >= 1.0
    assert not any(isinstance(fact, TaskFailed) for fact in node.seen)


async def test_the_warning_reaches_the_program_and_not_the_shell_around_it(node: Node) -> None:
    code = (
        "import signal, sys, time\n"
        "def warned(*_):\n    print('warned', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGUSR2, warned)\nwhile True: time.sleep(1)"
    )
    inner = python(code)
    quoted = " ".join(f"'{word}'" for word in inner.argv[:-1])
    wrapped = task(0, "/bin/sh", "-c", f'{quoted} "$CODE"; echo "shell lives"', CODE=code)
    launch = replace(
        launch_of(wrapped), time_limit_s=600, signal=WarningSignal(name="SIGUSR2", lead_s=598), kill_wait_s=1
    )
    ended = await node.run(launch)
    assert await node.output() == "warned\nshell lives\n"
    assert ended.exits[0].exit_code == 0
    assert ended.cause is None


async def test_a_warning_does_not_kill_a_job_that_never_heard_of_it(node: Node) -> None:
    launch = replace(
        launch_of(shell("exec sleep 600")), time_limit_s=1, signal=WarningSignal(name="SIGUSR1", lead_s=60)
    )
    ended = await node.run(launch)
    assert ended.cause is EndReason.TIME_LIMIT
    assert ended.exits[0].signal == signal.SIGTERM


# ── escapees ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wipe", ["", "environment too"])
async def test_201_escapees_are_gone_when_the_end_is_reported(node: Node, wipe: str) -> None:
    ended = await node.run(escape(node, 201, wipe=wipe))
    assert len((node.home / "pids").read_text().split()) == 201
    assert escaped(node) == {}
    assert ended.exits[0].exit_code == 0


async def test_escapees_do_not_outlive_a_stop_order(node: Node) -> None:
    await started(node, escape(node, 5, then="time.sleep(600)"), "escaped")
    assert len(escaped(node)) == 5
    await stopped(node, 600)
    assert escaped(node) == {}


async def test_an_escapee_that_keeps_writing_does_not_delay_the_end(node: Node) -> None:
    flood = shell("(trap '' TERM HUP; setsid sh -c 'while :; do echo flood; done') & echo begun; sleep 0.1")
    ended = await node.run(launch_of(flood))
    assert ended.exits[0].exit_code == 0
    assert carriers(node.token()) == []


@pytest.fixture
def cgroup_parent() -> Path:
    parent = own_cgroup()
    if parent is None or not os.access(parent, os.W_OK):
        pytest.skip("this machine lets us make no control group (v2); the subreaper tests stand for it")
    return parent


async def test_in_a_control_group_escapees_die_with_it_and_it_is_removed(
    home: Path, cgroup_parent: Path
) -> None:
    node = Node(home, cgroup_parent=cgroup_parent)
    await node.start()
    await started(node, escape(node, 50, then="time.sleep(600)"), "escaped")
    group = Cgroup(cgroup_parent / node.order().cgroup_name)
    assert len(group.members()) == 51
    await stopped(node, 0)
    assert escaped(node) == {}
    assert not group.path.exists()
    await node.stop()


async def test_wiped_escapees_in_a_control_group_die_even_after_the_shim_was_killed(
    home: Path, cgroup_parent: Path
) -> None:
    node = Node(home, cgroup_parent=cgroup_parent)
    await node.start()
    await started(node, escape(node, 20, then="time.sleep(600)", wipe="yes"), "escaped")
    shim = node.record().shim_pid
    assert shim is not None
    os.kill(shim, signal.SIGKILL)
    ended = await node.report(TasksEnded)
    assert isinstance(ended, TasksEnded) and ended.cause is EndReason.SHIM_LOST
    assert escaped(node) == {}
    await node.stop()


async def test_freezing_kills_every_member_of_a_version_1_group(home: Path, cgroup_v1: Path) -> None:
    node = Node(home, cgroup_parent=cgroup_v1)
    await node.start()
    await started(node, escape(node, 20, then="time.sleep(600)"), "escaped")
    await stopped(node, 0)
    assert escaped(node) == {}
    await node.stop()


@pytest.fixture
def cgroup_v1() -> Path:
    parent = Path("/sys/fs/cgroup/freezer")
    if not os.access(parent / "cgroup.procs", os.W_OK):
        pytest.skip("this machine has no writable freezer (v1); the subreaper tests stand for it")
    return parent


# ── the shim's own death ────────────────────────────────────────────────────────────────────


async def test_when_the_shim_is_killed_its_ranks_and_their_escapees_die_with_it(
    node: Node,
) -> None:
    await started(node, escape(node, 10, then="time.sleep(600)"), "escaped")
    record = node.record()
    assert record.shim_pid is not None
    os.kill(record.shim_pid, signal.SIGKILL)
    ended = await node.report(TasksEnded)
    assert isinstance(ended, TasksEnded)
    assert ended.cause is EndReason.SHIM_LOST
    assert ended.detail is not None and NODE in ended.detail
    assert escaped(node) == {}
    assert not any(is_same_process(rank.pid, rank.start_ticks) for rank in record.ranks)
    assert ended.use.wall_s > 0.0


async def test_a_shim_told_to_terminate_ends_its_ranks_and_says_the_node_goes_down(node: Node) -> None:
    await started(node, launch_of(shell("echo ready; exec sleep 600")))
    shim = node.record().shim_pid
    assert shim is not None
    os.kill(shim, signal.SIGTERM)
    ended = await node.report(TasksEnded)
    assert isinstance(ended, TasksEnded)
    assert ended.cause is EndReason.NODE_FAIL
    assert ended.exits[0].signal == signal.SIGTERM


def test_ranks_that_run_end_with_their_lease_though_another_hangs_at_its_start(home: Path) -> None:
    boot = boot_id()
    lease = Lease(home.parent / "lease")
    lease.renew(boot_time_us() + 2_000_000)
    assert lease.term is not None
    hung = replace(shell("true", rank=1), cpu_ids=(1,))
    launch = launch_of(python("import time; time.sleep(1000)"), hung)
    order = Order(
        boot_id=boot,
        token="f00d",
        cgroup_parent=None,
        launch=launch,
        lease=LeaseTerm(str(lease.path), lease.term),
    )
    node = Node(home)
    attempts_folder(home).mkdir(parents=True)
    write_order(node.files(), order)
    script = Path(__file__).with_name("hung_shim.py")
    subprocess.run([sys.executable, str(script), str(node.files().path)], check=True, timeout=30)
    record = node.record()
    assert (record.phase, record.cause) == (Phase.ENDED, EndReason.NODE_FAIL)
    assert carriers(order.token) == []
