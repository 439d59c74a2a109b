"""A real Slurm to compare with: munged, slurmctld and two slurmd on this host, in a temporary folder.

Everything is its own (sockets, key, ports, state) and ended by its pid. The settings are those of
the project's earlier measurements: SlurmUser root, proctrack/pgid, task/none, cons_tres with CR_Core,
two nodes of declared CPUs, the rest Slurm's defaults; ``tuned`` adds what its high-throughput guide asks for
(https://slurm.schedmd.com/high_throughput.html). Needs root, ``slurm-wlm`` and ``munge``.
"""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cluster import tail, temporary_home, until

# Debian's slurm-wlm-emulator can take the plain names: the suffixed ones are the real daemons.
SLURMCTLD, SLURMD, MUNGED = "/usr/sbin/slurmctld-wlm", "/usr/sbin/slurmd-wlm", "/usr/sbin/munged"
NODES = ("n1", "n2")
STOP_DEADLINE_S = 20.0
JOBS_DEADLINE_S = 600.0

CONFIG = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={home}/munge.sock
SlurmctldPort={ports[0]}
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd-%n.pid
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool-%n
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd-%n.log
SlurmctldTimeout=20
SlurmdTimeout=20
MessageTimeout=5
KillWait=2
ReturnToService=2
JobRequeue=1
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
# One line per ended job: tells us the end without asking, so without loading, the controller.
JobCompType=jobcomp/filetxt
JobCompLoc={home}/ended.txt
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs={cpus} State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs={cpus} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
{more}
"""


@dataclass(frozen=True, slots=True)
class Flavour:
    """A name and lines to add to ``slurm.conf``."""

    name: str
    more: str


FLAVOURS = (
    Flavour("default", ""),
    Flavour(
        "tuned",
        "SchedulerType=sched/builtin\n"
        "PriorityType=priority/basic\n"
        "SchedulerParameters=sched_min_interval=100000,batch_sched_delay=1,defer\n"
        "SlurmctldDebug=error\n"
        "SlurmdDebug=error\n",
    ),
)


@dataclass(frozen=True, slots=True)
class Times:
    """Instants of one run, monotonic ns: first submit, last acknowledgement, last job's end."""

    began_ns: int
    accepted_ns: int
    ended_ns: int


def is_installed() -> bool:
    """Whether the daemons are here and we may run them."""
    return os.geteuid() == 0 and all(Path(path).exists() for path in (SLURMCTLD, SLURMD, MUNGED))


def version() -> str:
    """As ``22.05.8``."""
    done = subprocess.run([SLURMCTLD, "-V"], capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


@contextmanager
def running_slurm(flavour: Flavour, *, cpus: int) -> Iterator[SlurmCluster]:
    """A cluster of two idle nodes."""
    with temporary_home() as home, ExitStack() as stack:
        for folder in ("state", "spool-n1", "spool-n2", "work"):
            (home / folder).mkdir()
        host = socket.gethostname().partition(".")[0]
        config = home / "slurm.conf"
        config.write_text(
            CONFIG.format(home=home, host=host, ports=_free_ports(3), cpus=cpus, more=flavour.more),
            encoding="utf-8",
        )
        _start_munged(stack, home)
        _start(stack, home, "slurmctld", SLURMCTLD, "-D", "-i", "-f", str(config))
        for node in NODES:
            _start(stack, home, node, SLURMD, "-D", "-N", node, "-f", str(config))
        cluster = SlurmCluster(home, config)
        until(cluster.is_idle, f"Slurm's nodes: {tail(home / 'slurmctld.out')}", 60.0)
        yield cluster


class SlurmCluster:
    """What a user of it types."""

    def __init__(self, home: Path, config: Path) -> None:
        self._home = home
        self._environment = {**os.environ, "SLURM_CONF": str(config)}

    def is_idle(self) -> bool:
        """Whether every node is up and empty."""
        return self._typed("sinfo", "-h", "-N", "-o", "%T", check=False).split() == ["idle"] * len(NODES)

    def run_true_jobs(self, jobs: int, *, submitters: int) -> Times:
        """``sbatch --wrap true`` so many times, from so many threads; returns when the last has ended.

        Raises:
            RuntimeError: A job did not end, or ended otherwise than COMPLETED.
        """
        began_ns = time.monotonic_ns()
        with ThreadPoolExecutor(submitters) as pool:
            list(pool.map(self._submit, range(jobs)))
        accepted_ns = time.monotonic_ns()
        until(lambda: len(self._ended()) >= jobs, "Slurm's jobs", JOBS_DEADLINE_S)
        ended_ns = time.monotonic_ns()
        bad = [line for line in self._ended() if "JobState=COMPLETED" not in line]
        if bad:
            raise RuntimeError(f"{len(bad)} of {jobs} Slurm jobs did not complete: {bad[0]}")
        return Times(began_ns, accepted_ns, ended_ns)

    def _submit(self, _number: int) -> None:
        self._typed("sbatch", "--wrap", "true")

    def _ended(self) -> list[str]:
        path = self._home / "ended.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def _typed(self, *argv: str, check: bool = True) -> str:
        done = subprocess.run(
            argv,
            env=self._environment,
            cwd=self._home / "work",
            capture_output=True,
            text=True,
            check=check,
        )
        return done.stdout


def _start_munged(stack: ExitStack, home: Path) -> None:
    home.chmod(0o755)  # munged refuses a socket that others cannot reach
    key = home / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    files = [f"--key-file={key}", f"--socket={home}/munge.sock"]
    files += [f"--{kind}-file={home}/munge.{kind}" for kind in ("pid", "log", "seed")]
    _start(stack, home, "munged", MUNGED, "--foreground", *files)
    until((home / "munge.sock").exists, f"munged: {tail(home / 'munged.out')}", 20.0)


def _start(stack: ExitStack, home: Path, name: str, *argv: str) -> None:
    with (home / f"{name}.out").open("ab") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=home)
    stack.callback(_stop, process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_DEADLINE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on; all are held until all are known, so that they differ."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]
