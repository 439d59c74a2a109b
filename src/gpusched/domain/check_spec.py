"""What is wrong with a job spec, said before anything else hears of the job.

Every field has its limit here, each with the reason beside it where it is not plain. The
checks need no cluster; whether a job fits one is the placement's answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches

from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.hostlist import NAMES_MAX, NODE_NAME
from gpusched.domain.job_spec import Component, JobSpec, Launcher, StallAction
from gpusched.domain.node import WHOLE_MILLI
from gpusched.domain.partition import Partitions

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
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_Check = Iterator[Violation]

_LIKE_NODES = JobSpec(name="_")
_WRITTEN = {"memory_bytes": "mem", "gpu_memory_bytes": "gpu_mem"}  # as a job file calls them


def check_spec(spec: JobSpec, partitions: Partitions | None) -> tuple[Violation, ...]:
    """List everything that is wrong with ``spec``; empty means it may be submitted.

    Args:
        spec: As decoded; every field may hold anything of its type.
        partitions: The cluster's, to check the partition's name and limits; None where they
            are not known (a client that checks before it calls).
    """
    checks: tuple[Callable[[JobSpec], _Check], ...] = (
        _check_what_runs,
        _check_shape,
        _check_components,
        _check_memory,
        _check_counts,
        _check_time,
        _check_restarts,
        _check_stall,
        _check_utilization,
        _check_words,
        _check_env,
        _check_around,
        _check_nodes_named,
        _check_topology,
    )
    found = [violation for check in checks for violation in check(spec)]
    if partitions is not None:
        found.extend(_check_partition(spec, partitions))
    return tuple(found)


def require_valid(spec: JobSpec, partitions: Partitions | None) -> None:
    """Refuse a spec that ``check_spec`` finds fault with.

    Raises:
        InvalidSpec: With every violation found.
    """
    violations = check_spec(spec, partitions)
    if violations:
        raise InvalidSpec(violations)


def _check_what_runs(spec: JobSpec) -> _Check:
    if bool(spec.command) == (spec.script is not None):
        yield Violation("command", "give exactly one of command (an argv) and script (text with a #! line)")
    for place, argument in enumerate(spec.command):
        yield from _string(f"command[{place}]", argument)
    if spec.command and not spec.command[0]:
        yield Violation("command[0]", "is empty; name the program to run")
    yield from _total("command", spec.command, COMMAND_BYTES_MAX, "put long arguments in a file")
    if spec.script is not None:
        yield from _text("script", spec.script)
        yield from _total("script", (spec.script,), SCRIPT_BYTES_MAX, "call files in workdir from it")
        if not spec.script.startswith("#!"):
            yield Violation(
                "script", "does not begin with #!; make its first line name the shell: #!/bin/bash"
            )
        if spec.launcher is Launcher.TORCHRUN:
            yield Violation(
                "launcher", "torchrun starts a command, not a script; give command, or drop launcher"
            )


def _check_shape(spec: JobSpec) -> _Check:
    yield from _within("nodes", spec.nodes, 1, NODES_MAX)
    yield from _within("gpus_per_node", spec.gpus_per_node, 0, GPUS_PER_NODE_MAX)
    yield from _within("tasks_per_node", spec.tasks_per_node, 1, TASKS_PER_NODE_MAX)
    yield from _within("cpus_per_task", spec.cpus_per_task, 1, CPUS_PER_TASK_MAX)
    yield from _check_gpu_kind(spec)
    if spec.world_size > WORLD_SIZE_MAX:
        yield Violation(
            "nodes",
            f"times tasks_per_node is {_digits(spec.world_size)} ranks, the limit is {WORLD_SIZE_MAX}; "
            "ask for fewer",
        )
    if spec.tasks_per_node > 1 and spec.gpus_per_node % spec.tasks_per_node:
        yield Violation(
            "gpus_per_node",
            f"{_digits(spec.gpus_per_node)} GPUs cannot be shared evenly "
            f"by {_digits(spec.tasks_per_node)} tasks; run one per node, or a number that divides them",
        )


def _check_components(spec: JobSpec) -> _Check:
    """Whether a gang of unlike components says everything in them, and nothing twice."""
    if not spec.components:
        return
    if len(spec.components) > COMPONENTS_MAX:
        yield Violation(
            "components",
            f"are {len(spec.components)}, the limit is {COMPONENTS_MAX}; join those that are alike",
        )
    for field in ("gpus_per_node", "tasks_per_node", "cpus_per_task", "memory_bytes", "gpu_model"):
        if getattr(spec, field) != getattr(_LIKE_NODES, field):
            yield Violation(
                _WRITTEN.get(field, field), "is said by every component; remove it beside components"
            )
    for field in ("gpu_memory_bytes", "mig_profile", "segment", "spread"):
        if getattr(spec, field) is not None:
            yield Violation(
                _WRITTEN.get(field, field), "needs nodes that are alike; remove it, or components"
            )
    if spec.launcher is Launcher.TORCHRUN:
        yield Violation("launcher", "torchrun needs nodes that are alike; drop launcher, or components")
    if spec.nodes != sum(part.nodes for part in spec.components):
        yield Violation("nodes", "is not the sum of the components' nodes; leave it out")
    if len({part.name for part in spec.components}) < len(spec.components):
        yield Violation("components", "two have one name; rename one")
    for place, (component, part) in enumerate(zip(spec.components, spec.parts, strict=True)):
        for violation in _check_component(spec, component, part):
            yield Violation(f"components[{place}].{violation.field}", violation.message)


def _check_component(spec: JobSpec, component: Component, part: JobSpec) -> _Check:
    if IDENTIFIER.fullmatch(component.name) is None:
        yield Violation(
            "name", f"{_shown(component.name)} is not a name; use letters, digits, '.', '-' and '_'"
        )
    if component.command and spec.script is not None:
        yield Violation("command", "and a script for the whole job are two things to run; keep one")
    elif component.command:
        yield from _check_what_runs(part)
    yield from _check_shape(part)
    yield from _check_memory(part)
    if component.gpu_model is not None and component.gpus_per_node == 0:
        yield Violation("gpu_model", "needs gpus_per_node: say how many GPUs each node must give")
    yield from _check_words(part)


def _check_gpu_kind(spec: JobSpec) -> _Check:
    if not 1 <= spec.gpu_milli <= WHOLE_MILLI:
        yield Violation("gpu_fraction", f"{_digits(spec.gpu_milli)}/1000 is outside 0.001 to 1; ask for less")
    elif spec.is_gpu_shared and spec.gpus_per_node != 1:
        yield Violation("gpu_fraction", "is a share of one GPU on each node; give gpus_per_node: 1")
    if spec.mig_profile is None:
        return
    if MIG_PROFILE.fullmatch(spec.mig_profile) is None:
        yield Violation("mig_profile", f"{_shown(spec.mig_profile)} is no profile; write like 1g.10gb")
    if spec.gpus_per_node == 0:
        yield Violation("mig_profile", "needs gpus_per_node: say how many slices each node must give")
    if spec.is_gpu_shared:
        yield Violation("mig_profile", "is a slice that a job holds alone; leave out gpu_fraction")


def _check_counts(spec: JobSpec) -> _Check:
    for field, counts in (("gres", spec.gres), ("licenses", spec.licenses)):
        if len(counts) > COUNTERS_MAX:
            yield Violation(field, f"names {len(counts)} things, the limit is {COUNTERS_MAX}; name fewer")
        if len({name for name, _ in counts}) < len(counts):
            yield Violation(field, "names one thing twice; add the two up")
        for name, count in counts[:COUNTERS_MAX]:
            if IDENTIFIER.fullmatch(name) is None:
                yield Violation(field, f"{_shown(name)} is not a name; write like fpga:2")
            yield from _within(field, count, 1, COUNT_MAX)
    if any(name == "gpu" for name, _ in spec.gres):
        yield Violation("gres", "does not count GPUs; give gpus_per_node")


def _check_memory(spec: JobSpec) -> _Check:
    yield from _within("mem", spec.memory_bytes, 0, MEMORY_BYTES_MAX)
    yield from _within("tmp", spec.disk_bytes, 0, MEMORY_BYTES_MAX)
    if spec.gpu_memory_bytes is not None:
        yield from _within("gpu_mem", spec.gpu_memory_bytes, 1, MEMORY_BYTES_MAX)
    yield from _within("log_cap", spec.log_cap_bytes, LOG_CAP_BYTES_MIN, LOG_CAP_BYTES_MAX)


def _check_time(spec: JobSpec) -> _Check:
    if spec.time_limit_s is not None:
        yield from _within("time_limit", spec.time_limit_s, 1, TIME_LIMIT_S_MAX, "seconds")
    yield from _within("kill_wait", spec.kill_wait_s, 0, KILL_WAIT_S_MAX, "seconds")
    yield from _within("signal", spec.signal.lead_s, 0, SIGNAL_LEAD_S_MAX, "seconds ahead")
    if spec.signal.name not in SIGNALS:
        yield Violation(
            "signal",
            f"{_shown(spec.signal.name)} is no signal that can warn a rank; "
            f"{_nearest(spec.signal.name.upper(), SIGNALS)}",
        )
    yield from _within("nice", spec.nice, 0, NICE_MAX)


def _check_restarts(spec: JobSpec) -> _Check:
    if spec.restarts_max is not None:
        yield from _within("restarts_max", spec.restarts_max, 0, RESTARTS_MAX_MAX)
    for field, value in (("restart_on", spec.restart_on), ("restarts_max", spec.restarts_max)):
        if value is not None and not spec.requeue:
            yield Violation(field, "means nothing for a job that may not run again; add requeue")


def _check_utilization(spec: JobSpec) -> _Check:
    if spec.utilization is None:
        return
    yield from _within("min_gpu_utilization", spec.utilization.min_percent, 1, 100, "percent")
    yield from _within("utilization_window", spec.utilization.window_s, 1, TIME_LIMIT_S_MAX, "seconds")
    if spec.gpus_per_node == 0:
        yield Violation("min_gpu_utilization", "means nothing for a job without GPUs; remove it")


def _check_stall(spec: JobSpec) -> _Check:
    if spec.stall is None:
        return
    if spec.stall.after_s is not None:
        yield from _within("stall_after", spec.stall.after_s, 1, TIME_LIMIT_S_MAX, "seconds")
    if spec.stall.action is StallAction.REQUEUE and not spec.requeue:
        yield Violation("on_stall", "requeue needs a job that may run again; add requeue, or say notify")


def _check_words(spec: JobSpec) -> _Check:
    if not spec.name.strip() or len(spec.name) > NAME_LENGTH_MAX:
        yield Violation(
            "name", f"has {len(spec.name)} characters; give 1 to {NAME_LENGTH_MAX}, not all of them blank"
        )
    yield from _line("name", spec.name)
    for field, word in (("account", spec.account), ("partition", spec.partition), ("qos", spec.qos)):
        if word is not None and IDENTIFIER.fullmatch(word) is None:
            yield Violation(
                field,
                f"{_shown(word)} is not a name; use 1 to 64 letters, digits, '.', '-' and '_', "
                "beginning with a letter or digit",
            )
    for field, text in (
        ("gpu_model", spec.gpu_model),
        ("container", spec.container),
        ("comment", spec.comment),
    ):
        if text is not None:
            yield from _line(field, text)
            if not text.strip() or len(text) > TEXT_LENGTH_MAX:
                yield Violation(
                    field, f"has {len(text)} characters; give 1 to {TEXT_LENGTH_MAX}, or leave the field out"
                )
    if spec.container is not None and spec.container.startswith("-"):
        yield Violation(
            "container", "begins with '-', which its runtime would read as an option; name an image"
        )


def _check_env(spec: JobSpec) -> _Check:
    seen: set[str] = set()
    for name, value in spec.env:
        field = f"env.{_printable(name)}"
        if _ENV_NAME.fullmatch(name) is None:
            yield Violation(
                "env",
                f"{_shown(name)} is not a variable's name; use letters, digits and '_', no digit first",
            )
            continue
        if name in RESERVED_ENV or (name.startswith(RESERVED_ENV_PREFIXES) and name not in OPEN_ENV):
            yield Violation(field, "is set by gpusched for every rank; remove it")
        if name in seen:
            yield Violation(field, "is given twice; keep one")
        seen.add(name)
        yield from _string(field, value, taken=len(name) + 1)
    strings = [text for pair in spec.env for text in pair]
    yield from _total("env", strings, ENV_BYTES_MAX, "put large values in a file and name the file")


def _check_around(spec: JobSpec) -> _Check:
    yield from _line("workdir", spec.workdir)
    if not spec.workdir.startswith("/"):
        yield Violation("workdir", f"{_shown(spec.workdir)} is not absolute; begin it with /")
    if _size(spec.workdir) > PATH_BYTES_MAX:
        yield Violation("workdir", f"is longer than {PATH_BYTES_MAX} bytes; name a shorter path")
    if spec.activation is not None:
        field, target = spec.activation.kind.value, spec.activation.target
        yield from _line(field, target)
        if not target.strip() or target.startswith("-") or _size(target) > PATH_BYTES_MAX:
            yield Violation(
                field,
                f"{_shown(target)} names no environment; give a path or name of 1 to {PATH_BYTES_MAX} bytes "
                "that does not begin with '-'",
            )
    for place, line in enumerate(spec.setup):
        yield from _text(f"setup[{place}]", line)
    yield from _total("setup", spec.setup, SETUP_BYTES_MAX, "put it in a file and source that")


def _check_nodes_named(spec: JobSpec) -> _Check:
    for field, names in (("nodelist", spec.nodelist), ("exclude", spec.exclude)):
        if len(names) > NAMES_MAX:
            yield Violation(field, f"names {len(names)} nodes, the limit is {NAMES_MAX}; name fewer")
        wrong = next((name for name in names if NODE_NAME.fullmatch(name) is None), None)
        if wrong is not None:
            yield Violation(field, f"{_shown(wrong)} is no host name; use letters, digits, '.', '-' and '_'")
    usable = set(spec.nodelist) - set(spec.exclude)
    if spec.nodelist and len(usable) < spec.nodes:
        yield Violation(
            "nodelist",
            f"leaves {len(usable)} nodes for a job of {_digits(spec.nodes)}; name more, or ask for fewer",
        )


def _check_topology(spec: JobSpec) -> _Check:
    """Whether the levels exist is for the cluster to say; what divides what can be said here."""
    for field, level in (
        ("topology_required", spec.topology_required),
        ("topology_preferred", spec.topology_preferred),
        ("segment", None if spec.segment is None else spec.segment.level),
    ):
        if level is not None and IDENTIFIER.fullmatch(level) is None:
            yield Violation(field, f"{_shown(level)} is no name of a level; see gpusched topology show")
    if spec.segment is None:
        return
    size, per_node = spec.segment.size, spec.tasks_per_node
    if size < 1 or spec.world_size % size:
        yield Violation(
            "segment",
            f"{_digits(size)} ranks do not divide the gang of {_digits(spec.world_size)}; "
            "give a number that does",
        )
    elif per_node > 0 and size % per_node and per_node % size:
        yield Violation(
            "segment",
            f"{_digits(size)} ranks cut through nodes of {_digits(per_node)}; "
            "give whole nodes, or a number that divides a node's ranks",
        )


def _check_partition(spec: JobSpec, partitions: Partitions) -> _Check:
    partition = partitions.named(spec.partition)
    if partition is None:
        names = [known.name for known in partitions.all]
        yield Violation(
            "partition",
            f"there is no {_shown(spec.partition or '')}; {_nearest(spec.partition or '', names)}",
        )
        return
    limit = partition.time_limit_max_s
    if limit is None:
        return
    if spec.time_limit_s is None:
        yield Violation(
            "time_limit", f"is not given, and partition {partition.name} allows {limit} seconds; give one"
        )
    elif spec.time_limit_s > limit:
        yield Violation(
            "time_limit",
            f"{_digits(spec.time_limit_s)} is more than the {limit} seconds "
            f"that partition {partition.name} allows; ask for less, or name another partition",
        )


def _within(field: str, number: int, least: int, most: int, unit: str = "") -> _Check:
    if not least <= number <= most:
        words = f" {unit}" if unit else ""
        yield Violation(field, f"{_digits(number)} is outside {least} to {most}{words}; give a number within")


def _string(field: str, text: str, taken: int = 0) -> _Check:
    """What the kernel takes as one argument or variable."""
    yield from _text(field, text)
    size = _size(text) + taken
    if size >= STRING_BYTES_MAX:
        yield Violation(
            field, f"has {size} bytes, and Linux takes less than {STRING_BYTES_MAX} in one; use a file"
        )


def _text(field: str, text: str) -> _Check:
    """Valid UTF-8 once encoded, and no NUL: what files, arguments and the wire can carry."""
    if "\x00" in text:
        yield Violation(field, "holds a NUL character, which no argument or file name can; remove it")
    if not _is_encodable(text):
        yield Violation(field, f"{_shown(text)} is not valid UTF-8; write the file as UTF-8")


def _line(field: str, text: str) -> _Check:
    """One line that a terminal can show without being steered by it."""
    if _CONTROL.search(text):
        yield Violation(field, f"{_shown(text)} holds a control character; remove it")
    if not _is_encodable(text):
        yield Violation(field, f"{_shown(text)} is not valid UTF-8; write the file as UTF-8")


def _total(field: str, texts: Iterable[str], limit: int, remedy: str) -> _Check:
    size = sum(_size(text) + 1 for text in texts)
    if size > limit:
        yield Violation(field, f"has {size} bytes, the limit is {limit}; {remedy}")


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _nearest(word: str, known: Iterable[str]) -> str:
    names = sorted(known)
    near = get_close_matches(word[:NAME_LENGTH_MAX], names, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"


def _shown(text: str) -> str:
    """Quoted, short, and printable whatever it holds."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")


def _printable(name: str) -> str:
    return _shown(name)[1:-1]


def _digits(number: int) -> str:
    """A number, unless it is too long to read (or for Python to print)."""
    return str(number) if abs(number) < 10**30 else "a number of more than 30 digits"
