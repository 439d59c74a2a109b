"""What the ranks of an attempt are doing right now, written down beside their output.

Of every process of a rank: its state and where in the kernel it sleeps. Of the Python ones also the stacks of
all threads, by py-spy where the node has it. It only reads the process's memory (``--nonblocking``), so
a rank that moves on is not disturbed and one that is stopped can be read too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from gpusched.agent.attempt_dir import read_order, read_record
from gpusched.agent.health.programs import read_beginning
from gpusched.agent.shim.files import AttemptDir, write_durably
from gpusched.agent.shim.order import Order
from gpusched.agent.shim.proc import Process, descendants, process_table, waits_in
from gpusched.agent.shim.record import RankRecord
from gpusched.domain.errors import LogCorrupt

log = logging.getLogger(__name__)

PY_SPY_LIMIT_S = 10.0  # for one process; it takes a fraction of a second
PROCESSES_MAX = 16  # of one rank: data loaders stand all in the same place
AT_ONCE = 4
DUMP_BYTES_MAX = 256 * 1024  # of one process
COMMAND_CHARS_MAX = 200


async def write_stacks(files: AttemptDir) -> None:
    """Write one file per rank that runs; a file of an earlier dump is replaced. Never raises."""
    try:
        order, record = read_order(files), read_record(files)
        if order is None or record is None:
            return
        files.stacks.mkdir(mode=0o700, exist_ok=True)
        table = await asyncio.to_thread(process_table)
        spy = _PySpy(order)
        alive = [rank for rank in record.ranks if not rank.has_ended and rank.pid in table]
        await asyncio.gather(*(_write_rank(files, order, rank, table, spy) for rank in alive))
    except (OSError, LogCorrupt) as error:  # what ends or holds the ranks must not wait for this
        log.warning("attempt %s: its stacks cannot be kept: %s", files.path.name, error)


async def _write_rank(
    files: AttemptDir, order: Order, rank: RankRecord, table: dict[int, Process], spy: _PySpy
) -> None:
    tree = [table[rank.pid], *descendants([rank.pid], table)]
    shown = tree[:PROCESSES_MAX]
    parts = await asyncio.gather(*(_describe(process, spy) for process in shown))
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    head = f"rank {rank.global_rank} on {order.launch.node}, attempt {files.path.name}, at {now}\n"
    if len(tree) > len(shown):
        parts.append(f"{len(tree) - len(shown)} more processes are not shown\n")
    text = "\n".join((head, *parts))
    await asyncio.to_thread(write_durably, files.rank_stacks(rank.global_rank), text.encode())


async def _describe(process: Process, spy: _PySpy) -> str:
    sleeping = waits_in(process.pid)
    where = "" if sleeping is None else f", waits in {sleeping}"
    line = f"process {process.pid} ({_command(process.pid)}), state {process.state}{where}\n"
    return line + (await spy.dump(process.pid) if _is_python(process.pid) else "")


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "gone"
    return b" ".join(words).decode(errors="replace").strip()[:COMMAND_CHARS_MAX]


def _is_python(pid: int) -> bool:
    try:
        return "python" in Path(f"/proc/{pid}/exe").readlink().name
    except OSError:
        return False


class _PySpy:
    """py-spy, as the job's user wherever the kernel lets one user read their own processes."""

    def __init__(self, order: Order) -> None:
        beside = Path(sys.executable).with_name("py-spy")  # a virtual environment need not be on the PATH
        self._program = str(beside) if beside.exists() else shutil.which("py-spy")
        owner = order.launch.owner
        is_foreign = os.getuid() == 0 and owner.uid != 0 and _ptrace_scope() == 0
        self._become: dict[str, int | list[int]] = (
            {"user": owner.uid, "group": owner.gid, "extra_groups": []} if is_foreign else {}
        )
        self._at_once = asyncio.Semaphore(AT_ONCE)

    async def dump(self, pid: int) -> str:
        """Its stacks, or why there are none."""
        if self._program is None:
            return "no stacks: install py-spy on this node to see them\n"
        async with self._at_once:
            code, text = await _run((self._program, "dump", "--nonblocking", "--pid", str(pid)), self._become)
        return text if code == 0 else f"no stacks: py-spy says: {text}\n"


def _ptrace_scope() -> int:
    """Yama's setting (kernel documentation: admin-guide/LSM/Yama); 0 where it is not built in."""
    try:
        return int(Path("/proc/sys/kernel/yama/ptrace_scope").read_text())
    except (OSError, ValueError):
        return 0


async def _run(argv: Sequence[str], become: dict[str, int | list[int]]) -> tuple[int | None, str]:
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
            **become,  # type: ignore[arg-type]
        )
    except OSError as error:
        return None, str(error)
    try:
        async with asyncio.timeout(PY_SPY_LIMIT_S):
            # Of a process that its user may steer, and so make say more than this agent can hold.
            said = await read_beginning(child, DUMP_BYTES_MAX)
            await child.wait()
    except TimeoutError:
        return None, f"not done within {PY_SPY_LIMIT_S:.0f} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
    return child.returncode, said.strip() + "\n"
