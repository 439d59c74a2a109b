"""How one field travels: the rules of ``codec.py``, as functions made once per field."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Protocol, Union, get_args, get_origin

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gpusched.domain.errors import InvalidSpec, Violation

Convert = Callable[[Any], Any]


class BothWays(Protocol):
    """What a field needs of a nested message's codec."""

    def to_proto(self, value: Any) -> Any: ...
    def from_proto(self, message: Any) -> Any: ...


Known = Mapping[Any, BothWays]


class CodecMismatch(TypeError):
    """A domain type and its message do not have the same fields: a bug, found when the codec is built."""


def field_reader(field: FieldDescriptor, hint: Any, known: Known) -> Convert:
    """Make the function from a message to the domain value of one field.

    Raises:
        CodecMismatch: ``hint`` cannot travel as ``field``.
    """
    inner, is_optional = _split_optional(hint)
    name = field.name
    if field.is_repeated:
        return _repeated_reader(field, inner, known, is_optional=is_optional)
    convert = _value_reader(field, inner, known)
    get = attrgetter(name)
    if field.message_type is None and not is_optional:
        return get if convert is None else _guarded(name, lambda message: convert(get(message)))
    if field.enum_type is not None:
        return _guarded(name, lambda message: convert(get(message)) if convert and get(message) else None)
    if field.message_type is None and not field.has_presence:
        raise CodecMismatch(f"{field.full_name} must be optional, as {hint} is")
    if convert is None:
        return lambda message: get(message) if message.HasField(name) else None

    def read(message: Message) -> Any:
        if message.HasField(name):
            return convert(get(message))
        if is_optional:
            return None
        raise InvalidSpec((Violation("", "is required"),))

    return _guarded(name, read)


def _repeated_reader(field: FieldDescriptor, hint: Any, known: Known, *, is_optional: bool) -> Convert:
    collect = get_origin(hint)
    if collect not in (tuple, frozenset):
        raise CodecMismatch(f"{field.full_name} is repeated, {hint} is not")
    convert = _value_reader(field, get_args(hint)[0], known)
    get = attrgetter(field.name)

    def read(message: Message) -> Any:
        values = get(message)
        try:
            return collect(values) if convert is None else collect(map(convert, values))
        except InvalidSpec as error:
            raise at_first_bad(field.name, error, convert or _as_is, values) from error

    return (lambda message: read(message) or None) if is_optional else read


def _value_reader(field: FieldDescriptor, hint: Any, known: Known) -> Convert | None:
    """How to read one value of ``hint``; None: as it is."""
    hint = _plain(hint)
    if field.enum_type is not None:
        by_number = {number: member for member, number in _enum_numbers(hint, field.enum_type).items()}
        return lambda number: _looked_up(by_number, number)
    if field.message_type is None:
        return _scalar_reader(field, hint)
    if hint in known:
        read: Convert = known[hint].from_proto
        return read
    parts = [
        field_reader(part, part_hint, known) for part, part_hint in _tuple_fields(field.message_type, hint)
    ]
    if len(parts) == 1:
        return parts[0]
    return lambda message: tuple([part(message) for part in parts])


def _scalar_reader(field: FieldDescriptor, hint: Any) -> Convert | None:
    if hint is Decimal:
        return _decimal
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        by_value = {member.value: member for member in hint}
        return lambda value: _looked_up(by_value, value)
    if hint not in (int, str, bool, float, bytes):
        raise CodecMismatch(f"{field.full_name} cannot stand for {hint}")
    return None


def field_writer(field: FieldDescriptor, hint: Any, known: Known) -> Convert | None:
    """Make the function from a value that is not None to the field's constructor argument; None: as it is.

    Raises:
        CodecMismatch: ``hint`` cannot travel as ``field``.
    """
    inner, _ = _split_optional(hint)
    if not field.is_repeated:
        return _value_writer(field, inner, known)
    convert = _value_writer(field, get_args(inner)[0], known)
    if get_origin(inner) is frozenset:
        return sorted if convert is None else lambda values: [convert(value) for value in sorted(values)]
    if convert is None:
        return None

    def write(values: Any) -> list[Any]:
        try:
            return [convert(value) for value in values]
        except InvalidSpec as error:
            raise at_first_bad("", error, convert, values) from error

    return write


def _value_writer(field: FieldDescriptor, hint: Any, known: Known) -> Convert | None:
    hint = _plain(hint)
    if field.enum_type is not None:
        return _enum_numbers(hint, field.enum_type).__getitem__
    if field.message_type is None:
        return str if hint is Decimal else None
    if hint in known:
        write: Convert = known[hint].to_proto
        return write
    make = GetMessageClass(field.message_type)
    parts = [
        (part.name, field_writer(part, part_hint, known) or _as_is)
        for part, part_hint in _tuple_fields(field.message_type, hint)
    ]
    if len(parts) == 1:
        ((name, convert),) = parts
        return lambda value: make(**{name: convert(value)})
    return lambda pair: make(
        **{name: convert(value) for (name, convert), value in zip(parts, pair, strict=True)}
    )


# ── declarations ──────────────────────────────────────────────────────────────────────


def _plain(hint: Any) -> Any:
    """The type behind a NewType."""
    return getattr(hint, "__supertype__", hint)


def _split_optional(hint: Any) -> tuple[Any, bool]:
    """``T | None`` -> (T, True); anything else -> (it, False)."""
    if get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint):
        (inner,) = (part for part in get_args(hint) if part is not NoneType)
        return _plain(inner), True
    return _plain(hint), False


def _tuple_fields(descriptor: Any, hint: Any) -> list[tuple[FieldDescriptor, Any]]:
    """The fields of a message that stands for a bare tuple, each with its type."""
    members = get_args(hint)
    if get_origin(hint) is not tuple or not members:
        raise CodecMismatch(f"{descriptor.full_name} has no codec for {hint}")
    hints = [hint] if members[-1] is Ellipsis else list(members)
    by_number = sorted(descriptor.fields, key=lambda field: field.number)
    if len(by_number) != len(hints):
        raise CodecMismatch(f"{descriptor.full_name} has {len(by_number)} fields, {hint} has {len(hints)}")
    return list(zip(by_number, hints, strict=True))


def _enum_numbers(enum: type[StrEnum], descriptor: EnumDescriptor) -> dict[StrEnum, int]:
    """Number of every member; both sides must have the same members."""
    prefix = "".join("_" + letter if letter.isupper() else letter for letter in descriptor.name).upper()[1:]
    numbers = {
        value.name.removeprefix(prefix + "_"): value.number for value in descriptor.values if value.number
    }
    if set(numbers) != set(enum.__members__):
        raise CodecMismatch(f"{descriptor.full_name} and {enum.__name__} have different members")
    return {member: numbers[name] for name, member in enum.__members__.items()}


# ── values and errors ─────────────────────────────────────────────────────────────────


def _as_is(value: Any) -> Any:
    return value


def _decimal(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise InvalidSpec((Violation("", f"{text!r} is not a decimal number"),)) from None


def _looked_up(table: Mapping[Any, Any], key: Any) -> Any:
    try:
        return table[key]
    except KeyError:
        known = ", ".join(str(member) for member in table.values())
        said = "is unspecified" if key in (0, "") else f"has the unknown value {key}"
        raise InvalidSpec((Violation("", f"{said}; give one of {known}"),)) from None


def _guarded(path: str, read: Convert) -> Convert:
    """``read``, with ``path`` in front of whatever it complains of."""

    def guarded(source: Any) -> Any:
        try:
            return read(source)
        except InvalidSpec as error:
            raise within(path, error) from error

    return guarded


def within(path: str, error: InvalidSpec) -> InvalidSpec:
    """``error`` with ``path`` in front of every field it names."""
    return InvalidSpec(
        tuple(Violation(_joined(path, violation.field), violation.message) for violation in error.violations)
    )


def at_first_bad(path: str, error: InvalidSpec, convert: Convert, values: Iterable[Any]) -> InvalidSpec:
    """``error``, with the path of the value that caused it in front."""
    for index, value in enumerate(values):
        try:
            convert(value)
        except InvalidSpec:
            return within(f"{path}[{index}]", error)
    return error


def _joined(path: str, inner: str) -> str:
    if not inner:
        return path
    return path + inner if inner.startswith("[") else f"{path}.{inner}"
