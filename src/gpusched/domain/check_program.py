"""What is wrong with what a job runs, in what surroundings, and with what it is called."""

from __future__ import annotations

import re

from gpusched.domain.check_value import Check, one_argument, one_line, plain_text, shown, size_of, total
from gpusched.domain.errors import Violation
from gpusched.domain.job_spec import JobSpec, Launcher
from gpusched.domain.spec_limits import (
    COMMAND_BYTES_MAX,
    ENV_BYTES_MAX,
    IDENTIFIER,
    NAME_LENGTH_MAX,
    OPEN_ENV,
    PATH_BYTES_MAX,
    RESERVED_ENV,
    RESERVED_ENV_PREFIXES,
    SCRIPT_BYTES_MAX,
    SETUP_BYTES_MAX,
    TEXT_LENGTH_MAX,
)

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}")


def check_what_runs(spec: JobSpec) -> Check:
    """A command or a script, which the kernel and the launcher can take."""
    if bool(spec.command) == (spec.script is not None):
        yield Violation("command", "give exactly one of command (an argv) and script (text with a #! line)")
    for place, argument in enumerate(spec.command):
        yield from one_argument(f"command[{place}]", argument)
    if spec.command and not spec.command[0]:
        yield Violation("command[0]", "is empty; name the program to run")
    yield from total("command", spec.command, COMMAND_BYTES_MAX, "put long arguments in a file")
    if spec.script is not None:
        yield from plain_text("script", spec.script)
        yield from total("script", (spec.script,), SCRIPT_BYTES_MAX, "call files in workdir from it")
        if not spec.script.startswith("#!"):
            yield Violation(
                "script", "does not begin with #!; make its first line name the shell: #!/bin/bash"
            )
        if spec.launcher is Launcher.TORCHRUN:
            yield Violation(
                "launcher", "torchrun starts a command, not a script; give command, or drop launcher"
            )


def check_env(spec: JobSpec) -> Check:
    """Variables that a process can have, none of them ours."""
    seen: set[str] = set()
    for name, value in spec.env:
        field = f"env.{_printable(name)}"
        if _ENV_NAME.fullmatch(name) is None:
            yield Violation(
                "env",
                f"{shown(name)} is not a variable's name; use letters, digits and '_', no digit first",
            )
            continue
        if name in RESERVED_ENV or (name.startswith(RESERVED_ENV_PREFIXES) and name not in OPEN_ENV):
            yield Violation(field, "is set by gpusched for every rank; remove it")
        if name in seen:
            yield Violation(field, "is given twice; keep one")
        seen.add(name)
        yield from one_argument(field, value, taken=len(name) + 1)
    strings = [text for pair in spec.env for text in pair]
    yield from total("env", strings, ENV_BYTES_MAX, "put large values in a file and name the file")


def check_around(spec: JobSpec) -> Check:
    """The directory, the environment to activate, and the lines before the command."""
    yield from one_line("workdir", spec.workdir)
    if not spec.workdir.startswith("/"):
        yield Violation("workdir", f"{shown(spec.workdir)} is not absolute; begin it with /")
    if size_of(spec.workdir) > PATH_BYTES_MAX:
        yield Violation("workdir", f"is longer than {PATH_BYTES_MAX} bytes; name a shorter path")
    if spec.activation is not None:
        field, target = spec.activation.kind.value, spec.activation.target
        yield from one_line(field, target)
        if not target.strip() or target.startswith("-") or size_of(target) > PATH_BYTES_MAX:
            yield Violation(
                field,
                f"{shown(target)} names no environment; give a path or name of 1 to {PATH_BYTES_MAX} bytes "
                "that does not begin with '-'",
            )
    for place, line in enumerate(spec.setup):
        yield from plain_text(f"setup[{place}]", line)
    yield from total("setup", spec.setup, SETUP_BYTES_MAX, "put it in a file and source that")


def check_words(spec: JobSpec) -> Check:
    """Names, and free text that is shown in one line."""
    if not spec.name.strip() or len(spec.name) > NAME_LENGTH_MAX:
        yield Violation(
            "name", f"has {len(spec.name)} characters; give 1 to {NAME_LENGTH_MAX}, not all of them blank"
        )
    yield from one_line("name", spec.name)
    for field, word in (("account", spec.account), ("partition", spec.partition), ("qos", spec.qos)):
        if word is not None and IDENTIFIER.fullmatch(word) is None:
            yield Violation(
                field,
                f"{shown(word)} is not a name; use 1 to 64 letters, digits, '.', '-' and '_', "
                "beginning with a letter or digit",
            )
    for field, text in (
        ("gpu_model", spec.gpu_model),
        ("container", spec.container),
        ("comment", spec.comment),
    ):
        if text is not None:
            yield from one_line(field, text)
            if not text.strip() or len(text) > TEXT_LENGTH_MAX:
                yield Violation(
                    field, f"has {len(text)} characters; give 1 to {TEXT_LENGTH_MAX}, or leave the field out"
                )
    if spec.container is not None and spec.container.startswith("-"):
        yield Violation(
            "container", "begins with '-', which its runtime would read as an option; name an image"
        )


def _printable(name: str) -> str:
    return shown(name)[1:-1]
