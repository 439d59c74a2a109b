"""The one door for jobs: turns a draft into a ``JobSpec``, or says where it is wrong."""

from __future__ import annotations

import re
from pathlib import Path as FilePath

from pydantic import ValidationError

from gpusched.cli.draft import Draft, Path
from gpusched.cli.jobfile import JobFile
from gpusched.cli.options import did_you_mean
from gpusched.cli.textfile import checked_script, read_file
from gpusched.domain.check_spec import check_spec
from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.job_spec import (
    Activation,
    ActivationKind,
    JobSpec,
    SlowPolicy,
    StallPolicy,
    UtilizationPolicy,
)


def spec_of(draft: Draft, *, cwd: FilePath, name: str) -> JobSpec:
    """Check a draft and build its ``JobSpec``.

    Args:
        draft: The fields as written. None means not given. ``script`` is text here when it
            starts with ``#!`` (it was read from a script file already), else a path.
        cwd: What relative paths start from, and the default working directory.
        name: The job's name where the draft gives none.

    Raises:
        InvalidSpec: With one violation per wrong field, each naming where it was written.
    """
    given = {key: value for key, value in draft.values.items() if value is not None}
    try:
        model = JobFile.model_validate(given)
    except ValidationError as error:
        raise InvalidSpec(_violations(error, draft)) from None
    command, script = _body(model, draft, cwd)
    spec = JobSpec(
        name=model.name or name,
        command=command,
        script=script,
        workdir=str(_absolute(model.workdir or ".", cwd)),
        nodes=_nodes(model),
        gpus_per_node=model.gpus_per_node,
        tasks_per_node=model.tasks_per_node,
        cpus_per_task=model.cpus_per_task,
        memory_bytes=model.mem or 0,
        gpu_model=model.gpu_model,
        gpu_memory_bytes=model.gpu_mem,
        gpu_milli=model.gpu_fraction,
        mig_profile=model.mig_profile,
        disk_bytes=model.tmp or 0,
        gres=model.gres,
        licenses=model.licenses,
        time_limit_s=model.time_limit,
        account=model.account,
        partition=model.partition,
        qos=model.qos,
        nice=model.nice,
        env=model.env,
        activation=_activation(model, cwd),
        setup=model.setup,
        container=model.container,
        launcher=model.launcher,
        signal=model.signal,
        kill_wait_s=model.kill_wait,
        requeue=model.requeue,
        on_disconnect=model.on_disconnect,
        restart_on=model.restart_on,
        restarts_max=model.restarts_max,
        stall=_stall(model),
        slow=_slow(model),
        utilization=_utilization(model),
        nodelist=model.nodelist,
        exclude=model.exclude,
        hold=model.hold,
        log_cap_bytes=model.log_cap,
        comment=model.comment,
        topology_required=model.topology_required,
        topology_preferred=model.topology_preferred,
        segment=model.segment,
        spread=model.spread,
        components=tuple(item.component() for item in model.components),
    )
    # The head checks the same; here the message can still say where the field was written.
    found = check_spec(spec, None)
    if found:
        raise InvalidSpec(tuple(_placed(violation, draft) for violation in found))
    return spec


def _nodes(model: JobFile) -> int:
    is_summed = bool(model.components) and "nodes" not in model.model_fields_set
    return sum(item.nodes for item in model.components) if is_summed else model.nodes


def _placed(violation: Violation, draft: Draft) -> Violation:
    """The same with its place in front. The head says ``command[1]`` or ``env.PATH``."""
    head, *rest = (part for part in re.split(r"[.\[\]]", violation.field) if part)
    if head in {"command", "script"} and "run" in draft.values:
        head = "run"
    path: Path = (head, *(int(part) if part.isdigit() else part for part in rest))
    place = draft.place_of(path)
    return Violation(f"{place}: {violation.field}" if place == draft.origin else place, violation.message)


def _violations(error: ValidationError, draft: Draft) -> tuple[Violation, ...]:
    found = []
    order = {name: i for i, name in enumerate(draft.values)}
    faults = error.errors(include_url=False)
    for fault in sorted(
        faults, key=lambda fault: order.get(str(fault["loc"][0]) if fault["loc"] else "", -1)
    ):
        path = tuple(fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if fault["type"] == "extra_forbidden":
            message = "unknown field" + did_you_mean(str(path[0]), JobFile.model_fields)
        found.append(Violation(draft.place_of(path), message))
    return tuple(found)


def _body(model: JobFile, draft: Draft, cwd: FilePath) -> tuple[tuple[str, ...], str | None]:
    """(argv, script text): one of them is empty."""
    wanted = model.run if model.run is not None else model.command
    if isinstance(wanted, tuple):
        return wanted, None
    if isinstance(wanted, str):
        return (), wanted if wanted.startswith("#!") else f"#!/bin/bash\n{wanted.rstrip()}\n"
    script = model.script or ""
    return (), script if script.startswith("#!") else _script_at(script, draft, cwd)


def _script_at(path: str, draft: Draft, cwd: FilePath) -> str:
    return checked_script(read_file(_absolute(path, cwd), draft.place_of(("script",))), path)


def _activation(model: JobFile, cwd: FilePath) -> Activation | None:
    if model.venv is not None:
        return Activation(ActivationKind.VENV, str(_absolute(model.venv, cwd)))
    if model.uv is not None:
        return Activation(ActivationKind.UV, str(_absolute(model.uv, cwd)))
    if model.conda is not None:
        target = str(_absolute(model.conda, cwd)) if "/" in model.conda else model.conda
        return Activation(ActivationKind.CONDA, target)
    return None


def _utilization(model: JobFile) -> UtilizationPolicy | None:
    if model.min_gpu_utilization is None:
        return None
    return UtilizationPolicy(model.min_gpu_utilization, model.utilization_window, model.on_low_utilization)


def _stall(model: JobFile) -> StallPolicy | None:
    if model.model_fields_set.isdisjoint({"stall_after", "on_stall"}):
        return None
    return StallPolicy(model.stall_after, model.on_stall)


def _slow(model: JobFile) -> SlowPolicy | None:
    if model.model_fields_set.isdisjoint({"slow_over", "slow_steps"}):
        return None
    return SlowPolicy(model.slow_over, model.slow_steps)


def _absolute(path: str, cwd: FilePath) -> FilePath:
    try:
        return cwd / FilePath(path).expanduser()
    except RuntimeError:  # ~name of nobody
        return cwd / path
