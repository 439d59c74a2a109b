"""An embedded cluster: a head and agents as children of one process, on one machine."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from gpusched.agent.declared import declare_devices
from gpusched.agent.shim.proc import PR_SET_PDEATHSIG, prctl
from gpusched.daemon.config import find_config
from gpusched.daemon.head import make_home
from gpusched.domain.ids import NodeName

AGENTS_STOP_S = 60.0  # an agent that ends its jobs first waits for their kill_wait
HEAD_STOP_S = 10.0
DECLARED_DEFAULT = "4xH100"
SPOKEN = range(2, 128)  # exit codes of a command that has printed its error


@dataclass(frozen=True, slots=True, kw_only=True)
class UpSettings:
    """What ``gpusched up`` was asked for."""

    home: Path
    config: Path | None
    nodes: int
    devices: str | None
    is_shareable: bool
    cpus: int | None
    tcp: str | None


class ChildEnded(Exception):
    """The head or an agent ended by itself, with a code that says why, or by a signal (below 0)."""

    def __init__(self, what: str, code: int) -> None:
        super().__init__(f"{what} ended by itself (code {code})")
        self.code = code


async def run_up(settings: UpSettings) -> int:
    """Run until SIGINT or SIGTERM, then stop agents (with their jobs) and head.

    Returns:
        0 after a signal; when a child ended by itself its exit code, 1 if that says nothing.

    Raises:
        ConfigInvalid: The configuration or the home cannot be used; nothing was started.
        InvalidSpec: The devices make no sense.
    """
    find_config(settings.home, settings.config)  # the head reads it too; a fault is better found first
    if settings.devices is not None:
        declare_devices(settings.devices, NodeName("n1"))
    make_home(settings.home)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    devices = settings.devices or await asyncio.to_thread(_default_devices)
    try:
        async with _child(_head_argv(settings), HEAD_STOP_S) as head:
            await _first_line(head)
            async with _agents(settings, devices) as agents:
                _say_ready(settings, devices)
                await _wait_for_end(stopped, [head, *agents])
    except ChildEnded as ended:
        if ended.code in SPOKEN:  # the child has said why on the same screen
            return ended.code
        click.echo(f"gpusched up: error: {ended}", err=True)
        return 1
    return 0


def _default_devices() -> str | None:
    """None where NVML finds devices: the agent reads them."""
    from gpusched.agent.nvml import open_nvml

    reader = open_nvml()
    if reader is None:
        return DECLARED_DEFAULT
    with reader:
        return None if reader.scan().devices else DECLARED_DEFAULT


def _head_argv(settings: UpSettings) -> list[str]:
    argv = ["head", "--home", str(settings.home), "--tcp", settings.tcp or "127.0.0.1:0"]
    return argv if settings.config is None else [*argv, "--config", str(settings.config)]


def _agent_argv(settings: UpSettings, name: str, devices: str | None) -> list[str]:
    argv = ["agent", "--home", str(settings.home), "--name", name, "--on-stop", "end"]
    argv += ["--head", f"unix://{settings.home / 'head.sock'}"]
    if devices is not None:
        argv += ["--devices", devices]
    if settings.is_shareable:
        argv += ["--shareable"]
    if settings.cpus is not None:
        argv += ["--cpus", str(settings.cpus)]
    return argv


@asynccontextmanager
async def _agents(
    settings: UpSettings, devices: str | None
) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    # Real devices belong to one node: a second agent would offer them a second time.
    count = settings.nodes if devices is not None else 1
    names = [f"n{i}" for i in range(1, count + 1)]
    children: list[asyncio.subprocess.Process] = []
    try:
        for name, cpu_ids in zip(names, split_cpus(sorted(os.sched_getaffinity(0)), count), strict=True):
            children.append(await _start(_agent_argv(settings, name, devices), cpu_ids))
        yield children
    finally:
        await asyncio.gather(*(_stop(child, AGENTS_STOP_S) for child in children))


def split_cpus(cpu_ids: Sequence[int], nodes: int) -> list[Sequence[int]]:
    """Deal this machine's CPUs to its nodes, each to one; where there are too few, all to each."""
    if len(cpu_ids) < nodes:
        return [cpu_ids] * nodes
    share = len(cpu_ids) // nodes
    return [cpu_ids[i * share : (i + 1) * share] for i in range(nodes)]


@asynccontextmanager
async def _child(argv: list[str], stop_s: float) -> AsyncIterator[asyncio.subprocess.Process]:
    child = await _start(argv)
    try:
        yield child
    finally:
        await _stop(child, stop_s)


async def _start(argv: list[str], cpu_ids: Sequence[int] | None = None) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gpusched",
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE if argv[0] == "head" else None,
        # Ctrl-C reaches the whole terminal group; the children are stopped in order instead.
        start_new_session=True,
        preexec_fn=partial(_prepare_child, cpu_ids),
    )


def _prepare_child(cpu_ids: Sequence[int] | None) -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if cpu_ids is not None:
        os.sched_setaffinity(0, cpu_ids)


async def _stop(child: asyncio.subprocess.Process, wait_s: float) -> None:
    if child.returncode is not None:
        return
    child.terminate()
    try:
        async with asyncio.timeout(wait_s):
            await child.wait()
    except TimeoutError:
        child.kill()
        await child.wait()


async def _first_line(head: asyncio.subprocess.Process) -> None:
    assert head.stdout is not None
    line = await head.stdout.readline()
    if not line:
        raise ChildEnded("the head", await head.wait())
    click.echo(line.decode().rstrip())


def _say_ready(settings: UpSettings, devices: str | None) -> None:
    what = (
        "devices read by NVML" if devices is None else f"{devices} declared on each of {settings.nodes} nodes"
    )
    click.echo(f"gpusched up: ready, {what}; Ctrl-C stops it")
    click.echo(f"  export GPUSCHED_HOME={settings.home}")
    sys.stdout.flush()


async def _wait_for_end(stopped: asyncio.Event, children: list[asyncio.subprocess.Process]) -> None:
    waiting = asyncio.create_task(stopped.wait())
    ends = {asyncio.create_task(child.wait()): child for child in children}
    done, rest = await asyncio.wait({waiting, *ends}, return_when=asyncio.FIRST_COMPLETED)
    for task in rest:
        task.cancel()
    for task in done - {waiting}:
        what = "the head" if ends[task] is children[0] else "an agent"
        raise ChildEnded(what, ends[task].returncode or 0)
