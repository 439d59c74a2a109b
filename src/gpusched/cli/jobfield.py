"""What the fields of a job file hold: how each kind is read from text, and its JSON Schema."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import PlainValidator, WithJsonSchema

from gpusched.cli import quantities
from gpusched.domain.errors import InvalidSpec
from gpusched.domain.hostlist import expand_hostlist
from gpusched.domain.ids import NodeName
from gpusched.domain.job_spec import (
    Launcher,
    OnDisconnect,
    OnUnderuse,
    RestartOn,
    Segment,
    Spread,
    StallAction,
    WarningSignal,
)

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
Percent = Annotated[
    int | None,
    PlainValidator(_of_text(quantities.parse_percent)),
    _schema(type=["string", "integer"], examples=["20%", 20, "never"]),
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
