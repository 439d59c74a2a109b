"""The limits of what may be asked, each with the reason beside it where it is not plain."""

from __future__ import annotations

import re

NODES_MAX = 65_536
GPUS_PER_NODE_MAX = 1024
TASKS_PER_NODE_MAX = 4096
CPUS_PER_TASK_MAX = 65_536
COMPONENTS_MAX = 8  # placement looks at every set of them
WORLD_SIZE_MAX = 1 << 20
MEMORY_BYTES_MAX = (1 << 53) - 1  # the largest integer that JSON readers keep exact
TIME_LIMIT_S_MAX = 10 * 366 * 86_400
KILL_WAIT_S_MAX = 3600
SIGNAL_LEAD_S_MAX = 65_535  # Slurm's
RESTARTS_MAX_MAX = 1000
NICE_MAX = 2_147_483_645  # Slurm's
COUNTERS_MAX = 64
COUNT_MAX = 1_000_000
LOG_CAP_BYTES_MIN = 64 << 10
LOG_CAP_BYTES_MAX = 1 << 40
SLOW_OVER_PERCENT_MAX = 100_000  # a thousand times as long: who waits for more wants never
SLOW_STEPS_MAX = 1_000_000

ENV_BYTES_MAX = 1 << 20
STRING_BYTES_MAX = 128 << 10  # Linux refuses a longer argument or variable (MAX_ARG_STRLEN, execve(2))
COMMAND_BYTES_MAX = 512 << 10  # with ENV_BYTES_MAX below the 2 MiB that execve takes under an 8 MiB stack
SCRIPT_BYTES_MAX = 1 << 20
SETUP_BYTES_MAX = 64 << 10  # becomes one argument of a shell, together with the activation
PATH_BYTES_MAX = 4095  # PATH_MAX without its NUL
NAME_LENGTH_MAX = 128
TEXT_LENGTH_MAX = 1024

SIGNALS = frozenset(
    {"SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM"}
    | {"SIGTERM", "SIGCONT", "SIGURG", "SIGWINCH", "SIGXCPU", "SIGXFSZ"}
)
"""Signals that can warn: those a process may catch, and that do not report a fault of its own."""

RESERVED_ENV = frozenset(
    {"RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"}
    | {"WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE", "CUDA_VISIBLE_DEVICES"}
)
RESERVED_ENV_PREFIXES = ("SLURM_", "SLURMD_", "GPUSCHED_", "TORCHELASTIC_")

OPEN_ENV = frozenset({"GPUSCHED_CHECKPOINT_DIR"})
"""What begins like ours and is the job's to set all the same."""

MIG_PROFILE = re.compile(r"([1-9]c\.)?[1-9]g\.[1-9][0-9]{0,3}gb(\+[a-z.]{1,16})?")
"""As NVIDIA names them: 1g.10gb, 1g.10gb+me, 2c.3g.40gb (MIG User Guide, "Device Nomenclature")."""

IDENTIFIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
