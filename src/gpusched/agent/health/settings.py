"""What a node's operator can set of its health checks. ``daemon/agent_config.py`` reads it from a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

Argv = tuple[str, ...]

KMSG = Path("/dev/kmsg")
DEVICE_WORD = "{device}"
RESET: Argv = ("nvidia-smi", "--gpu-reset", "-i", DEVICE_WORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSettings:
    """Programs of the site: argument lists, no shell. Those of one list run in order until one fails."""

    check: tuple[Argv, ...] = ()
    prolog: tuple[Argv, ...] = ()
    epilog: tuple[Argv, ...] = ()
    check_interval_s: float = 300.0  # as Meta's clusters do, arXiv 2410.21680
    timeout_s: float = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """Of one node."""

    kmsg: Path | None = None  # None: /dev/kmsg where NVML finds devices, else nothing
    interval_s: float = 10.0
    mounts: tuple[Path, ...] = ()  # must be mount points
    disks: tuple[Path, ...] = (Path("/"),)  # file systems that must have room
    disk_max_percent: float = 90.0
    inodes_max_percent: float = 90.0
    ports: tuple[str, ...] = ()  # "mlx5_0/1" or "eth0": must be up
    clock_skew_max_s: float = 1.0
    nvml_silence_max_s: float = 15.0  # how long NVML may take to answer
    held_max_s: float = 50.0  # how long a device may stay held after its job
    reset: Argv = RESET
    reset_timeout_s: float = 120.0
    hooks: HookSettings = field(default_factory=HookSettings)
