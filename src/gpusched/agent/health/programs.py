"""Runs the site's programs: an argument list, a clean environment, a time limit; what they say is kept.

A program gets nothing of the agent's environment but what stands in ``ENVIRONMENT``, and nothing that a
job's owner can choose: variables that loaders and shells obey (LD_PRELOAD, BASH_ENV and their like) have
made root's hooks run users' code elsewhere (CVE-2017-15566, CVE-2021-31215).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from gpusched.agent.health.settings import Argv
from gpusched.domain.errors import ConfigInvalid

ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/",
}
OUTPUT_BYTES_MAX = 16_384
WORDS_MAX = 300


@dataclass(frozen=True, slots=True)
class Ran:
    """How a program ended. ``failure`` is None if it was content; else the reason in its own words."""

    failure: str | None
    output: str


def require_trusted(argv: Argv) -> None:
    """Refuse a program that somebody else could change.

    Raises:
        ConfigInvalid: It is no absolute path, not there, or it or a folder above it may be written by
            others than root and this user.
    """
    program = Path(argv[0])
    if not program.is_absolute():
        raise ConfigInvalid(f"hook {argv[0]}: give the whole path of the program")
    try:
        real = program.resolve(strict=True)
        for path in (real, *real.parents):
            _require_own(path, path.stat())
    except OSError as error:
        raise ConfigInvalid(f"hook {program}: {error.strerror}") from error
    if not os.access(real, os.X_OK):
        raise ConfigInvalid(f"hook {program}: not executable: chmod +x it")


def _require_own(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (0, os.geteuid()):
        raise ConfigInvalid(f"hook: {path} belongs to uid {found.st_uid}: give it to root")
    # In a sticky folder (/tmp) others can add, and not replace what is not theirs.
    is_sticky = stat.S_ISDIR(found.st_mode) and bool(found.st_mode & stat.S_ISVTX)
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not is_sticky:
        raise ConfigInvalid(f"hook: {path} may be written by others: chmod go-w it")


async def run_program(argv: Argv, timeout_s: float, facts: Mapping[str, str] | None = None) -> Ran:
    """Run one program to its end.

    Args:
        argv: The program and its arguments; no shell sees them.
        timeout_s: It is killed after this, with everything it started in its session.
        facts: What it is told, beside ``ENVIRONMENT``.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            env={**ENVIRONMENT, **(facts or {})},
            cwd="/",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return Ran(f"{argv[0]}: {error.strerror}", "")
    try:
        async with asyncio.timeout(timeout_s):
            output = await read_beginning(process, OUTPUT_BYTES_MAX)
            code = await process.wait()
    except TimeoutError:
        await _kill(process)
        return Ran(f"{argv[0]} did not end within {timeout_s:.0f} s", "")
    except asyncio.CancelledError:
        await _kill(process)
        raise
    if code == 0:
        return Ran(None, output)
    words = next((line.strip() for line in output.splitlines() if line.strip()), f"exit code {code}")
    return Ran(f"{Path(argv[0]).name}: {words[:WORDS_MAX]}", output)


async def read_beginning(process: asyncio.subprocess.Process, bytes_max: int) -> str:
    """The beginning of a program's output; the rest is read and dropped, so that it never blocks."""
    assert process.stdout is not None
    kept = b""
    while chunk := await process.stdout.read(bytes_max):
        kept += chunk[: bytes_max - len(kept)]
    return kept.decode(errors="replace")


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
