"""Starting one rank: fork, become what the order says, exec. Nothing is inherited by accident."""

from __future__ import annotations

import errno
import json
import os
import pwd
import select
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from gpusched.agent.shim.notes import filled_in
from gpusched.agent.shim.order import Callback
from gpusched.agent.shim.proc import (
    PR_SET_NO_NEW_PRIVS,
    PR_SET_PDEATHSIG,
    holds_capabilities,
    leave_session_keyring,
    prctl,
)
from gpusched.domain.identity import Identity
from gpusched.domain.launch_plan import TaskLaunch

EXEC_TIMEOUT_S = 60  # a working directory on a dead file server never answers
SCRIPT_WORD = "{script}"
LOOK_S = 0.5
UMASK = 0o022
RESETTABLE = tuple(int(signum) for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})


class LaunchError(Exception):
    """A rank could not be started; the message is for the job's owner."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the ranks of one attempt have in common."""

    node: str
    owner: Identity
    workdir: str
    script: str | None  # the path that stands for ``{script}``
    script_fd: int | None  # kept open for the rank where that path needs it
    groups: tuple[int, ...] | None  # supplementary groups to take on; None: stay who we are
    cgroup_entrance: str | None
    notes: str | None  # the folder in which ranks leave word
    extra_env: tuple[tuple[str, str], ...]
    callback: Callback | None = None  # how a rank reaches the head, where its job does not say it

    def argv(self, task: TaskLaunch) -> list[str]:
        """The task's argv with the script's path filled in."""
        script = self.script
        return [word if script is None else word.replace(SCRIPT_WORD, script) for word in task.argv]

    def env(self, task: TaskLaunch) -> dict[str, str]:
        """The task's environment, how to reach the head, and our mark in it."""
        reaching = {} if self.callback is None else self.callback.env(task.global_rank)
        return reaching | filled_in((*task.env, *self.extra_env), self.notes)


def groups_to_take(owner: Identity, node: str) -> tuple[int, ...] | None:
    """The supplementary groups of ``owner``; None if ranks run as the user we already are.

    Groups come from this node's own user database, and only if it knows the user by that uid.

    Raises:
        LaunchError: We may not become ``owner``.
    """
    if owner.uid == os.getuid():
        return None
    if os.getuid() != 0:
        agent = pwd.getpwuid(os.getuid()).pw_name if _has_name(os.getuid()) else str(os.getuid())
        raise LaunchError(
            f"the agent on node {node} runs as user {agent} and cannot start a job of user {owner.user} "
            f"(uid {owner.uid}); run the agent as root to serve several users"
        )
    try:
        is_known = pwd.getpwnam(owner.user).pw_uid == owner.uid
    except KeyError:
        is_known = False
    return tuple(os.getgrouplist(owner.user, owner.gid)) if is_known else (owner.gid,)


def _has_name(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Forked:
    """A child on its way to exec: its error pipe is closed by a successful exec."""

    pid: int
    error_fd: int
    task: TaskLaunch


def fork_rank(task: TaskLaunch, setting: Setting, output_fd: int) -> Forked:
    """Fork; the child writes its output to ``output_fd``. Call ``await_exec`` on the result.

    Raises:
        LaunchError: The kernel gave no process.
    """
    shim_pid = os.getpid()
    error_read, error_write = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError as error:
        os.close(error_read)
        os.close(error_write)
        raise LaunchError(
            f"node {setting.node} has no room for another process ({error.strerror}); "
            "raise its process limit or ask for fewer tasks per node"
        ) from error
    if pid == 0:
        _become_rank(task, setting, shim_pid, output_fd, error_write)
    os.close(error_write)
    return Forked(pid, error_read, task)


def await_exec(forked: Forked, setting: Setting, may_wait: Callable[[], bool]) -> None:
    """Return once the rank's own program runs.

    Args:
        forked: The rank.
        setting: Its own.
        may_wait: Asked now and then: other ranks may run by now, and have to end.

    Raises:
        LaunchError: It never will; says why and what to do.
    """
    try:
        give_up_at_s = time.monotonic() + EXEC_TIMEOUT_S
        while not select.select([forked.error_fd], [], [], LOOK_S)[0]:
            if may_wait() and time.monotonic() < give_up_at_s:
                continue
            raise LaunchError(
                f"workdir {setting.workdir} on node {setting.node} did not answer within {EXEC_TIMEOUT_S} s; "
                "is its file server up?"
            )
        told = os.read(forked.error_fd, 4096)
    finally:
        os.close(forked.error_fd)
    if told:
        step, number = json.loads(told)
        raise LaunchError(_explain(step, number, forked.task, setting))


def _explain(step: str, number: int, task: TaskLaunch, setting: Setting) -> str:
    why = os.strerror(number)
    user = f"user {setting.owner.user}"
    if step == "workdir":
        return (
            f"workdir {setting.workdir} on node {setting.node}: {why}; "
            f"name a directory that every node of the job has and that {user} may enter"
        )
    if step == "exec":
        program = setting.argv(task)[0]
        remedy = {
            errno.ENOENT: f"install it there, or give a path (or a #! line) that exists there; "
            f"PATH was {setting.env(task).get('PATH', 'not set')}",
            errno.EACCES: f"make it executable for {user} (chmod +x)",
            errno.ENOEXEC: "begin it with a #! line, or name its interpreter",
            errno.E2BIG: "shorten the command line or the environment",
        }.get(number, "check the program")
        return f"program {program} cannot be started on node {setting.node}: {why}; {remedy}"
    return f"rank {task.global_rank} could not become {user} on node {setting.node}: {step}: {why}"


def _become_rank(
    task: TaskLaunch, setting: Setting, shim_pid: int, output_fd: int, error_fd: int
) -> NoReturn:
    step = "session"
    try:
        os.setsid()
        _reset_signals()
        os.umask(UMASK)
        step = "cgroup"
        _join(setting.cgroup_entrance)
        _reset_oom_score()
        _pin(task.cpu_ids)
        step = "output"
        _connect(output_fd, setting.script_fd)
        step = "credentials"
        if setting.groups is not None:
            drop_privileges(setting.owner, setting.groups)
        step = "parent"
        # After the change of credentials, which clears it. The shim may have died before.
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != shim_pid:
            os._exit(1)
        step = "workdir"
        os.chdir(setting.workdir)
        step = "exec"
        _exec(setting.argv(task), setting.env(task))
    except OSError as error:
        os.write(error_fd, json.dumps([step, error.errno or 0]).encode())
    except BaseException as error:  # noqa: BLE001 (the child must not unwind into the shim's code)
        os.write(error_fd, json.dumps([f"{step}: {error}", 0]).encode()[:4096])
    os._exit(127)


def _exec(argv: list[str], env: Mapping[str, str]) -> NoReturn:
    plain = {os.fsencode(name): os.fsencode(value) for name, value in env.items()}
    os.execvpe(argv[0], argv, plain)  # noqa: S606 (an argv, no shell)


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for signum in RESETTABLE:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _join(entrance: str | None) -> None:
    if entrance is None:
        return
    fd = os.open(entrance, os.O_WRONLY | os.O_CLOEXEC)
    os.write(fd, b"0")
    os.close(fd)


def _reset_oom_score() -> None:
    # The agent may be protected from the OOM killer; a job is not.
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return
    if int(os.read(fd, 16)) < 0:
        os.write(fd, b"0")
    os.close(fd)


def _pin(cpu_ids: tuple[int, ...]) -> None:
    usable = os.sched_getaffinity(0) & set(cpu_ids)
    if usable:  # granted CPUs that are offline by now are no reason to fail
        os.sched_setaffinity(0, usable)


def _connect(output_fd: int, script_fd: int | None) -> None:
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(null, 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    if script_fd is not None:
        os.set_inheritable(script_fd, True)
    # Every other descriptor of the shim is close-on-exec.


def drop_privileges(owner: Identity, groups: tuple[int, ...]) -> None:
    """Become ``owner`` for good, or raise: no step that fails may be passed over (CVE-2019-19728).

    Raises:
        OSError: A step failed, or the result is not what was asked for.
    """
    leave_session_keyring()  # as root still, whose quota of keys does not end with a user's
    os.setgroups(groups)
    os.setresgid(owner.gid, owner.gid, owner.gid)
    os.setresuid(owner.uid, owner.uid, owner.uid)
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if os.getresuid() != (owner.uid,) * 3 or os.getresgid() != (owner.gid,) * 3:
        raise OSError(errno.EPERM, "the change of user did not take")
    if set(os.getgroups()) != set(groups):
        raise OSError(errno.EPERM, "the change of groups did not take")
    if holds_capabilities():
        raise OSError(errno.EPERM, "capabilities of root are left")
    try:
        os.setuid(0)
    except OSError:
        return
    raise OSError(errno.EPERM, "root could be regained")
