"""Mounts, disks, ports and stuck processes. ``root`` is ``/`` except in tests.

A dead file server blocks whoever asks it, so each path is asked in a thread of its own that may be
left behind; while it has not come back no second one is sent after it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from gpusched.agent.health.settings import HealthSettings
from gpusched.agent.sysfs import read_text
from gpusched.domain.health import Condition, Signal

T = TypeVar("T")

ANSWER_WAIT_S = 5.0
STUCK_AFTER_S = 60.0
FLAP_WINDOW_S = 300.0
FLAPS = 2
NAMED_MAX = 5


@dataclass(frozen=True, slots=True)
class Failed:
    """A question that could not be answered."""

    why: str


class Asker(Generic[T]):
    """Asks things that may block for ever."""

    def __init__(self, ask: Callable[[Path], T], wait_s: float = ANSWER_WAIT_S) -> None:
        self._ask, self._wait_s = ask, wait_s
        self._asking: dict[Path, threading.Thread] = {}

    def answers(self, paths: Iterable[Path]) -> dict[Path, T | Failed]:
        """Ask about all paths side by side, and wait a limited time for all of them together."""
        found: dict[Path, T | Failed] = {}
        for path in paths:
            if path not in self._asking or not self._asking[path].is_alive():
                thread = threading.Thread(target=self._answer, args=(path, found), daemon=True)
                self._asking[path] = thread
                thread.start()
        deadline_s = time.monotonic() + self._wait_s
        for path in paths:
            self._asking[path].join(max(0.0, deadline_s - time.monotonic()))
        silent = Failed(f"does not answer within {self._wait_s:.0f} s")
        return {path: found.get(path, silent) for path in paths}

    def _answer(self, path: Path, found: dict[Path, T | Failed]) -> None:
        try:
            found[path] = self._ask(path)
        except OSError as error:
            found[path] = Failed(error.strerror or str(error))


class HostChecks:
    """One look at the host after the other. Not for use from two threads at once."""

    def __init__(self, settings: HealthSettings, root: Path = Path("/")) -> None:
        self._settings, self._root = settings, root
        self._mounts: Asker[bool] = Asker(os.path.ismount)
        self._disks: Asker[os.statvfs_result] = Asker(os.statvfs)
        self._stuck_since_s: dict[tuple[int, str], float] = {}
        self._down: dict[str, bool] = {}
        self._went_down_s: dict[str, list[float]] = {}

    def look(self, now_s: float) -> tuple[Condition, ...]:
        """Everything that is wrong now.

        Args:
            now_s: Of a monotonic clock.
        """
        return (
            *self._missing_mounts(),
            *self._full_disks(),
            *self._ports(now_s),
            *self._stuck(now_s),
        )

    def _missing_mounts(self) -> Iterator[Condition]:
        for path, answer in self._mounts.answers(self._settings.mounts).items():
            if answer is True:
                continue
            why = answer.why if isinstance(answer, Failed) else "is not mounted"
            yield Condition(signal=Signal.MOUNT_MISSING, detail=f"{path} {why}")

    def _full_disks(self) -> Iterator[Condition]:
        for path, answer in self._disks.answers(self._settings.disks).items():
            if isinstance(answer, Failed):
                yield Condition(signal=Signal.MOUNT_MISSING, detail=f"{path} {answer.why}")
                continue
            # As df does: what is reserved for root is not there for jobs.
            used = answer.f_blocks - answer.f_bfree
            disk = _percent(used, used + answer.f_bavail)
            inodes = _percent(answer.f_files - answer.f_ffree, answer.f_files)
            if disk > self._settings.disk_max_percent:
                yield Condition(signal=Signal.DISK_FULL, detail=f"{path} is {disk:.0f} % full")
            if inodes > self._settings.inodes_max_percent:
                yield Condition(
                    signal=Signal.INODES_FULL, detail=f"{path} has {inodes:.0f} % of its inodes in use"
                )

    def _ports(self, now_s: float) -> Iterator[Condition]:
        down, flapping = [], []
        for port in self._settings.ports:
            is_down = not _is_up(self._root, port)
            if is_down and not self._down.get(port, False):
                self._went_down_s.setdefault(port, []).append(now_s)
            self._down[port] = is_down
            recent = [at for at in self._went_down_s.get(port, []) if now_s - at <= FLAP_WINDOW_S]
            self._went_down_s[port] = recent
            if is_down:
                down.append(port)
            if len(recent) >= FLAPS:
                flapping.append(port)
        if down:
            yield Condition(signal=Signal.PORT_DOWN, detail=f"{', '.join(down)} down")
        if flapping:
            detail = f"{', '.join(flapping)} down {FLAPS} times or more in {FLAP_WINDOW_S:.0f} s"
            yield Condition(signal=Signal.PORT_FLAPPING, detail=detail)

    def _stuck(self, now_s: float) -> Iterator[Condition]:
        now = _uninterruptible(self._root)
        since_s = {key: self._stuck_since_s.get(key, now_s) for key in now}
        self._stuck_since_s = since_s
        stuck = [key for key, at in since_s.items() if now_s - at > STUCK_AFTER_S]
        if stuck:
            named = ", ".join(f"{now[key]} ({key[0]})" for key in sorted(stuck)[:NAMED_MAX])
            yield Condition(
                signal=Signal.STUCK_PROCESSES,
                detail=f"{len(stuck)} uninterruptible for over {STUCK_AFTER_S:.0f} s: {named}",
            )


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole > 0 else 0.0  # some file systems count no inodes


def _is_up(root: Path, port: str) -> bool:
    """``mlx5_0/1`` is an InfiniBand or RoCE port, ``eth0`` a network interface (kernel: sysfs-class-*)."""
    device, _, number = port.partition("/")
    if number:
        state = read_text(root / f"sys/class/infiniband/{device}/ports/{number}/state")
        return state is not None and "ACTIVE" in state
    return read_text(root / f"sys/class/net/{device}/operstate") in ("up", "unknown")


def _uninterruptible(root: Path) -> Mapping[tuple[int, str], str]:
    """Names of processes in state D, by pid and start (proc(5), /proc/pid/stat)."""
    found: dict[tuple[int, str], str] = {}
    for folder in (root / "proc").glob("[0-9]*"):
        text = read_text(folder / "stat")
        if text is None or ")" not in text:
            continue
        name, _, rest = text.rpartition(")")
        fields = rest.split()
        is_kernel_thread = len(fields) > 6 and bool(int(fields[6]) & 0x0020_0000)  # PF_KTHREAD
        if fields and fields[0] == "D" and not is_kernel_thread and len(fields) > 19:
            found[int(folder.name), fields[19]] = name.partition("(")[2]
    return found
