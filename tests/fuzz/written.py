"""Payloads in files that people write: job files in YAML, and directives of scripts."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field, replace

import click

from benchmarks.cluster import Head
from gpusched.cli.submission import read_specs
from gpusched.domain.errors import GpuschedError, InfeasibleRequest, InvalidSpec

KEYS = (
    "name",
    "comment",
    "account",
    "partition",
    "qos",
    "workdir",
    "venv",
    "container",
    "gpu_model",
    "nodelist",
)
OPTIONS = (
    "job-name",
    "comment",
    "account",
    "partition",
    "qos",
    "chdir",
    "nodelist",
    "gres",
    "signal",
    "export",
)


@dataclass(slots=True)
class Written:
    """What became of the files."""

    job_ids: set[int] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)  # neither jobs nor a clear refusal


def specs_of_files(head: Head, texts: Sequence[str]) -> Written:
    """Read every file as ``gpusched submit`` does, and submit what is a job, held."""
    written, specs = Written(), []
    for number, text in enumerate(texts):
        for name, content in _files(number, text):
            path = head.home / name
            path.write_bytes(content.encode("utf-8", "surrogatepass"))
            try:
                with redirect_stderr(io.StringIO()):  # warnings, thousands of them
                    specs += read_specs({}, [name], is_command=False, cwd=head.home)
            except (GpuschedError, click.UsageError):
                continue
            except Exception as error:  # noqa: BLE001 - what must never come is what is looked for
                written.broken.append(f"{name} {content!a}: {error!r}")
    with head.client() as client:
        for spec in specs:
            try:
                written.job_ids.add(client.jobs.submit(replace(spec, hold=True)))
            except (InvalidSpec, InfeasibleRequest):
                continue
    return written


def _files(number: int, text: str) -> Iterator[tuple[str, str]]:
    """A payload quoted, as it is, as a key, and in a directive; which key and option goes by turns."""
    key, option = KEYS[number % len(KEYS)], OPTIONS[number % len(OPTIONS)]
    quoted = json.dumps(text)
    yield "quoted.yaml", f"run: 'true'\n{key}: {quoted}\n"
    yield "raw.yaml", f"run: 'true'\n{key}: {text}\n"
    yield "key.yaml", f"run: 'true'\nenv: {{{quoted}: x}}\n{quoted}: x\n"
    yield "env.yaml", f"run: 'true'\nenv: {{X: {quoted}}}\n"
    yield "job.sh", f"#!/bin/sh\n#SBATCH --{option}={text}\ntrue\n"
    yield "quoted.sh", f"#!/bin/sh\n#SBATCH --{option}={quoted}\n#GPUSCHED {text}\ntrue\n"
