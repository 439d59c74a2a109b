"""Payloads in jobs that run: as arguments, as variables, and where gpusched builds a command around them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from live import output

from benchmarks.cluster import Head
from gpusched.domain.errors import InvalidSpec
from gpusched.domain.ids import JobId, NodeName
from gpusched.domain.job_spec import Activation, ActivationKind, JobSpec
from gpusched.wire.client import Client

PACK = 24
HERE = (NodeName("n1"),)  # the other nodes only said that they exist
# What a program started as root, or the job's own user, must not take from a job before the job begins.
DANGEROUS = (
    *(
        "LD_PRELOAD",
        "LD_AUDIT",
        "LD_LIBRARY_PATH",
        "GCONV_PATH",
        "BASH_ENV",
        "ENV",
        "PS4",
        "IFS",
        "SHELLOPTS",
    ),
    *(
        "PROMPT_COMMAND",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "PYTHONHOME",
        "PYTHONINSPECT",
        "PERL5OPT",
        "NODE_OPTIONS",
    ),
)


@dataclass(slots=True)
class Launched:
    """What became of the jobs."""

    job_ids: set[int] = field(default_factory=set)
    changed: list[str] = field(default_factory=list)  # arguments and variables that came out otherwise
    jobs: int = 0


def launch_all(head: Head, texts: Sequence[str], around: Sequence[str]) -> Launched:
    """Run jobs with every text as argument and variable, and those of ``around`` where commands are built."""
    launched = Launched()
    clean = [text for text in texts if "\0" not in text]
    with head.client() as client:
        client.nodes.resume(HERE[0])  # payloads were reasons to drain it
        ids = [_try(client, spec) for number, text in enumerate(around) for spec in _around(text, number)]
        packs = [clean[at : at + PACK] for at in range(0, len(clean), PACK)]
        said = [(pack, _arguments(client, pack), _variables(client, pack)) for pack in packs]
        for pack, arguments, variables in said:
            if output(client, arguments) != "".join(f"{text}\0" for text in pack):
                launched.changed.append(f"arguments of job {arguments}")
            seen = output(client, variables).split("\0")
            wanted = [f"X{number}={text}" for number, text in enumerate(pack)]
            launched.changed += [f"variable {each!a}" for each in wanted if each not in seen]
            ids += [arguments, variables]
        launched.job_ids = {job_id for job_id in ids if job_id is not None}
        for job_id in launched.job_ids:
            client.jobs.wait(JobId(job_id))
    launched.jobs = len(launched.job_ids)
    return launched


def _arguments(client: Client, pack: Sequence[str]) -> JobId:
    command = ("/usr/bin/printf", r"%s\0", *pack)
    return client.jobs.submit(JobSpec(name="arguments", command=command, workdir="/", nodelist=HERE))


def _variables(client: Client, pack: Sequence[str]) -> JobId:
    env = tuple((f"X{number}", text) for number, text in enumerate(pack))
    return client.jobs.submit(
        JobSpec(name="variables", command=("/usr/bin/env", "-0"), workdir="/", env=env, nodelist=HERE)
    )


def _around(text: str, number: int) -> Iterator[JobSpec]:
    """Where a command or a path is made of it, none of which is code of the job's."""
    command = ("/bin/true",)
    yield JobSpec(name=text, comment=text, command=command)
    yield JobSpec(name="venv", command=command, activation=Activation(ActivationKind.VENV, text))
    yield JobSpec(name="conda", command=command, activation=Activation(ActivationKind.CONDA, text))
    yield JobSpec(name="container", command=command, container=text)
    yield JobSpec(name="workdir", command=command, workdir=f"/{text}")
    yield JobSpec(name="env", command=command, env=((DANGEROUS[number % len(DANGEROUS)], text),))


def _try(client: Client, spec: JobSpec) -> JobId | None:
    try:
        return client.jobs.submit(replace(spec, nodelist=HERE))
    except InvalidSpec:
        return None
