"""The TOML file of ``gpusched agent --health``: what to check on one node, and its hooks.

``docs/operations/health.md`` lists the keys.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, Field, ValidationError

from gpusched.agent.health.settings import DEVICE_WORD, RESET, HealthSettings, HookSettings
from gpusched.daemon.tables import STRICT, first_problem
from gpusched.domain.errors import ConfigInvalid

PAGE = "docs/operations/health.md"

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
Percent = Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)]
Words = Annotated[list[str], Field(min_length=1, max_length=100)]
Place = Annotated[Path, Field(strict=False)]


class _Table(BaseModel):
    model_config = STRICT


class HooksTable(_Table):
    """``[hooks]``: programs of the site, as lists of words; no shell."""

    check: list[Words] = []
    prolog: list[Words] = []
    epilog: list[Words] = []
    check_interval_s: Seconds = 300.0
    timeout_s: Seconds = 60.0


class NodeHealthFile(_Table):
    """The whole file."""

    kmsg: Place | None = None
    interval_s: Seconds = 10.0
    mounts: list[Place] = []
    disks: list[Place] = [Path("/")]
    disk_max_percent: Percent = 90.0
    inodes_max_percent: Percent = 90.0
    ports: list[str] = []
    clock_skew_max_s: Seconds = 1.0
    nvml_silence_max_s: Seconds = 15.0
    held_max_s: Seconds = 50.0
    reset: Words = list(RESET)
    reset_timeout_s: Seconds = 120.0
    hooks: HooksTable = HooksTable()


def load_health(path: Path) -> HealthSettings:
    """Read the file.

    Raises:
        ConfigInvalid: It can't be read, is no TOML, or a key is unknown or wrong.
    """
    try:
        file = NodeHealthFile.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}: name a readable file with --health") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path}: not TOML: {error}") from error
    except ValidationError as error:
        raise ConfigInvalid(f"{path}: {first_problem(error, page=PAGE)}") from error
    if not any(DEVICE_WORD in word for word in file.reset):
        raise ConfigInvalid(f"{path}: reset: no word holds {DEVICE_WORD}: say which device is to be reset")
    return _settings(file)


def _settings(file: NodeHealthFile) -> HealthSettings:
    hooks = file.hooks
    return HealthSettings(
        kmsg=file.kmsg,
        interval_s=file.interval_s,
        mounts=tuple(file.mounts),
        disks=tuple(file.disks),
        disk_max_percent=file.disk_max_percent,
        inodes_max_percent=file.inodes_max_percent,
        ports=tuple(file.ports),
        clock_skew_max_s=file.clock_skew_max_s,
        nvml_silence_max_s=file.nvml_silence_max_s,
        held_max_s=file.held_max_s,
        reset=tuple(file.reset),
        reset_timeout_s=file.reset_timeout_s,
        hooks=HookSettings(
            check=tuple(map(tuple, hooks.check)),
            prolog=tuple(map(tuple, hooks.prolog)),
            epilog=tuple(map(tuple, hooks.epilog)),
            check_interval_s=hooks.check_interval_s,
            timeout_s=hooks.timeout_s,
        ),
    )
