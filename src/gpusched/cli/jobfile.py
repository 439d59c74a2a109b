"""The one door for jobs: a pydantic model that turns a draft into a ``JobSpec`` or says what is wrong.

Options, ``#SBATCH`` directives and YAML all end here, so a field has one spelling and one meaning.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import StrEnum
from pathlib import Path as FilePath
from typing import Annotated, Any, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    model_validator,
)

from gpusched.cli import quantities
from gpusched.cli.draft import Draft, Path
from gpusched.cli.options import did_you_mean
from gpusched.cli.textfile import checked_script, read_file
from gpusched.domain.check_spec import check_spec
from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.hostlist import expand_hostlist
from gpusched.domain.ids import NodeName
from gpusched.domain.job_spec import (
    STALL_AFTER_S,
    Activation,
    ActivationKind,
    Component,
    JobSpec,
    Launcher,
    OnDisconnect,
    OnUnderuse,
    RestartOn,
    Segment,
    Spread,
    StallAction,
    StallPolicy,
    UtilizationPolicy,
    WarningSignal,
)
from gpusched.domain.node import WHOLE_MILLI

_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_TRUE, _FALSE = {"true", "yes", "on"}, {"false", "no", "off"}


def _text(raw: object) -> str:
    if not isinstance(raw, str):
        raise ValueError(f"must be text, not {_kind(raw)}")
    if "\0" in raw:
        raise ValueError("holds a NUL character; remove it")
    try:
        raw.encode()
    except UnicodeEncodeError:
        raise ValueError("is not valid UTF-8") from None
    return raw


def _kind(raw: object) -> str:
    return {list: "a list", dict: "a mapping", type(None): "empty"}.get(type(raw), type(raw).__name__)


def _word(raw: object) -> str:
    text = _text(raw).strip()
    if not text:
        raise ValueError("is empty; leave it out or say which")
    return text


def _flag(raw: object) -> bool:
    word = _text(raw).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(f"must be true or false, not {raw!r}")
    return word in _TRUE


def _texts(raw: object) -> tuple[str, ...]:
    """A list of texts; one text is a list of one."""
    items = raw if isinstance(raw, list) else [raw]
    return tuple(_text(item) for item in items)


def _command(raw: object) -> str | tuple[str, ...]:
    given = _texts(raw)
    if not given or not given[0].strip():
        raise ValueError("is empty; give the command to run")
    return given if isinstance(raw, list) else given[0]


def _hosts(raw: object) -> tuple[NodeName, ...]:
    try:
        names = [name for text in _texts(raw) for name in expand_hostlist(text)]
    except InvalidSpec as error:
        raise ValueError("; ".join(violation.message for violation in error.violations)) from None
    return tuple(dict.fromkeys(names))


def _env(raw: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(raw, dict):
        raise ValueError(f"must be a mapping of names to values, not {_kind(raw)}")
    for name, value in raw.items():
        if not _ENV_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a variable's name: letters, digits and _, no digit first")
        if value is None:
            raise ValueError(f'{name} has no value; write {name}: "" for an empty one')
    return tuple((name, _text(value)) for name, value in raw.items())


E = TypeVar("E", bound=StrEnum)


def _one_of(kind: type[E]) -> Callable[[object], E]:
    def member(raw: object) -> E:
        try:
            return kind(_text(raw).strip().lower())
        except ValueError:
            raise ValueError(f"must be one of {', '.join(kind)}, not {raw!r}") from None

    return member


def _zero_or_more(raw: object) -> int:
    return quantities.parse_count(_text(raw), at_least=0)


def _of_text(parse: Callable[[str], Any]) -> Callable[[object], Any]:
    return lambda raw: parse(_text(raw))


def _schema(**schema: Any) -> WithJsonSchema:
    return WithJsonSchema(schema)


_SIZE_PATTERN = r"^[0-9]+([KMGTP](i?B)?)?$"
_STRINGS = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_SCALAR_VALUE = {"type": ["string", "number", "boolean"]}

Count = Annotated[int, PlainValidator(_of_text(quantities.parse_count)), _schema(type="integer", minimum=1)]
CountOrZero = Annotated[int, PlainValidator(_zero_or_more), _schema(type="integer", minimum=0)]
Size = Annotated[
    int,
    PlainValidator(_of_text(quantities.parse_size)),
    _schema(type=["string", "integer"], pattern=_SIZE_PATTERN, examples=["80G", "512M"]),
]
TimeLimit = Annotated[
    int | None,
    PlainValidator(_of_text(quantities.parse_time_limit)),
    _schema(type=["string", "integer"], examples=["30m", "12:00:00", "2-00"]),
]
Share = Annotated[
    int,
    PlainValidator(_of_text(quantities.parse_milli)),
    _schema(type=["number", "string"], exclusiveMinimum=0, maximum=1, multipleOf=0.001, examples=[0.5]),
]
Counts = Annotated[
    tuple[tuple[str, int], ...],
    PlainValidator(lambda raw: quantities.parse_counts(",".join(_texts(raw)))),
    _schema(**_STRINGS),
]
Seconds = Annotated[int, PlainValidator(_zero_or_more), _schema(type="integer", minimum=0)]
Word = Annotated[str, PlainValidator(_word), _schema(type="string", minLength=1)]
Words = Annotated[str, PlainValidator(_text), _schema(type="string")]
Flag = Annotated[bool, PlainValidator(_flag), _schema(type="boolean")]
Texts = Annotated[tuple[str, ...], PlainValidator(_texts), _schema(**_STRINGS)]
Command = Annotated[str | tuple[str, ...], PlainValidator(_command), _schema(**_STRINGS)]
Hosts = Annotated[tuple[NodeName, ...], PlainValidator(_hosts), _schema(**_STRINGS)]
Env = Annotated[
    tuple[tuple[str, str], ...],
    PlainValidator(_env),
    _schema(type="object", additionalProperties=_SCALAR_VALUE),
]
Signal = Annotated[
    WarningSignal,
    PlainValidator(_of_text(quantities.parse_signal)),
    _schema(type="string", examples=["USR1@60"]),
]
SegmentText = Annotated[
    Segment,
    PlainValidator(_of_text(quantities.parse_segment)),
    _schema(type="string", examples=["8 within rack"]),
]
SpreadName = Annotated[Spread, PlainValidator(_one_of(Spread)), _schema(enum=list(Spread))]
OnDisconnectName = Annotated[
    OnDisconnect, PlainValidator(_one_of(OnDisconnect)), _schema(enum=list(OnDisconnect))
]
StallTime = Annotated[
    int | None,
    PlainValidator(_of_text(quantities.parse_stall_time)),
    _schema(type=["string", "integer"], examples=["10m", "30s", "never"]),
]
StallActionName = Annotated[
    StallAction, PlainValidator(_one_of(StallAction)), _schema(enum=list(StallAction))
]
RestartOnName = Annotated[RestartOn, PlainValidator(_one_of(RestartOn)), _schema(enum=list(RestartOn))]
Duration = Annotated[
    int,
    PlainValidator(_of_text(quantities.parse_duration)),
    _schema(type=["string", "integer"], examples=["2h"]),
]
OnUnderuseName = Annotated[OnUnderuse, PlainValidator(_one_of(OnUnderuse)), _schema(enum=list(OnUnderuse))]
LauncherName = Annotated[Launcher, PlainValidator(_one_of(Launcher)), _schema(enum=list(Launcher))]


class ComponentFile(BaseModel):
    """Nodes of a gang that are alike, beside others that are not. Fields as in a job."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="gpusched component")

    name: Word = Field(description="Its name in messages and in GPUSCHED_COMPONENT.")
    nodes: Count = Field(1, description="How many nodes.")
    gpus_per_node: CountOrZero = Field(0, description="GPUs on each of its nodes.")
    gpu_model: Word | None = Field(None, description="Matched as words.")
    tasks_per_node: Count = Field(1, description="Ranks on each of its nodes.")
    cpus_per_task: Count = Field(1, description="CPUs of each rank.")
    mem: Size | None = Field(None, description="Host memory on each of its nodes.")
    command: Texts = Field((), description="An argv of its own; default: the job's.")

    def component(self) -> Component:
        """The domain value."""
        return Component(
            name=self.name,
            nodes=self.nodes,
            gpus_per_node=self.gpus_per_node,
            tasks_per_node=self.tasks_per_node,
            cpus_per_task=self.cpus_per_task,
            memory_bytes=self.mem or 0,
            gpu_model=self.gpu_model,
            command=self.command,
        )


class JobFile(BaseModel):
    """One job. Names are Slurm's; sizes are powers of 1024 and a bare number is MiB."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="gpusched job")

    name: Word | None = Field(None, description="Shown in listings; default: from the command or file.")
    run: Command | None = Field(None, description="A list is an argv; a string is a bash script.")
    command: Command | None = Field(None, description="The same as run.")
    script: Words | None = Field(None, description="Path of a script that starts with a #! line.")
    workdir: Words | None = Field(None, description="Default: the directory you submit from.")
    nodes: Count = Field(1, description="How many nodes; all of them or none.")
    gpus_per_node: CountOrZero = Field(0, description="Whole GPUs on each node.")
    gpu_model: Word | None = Field(
        None,
        description="Matched as words: H100 fits 'NVIDIA H100 80GB HBM3'. A bar separates alternatives.",
    )
    gpu_mem: Size | None = Field(None, description="At least this much memory on each GPU.")
    gpu_fraction: Share = Field(WHOLE_MILLI, description="Share of one GPU: counted, not isolated.")
    mig_profile: Word | None = Field(None, description="MIG slices of this profile, 1g.10gb, not whole GPUs.")
    tasks_per_node: Count = Field(1, description="Ranks on each node.")
    cpus_per_task: Count = Field(1, description="CPUs of each rank.")
    mem: Size | None = Field(None, description="Host memory on each node.")
    tmp: Size | None = Field(None, description="Local disk on each node.")
    gres: Counts = Field((), description="What else each node gives, by name: fpga:1.")
    licenses: Counts = Field((), description="Licences of the cluster, held while it runs: matlab:2,vcs.")
    time_limit: TimeLimit | None = Field(None, description=f"{quantities.TIME_FORMS}.")
    account: Word = Field("default", description="Who pays.")
    partition: Word | None = Field(None, description="Default: the cluster's.")
    qos: Word | None = Field(None, description="Quality of service.")
    nice: CountOrZero = Field(0, description="Higher goes later.")
    env: Env = Field((), description="Variables of every rank; nothing else is taken from your shell.")
    setup: Texts = Field((), description="Shell lines run before the command, on every rank.")
    venv: Words | None = Field(None, description="A virtual environment's directory.")
    conda: Word | None = Field(None, description="A conda environment's name or prefix.")
    uv: Words | None = Field(None, description="A uv project's directory.")
    container: Words | None = Field(None, description="An image, run by the node's container runtime.")
    launcher: LauncherName = Field(Launcher.DIRECT, description="Who starts the ranks.")
    signal: Signal = Field(WarningSignal(), description="Sent before the time limit, NAME@SECONDS.")
    kill_wait: Seconds = Field(30, description="Seconds between SIGTERM and SIGKILL.")
    requeue: Flag = Field(False, description="May run again after a node failed.")
    on_disconnect: OnDisconnectName | None = Field(
        None, description="On a cut-off node: fence or keep_running; default: fence what may be requeued."
    )
    restart_on: RestartOnName | None = Field(
        None, description="What requeue is for: infrastructure (the default), or any failure."
    )
    restarts_max: CountOrZero | None = Field(
        None, description="Restarts by itself, in a row; default: 4. An hour of running starts anew."
    )
    min_gpu_utilization: Count | None = Field(
        None, description="Percent of the time that each GPU should be busy (NVML's time busy)."
    )
    utilization_window: Duration = Field(
        3600, description="A GPU that is below it for so long is not used enough."
    )
    on_low_utilization: OnUnderuseName = Field(OnUnderuse.NOTIFY, description="Then: notify, or end.")
    stall_after: StallTime | None = Field(
        STALL_AFTER_S, description="A gang without any sign of work for so long has stalled; or never."
    )
    on_stall: StallActionName = Field(
        StallAction.NOTIFY, description="What follows: notify, or requeue (needs requeue: true)."
    )
    nodelist: Hosts = Field((), description="Only these nodes: n[1-4], a list, or both.")
    exclude: Hosts = Field((), description="Not these nodes.")
    hold: Flag = Field(False, description="Not to be started until released.")
    log_cap: Size = Field(64 << 20, description="Log kept per rank; the oldest output goes first.")
    comment: Words | None = Field(None, description="Free text.")
    topology_required: Word | None = Field(None, description="All nodes in one domain of this level.")
    topology_preferred: Word | None = Field(None, description="As near as this level, if it can be.")
    segment: SegmentText | None = Field(None, description="Ranks that stay together: 8 within rack.")
    spread: SpreadName | None = Field(None, description="Several domains share a gang: fewest, or even.")
    components: tuple[ComponentFile, ...] = Field(
        (), description="Unlike nodes in one gang, in rank order: instead of nodes and what each gives."
    )

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        bodies = [name for name in ("run", "command", "script") if getattr(self, name) is not None]
        if len(bodies) != 1:
            given = f"not both {' and '.join(bodies)}" if bodies else "none is there"
            raise ValueError(f"give exactly one of run, command or script; {given}")
        activations = [kind.value for kind in ActivationKind if getattr(self, kind.value) is not None]
        if len(activations) > 1:
            raise ValueError(f"give at most one of venv, conda and uv, not {' and '.join(activations)}")
        kinds = {"gpu_model": self.gpu_model, "gpu_mem": self.gpu_mem, "mig_profile": self.mig_profile}
        if self.gpus_per_node == 0 and any(kind is not None for kind in kinds.values()):
            raise ValueError(f"{_and(kinds)} need gpus_per_node: say how many GPUs each node must give")
        return self


def _and(names: Iterable[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}"


def json_schema() -> dict[str, Any]:
    """The JSON Schema of one document of a job file, for editors and checks."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **JobFile.model_json_schema()}


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


def _absolute(path: str, cwd: FilePath) -> FilePath:
    try:
        return cwd / FilePath(path).expanduser()
    except RuntimeError:  # ~name of nobody
        return cwd / path
