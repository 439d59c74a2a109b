"""From what the user typed (a command, a script, a YAML file) to checked specs. Nothing is sent here."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from gpusched.cli.directives import read_directives
from gpusched.cli.draft import Draft, Raw, refuse
from gpusched.cli.job_of_draft import spec_of
from gpusched.cli.options import draft_of, per_node
from gpusched.cli.screen import note
from gpusched.cli.textfile import checked_script, read_file
from gpusched.domain.job_spec import Activation, ActivationKind, JobSpec
from gpusched.domain.spec_limits import NAME_LENGTH_MAX

_YAML_SUFFIXES = {".yaml", ".yml"}


def read_specs(
    params: Mapping[str, Any], words: Sequence[str], *, is_command: bool, cwd: Path
) -> list[JobSpec]:
    """Build the specs of one submission.

    Args:
        params: The job options, by parameter name. They win over what the file says.
        words: An argv if ``is_command`` (it came after ``--``), else one file.
        is_command: Whether ``--`` was typed.
        cwd: Where relative paths start.

    Raises:
        InvalidSpec: Naming the place of every wrong field.
        click.UsageError: No command and no file.
    """
    typed = draft_of(params, "command line:")
    if not words:
        raise click.UsageError("nothing to run: give a command after --, a script or a YAML file")
    if is_command:
        written, name = [Draft({"run": list(words)}, origin="command line")], _name_of(words)
    else:
        written, name = _read(words, cwd)
    drafts = [per_node(draft.updated(typed)) for draft in written]
    return [_activated(spec_of(draft, cwd=cwd, name=name)) for draft in drafts]


def _read(words: Sequence[str], cwd: Path) -> tuple[list[Draft], str]:
    path = Path(words[0])
    if len(words) > 1 or not (cwd / path).is_file():
        missing = "no file, but a directory" if (cwd / path).is_dir() else "no such file"
        what = f"{words[0]}: {missing}" if len(words) == 1 else "one file is taken"
        raise click.UsageError(f"{what}; to run a command, write -- before it: -- {' '.join(words)}")
    data = read_file(cwd / path, str(path))
    if path.suffix in _YAML_SUFFIXES:
        from gpusched.cli.yamlfile import read_drafts

        return read_drafts(data, str(path)), path.stem
    if path.suffix == ".py" and not data.startswith(b"#!"):
        raise refuse(str(path), f"is a Python file without a #! line; write -- python {path}")
    script = checked_script(data, str(path))
    directives = read_directives(script, str(path))
    for warning in directives.warnings:
        note(f"gpusched: warning: {warning}")
    values: dict[str, Raw] = {**directives.draft.values, "script": script}
    return [replace(directives.draft, values=values)], path.name


def _name_of(words: Sequence[str]) -> str:
    """``python -u train.py`` is called train.py: the first file of code, else the program."""
    code = next((word for word in words if word.endswith((".py", ".sh"))), words[0])
    return (Path(code).name or code)[:NAME_LENGTH_MAX]


def _activated(spec: JobSpec) -> JobSpec:
    """Take the caller's own Python environment where the job names none, and say so."""
    if spec.activation is not None or spec.container is not None:
        return spec
    for variable, kind in (("VIRTUAL_ENV", ActivationKind.VENV), ("CONDA_PREFIX", ActivationKind.CONDA)):
        target = os.environ.get(variable)
        if target:
            note(f"Using your {kind.value} {target} (${variable}); --{kind.value} chooses another.")
            return replace(spec, activation=Activation(kind, target))
    return spec
