"""S5: a rank is its owner and nobody else, and where any step on the way fails it is not started at all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Forks one rank for user nobody and says what became of it; run by itself, so that strace sees nothing else.
DRIVER = """
import ctypes, json, os, sys
from gpusched.agent.shim.spawn import LaunchError, Setting, await_exec, fork_rank
from gpusched.domain.identity import Identity
from gpusched.domain.launch_plan import TaskLaunch

# A secret in the session keyring that an administrator's shell hands down to the agent.
syscall = ctypes.CDLL(None).syscall
ADD_KEY, KEYCTL, JOIN, SEARCH, SESSION = 248, 250, 1, 10, -3  # x86-64
syscall(KEYCTL, JOIN, None)
key = syscall(ADD_KEY, b"user", b"of-root", b"sesame", ctypes.c_size_t(6), SESSION)

report = '''
import ctypes, json, os, signal, sys
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
print(json.dumps({
    "uids": os.getresuid(), "gids": os.getresgid(), "groups": os.getgroups(), "umask": os.umask(0),
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")),
    "session": os.getsid(0) == os.getpid(), "new_privs": status["NoNewPrivs"].strip(),
    "caps": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")],
    "blocked": status["SigBlk"].strip(), "oom": int(open("/proc/self/oom_score_adj").read()),
    "env": sorted(os.environ),
    "key": ctypes.CDLL(None).syscall(250, 10, -3, b"user", b"of-root", 0),
}))
'''
owner = Identity("nobody", 65534, 65534)
task = TaskLaunch(global_rank=0, local_rank=0, argv=("/usr/bin/python3", "-I", "-S", "-c", report),
                  env=(("PATH", "/usr/bin:/bin"),), cpu_ids=(), devices=())
setting = Setting(node="n", owner=owner, workdir="/", script=None, script_fd=None, groups=(65534,),
                  cgroup_entrance=None, notes=None, extra_env=())
leaked = os.open("/etc/shadow", os.O_RDONLY)  # Python's descriptors are close-on-exec
output, inside = os.pipe()
forked = fork_rank(task, setting, inside)
os.close(inside)
try:
    await_exec(forked, setting, lambda: True)
except LaunchError as error:
    print("refused:", error, file=sys.stderr)
    os.waitpid(forked.pid, 0)
    sys.exit(3)
with os.fdopen(output) as said:
    print(said.read())
os.waitpid(forked.pid, 0)
"""
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
SOURCE = Path(__file__).parents[3] / "src"


def driven(*prefix: str) -> subprocess.CompletedProcess[str]:
    words = [*prefix, sys.executable, "-c", DRIVER]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE), "LD_PRELOAD": ""}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120)


@AS_ROOT
def test_a_rank_is_its_owner_and_holds_nothing_else() -> None:
    ran = driven()
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said == {
        "uids": [65534] * 3,
        "gids": [65534] * 3,
        "groups": [65534],
        "umask": 0o022,
        "fds": [0, 1, 2, 3],  # 3 is the listing itself
        "session": True,
        "new_privs": "1",
        "caps": ["0" * 16] * 4,
        "blocked": "0" * 16,
        "oom": 0,
        "env": said["env"],
        "key": -1,
    }
    assert set(said["env"]) <= {"PATH", "LC_CTYPE"}


@AS_ROOT
@pytest.mark.parametrize("error", ["EPERM", "EAGAIN", "ENOSYS"])
@pytest.mark.parametrize(
    "call",
    [
        *("setsid", "rt_sigprocmask", "dup2", "setgroups", "setresgid", "setresuid", "prctl"),
        *("getresuid", "getresgid", "getgroups", "chdir"),
    ],
)
def test_no_rank_starts_where_a_step_fails(call: str, error: str) -> None:
    ran = driven("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:error={error}")
    assert (ran.returncode, ran.stdout) == (3, ""), ran
    assert ran.stderr.startswith("refused: "), ran


@AS_ROOT
@pytest.mark.parametrize("call", ["setgroups", "setresgid", "setresuid"])
def test_no_rank_starts_where_a_step_only_says_that_it_succeeded(call: str) -> None:
    ran = driven("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:retval=0")
    assert (ran.returncode, ran.stdout) == (3, ""), ran


@AS_ROOT
@pytest.mark.parametrize("error", ["EDQUOT", "ENOMEM", "EPERM"])
def test_no_rank_starts_with_the_keys_of_root(error: str) -> None:
    ran = driven("strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject=keyctl:error={error}")
    assert (ran.returncode, ran.stdout) == (3, ""), ran


@AS_ROOT
def test_no_rank_starts_where_its_capabilities_cannot_be_seen() -> None:
    of = ("-P", "/proc/self/status", "-e", "inject=openat:error=EACCES")
    ran = driven("strace", "-f", "-qq", "-o", "/dev/null", *of)
    assert (ran.returncode, ran.stdout) == (3, ""), ran


@AS_ROOT
def test_no_rank_starts_where_root_could_be_regained() -> None:
    ran = driven("strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=setuid:retval=0")
    assert (ran.returncode, ran.stdout) == (3, ""), ran
