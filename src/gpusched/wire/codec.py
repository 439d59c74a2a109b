"""Derives the translation between a domain dataclass and a protobuf message from their declarations.

``convert.py`` says *which* type travels as *which* message; this module works out how, field by
field, and refuses a pair whose fields do not match one to one. So a field added on one side alone
cannot be lost in silence: building the codec fails, and a test builds them all.

The rules, with ``T`` any of the other rows:

    domain                      protobuf
    int str bool float bytes    the scalar
    Decimal                     string
    StrEnum                     enum whose values are ``<ENUM>_<MEMBER>``, or string (the value)
    dataclass                   message
    T with a default            optional scalar: absent, as an older peer has it, reads as the default
    T | None                    optional scalar, message presence, or an enum's UNSPECIFIED
    tuple[T, ...]               repeated; or, where tuples nest, a message with one repeated field
    tuple[T, ...] | None        repeated: None travels as empty, so an empty tuple reads as None
    frozenset[T]                repeated, sorted
    tuple[T, U]                 message with two fields, in number order
    union of dataclasses        oneof

Errors name the field by its path in protobuf's words: ``tasks[1].devices``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from functools import cached_property
from operator import attrgetter
from typing import Any, Generic, TypeVar, cast, get_args, get_type_hints

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.wire.codec_field import CodecMismatch, Convert, at_first_bad, field_reader, field_writer, within

D = TypeVar("D")
M = TypeVar("M", bound=Message)

Write = Callable[[Any, dict[str, Any]], None]  # (domain value, constructor arguments to add to)
UNSENDABLE = (TypeError, ValueError, AttributeError, LookupError)  # what protobuf raises for a bad value


def unsendable(error: Exception) -> str:
    """What protobuf has against a value, in the words of its owner."""
    return "is not valid UTF-8" if isinstance(error, UnicodeEncodeError) else str(error)


class Codec(Generic[D, M]):
    """Translates between ``domain`` and ``message``, both ways.

    Args:
        domain: A dataclass.
        message: Its protobuf message class.
        names: Protobuf field (or oneof) name of every domain field that is called otherwise.
        inline: Domain fields whose own fields stand directly in this message.
        leaves: Message fields that some other codec or the caller fills.
        implied: Domain fields that are not sent, each with the path in the message where it stands anyway.
        known: Where nested dataclasses find their codec; this one is added to it.
    """

    def __init__(
        self,
        domain: type[D],
        message: type[M],
        *,
        known: dict[Any, Codec[Any, Any]],
        names: Mapping[str, str] | None = None,
        inline: Iterable[str] = (),
        leaves: Iterable[str] = (),
        implied: Mapping[str, str] | None = None,
    ) -> None:
        self.domain = domain
        self.message = message
        self._names = dict(names or {})
        self._inline = frozenset(inline)
        self._leaves = frozenset(leaves)
        self._implied = dict(implied or {})
        self._known = known
        known[domain] = self

    def to_proto(self, value: D) -> M:
        """Build the message.

        Raises:
            InvalidSpec: A value does not fit its field (out of 64-bit range, not UTF-8, wrong type).
        """
        try:
            return self.message(**self.arguments(value))
        except (*UNSENDABLE, InvalidSpec) as error:
            raise self._blame(value) from error

    def from_proto(self, message: M) -> D:
        """Build the domain value.

        Raises:
            InvalidSpec: A required message is missing, or an enum is unspecified or unknown.
        """
        return self.domain(**{name: read(message) for name, read in self._readers})

    def from_protos(self, path: str, messages: Iterable[M]) -> tuple[D, ...]:
        """Read many; errors name their field under ``path``: ``specs[3].signal``.

        Raises:
            InvalidSpec: As ``from_proto``.
        """
        try:
            return tuple(map(self.from_proto, messages))
        except InvalidSpec as error:
            raise at_first_bad(path, error, self.from_proto, messages) from error

    def arguments(self, value: D) -> dict[str, Any]:
        """Constructor arguments of the message; for an inlined value, of the message that holds it."""
        out: dict[str, Any] = {}
        for write in self._writers:
            write(value, out)
        return out

    def build(self) -> None:
        """Derive the translation now rather than at first use.

        Raises:
            CodecMismatch: The two declarations differ.
        """
        unused = set(self.message.DESCRIPTOR.fields_by_name) - self.field_names() - self._leaves
        if unused or not self._readers:
            raise CodecMismatch(f"{self.domain.__name__} has no field for {sorted(unused)}")

    def field_names(self) -> set[str]:
        """Names of the message fields that this codec fills."""
        descriptor, names = self.message.DESCRIPTOR, set[str]()
        for name, hint in self._hints.items():
            proto_name = self._names.get(name, name)
            if name in self._implied:
                continue
            if name in self._inline:
                names |= self._known[hint].field_names()
            elif proto_name in descriptor.oneofs_by_name:
                names |= {field.name for field in descriptor.oneofs_by_name[proto_name].fields}
            else:
                names.add(proto_name)
        return names

    @cached_property
    def _hints(self) -> dict[str, Any]:
        hints = get_type_hints(self.domain)
        return {field.name: hints[field.name] for field in fields(self.domain)}  # type: ignore[arg-type]

    @cached_property
    def _readers(self) -> tuple[tuple[str, Convert], ...]:
        return tuple((name, self._reader(name, hint)) for name, hint in self._hints.items())

    def _reader(self, name: str, hint: Any) -> Convert:
        proto_name = self._names.get(name, name)
        if name in self._implied:
            return attrgetter(self._implied[name])
        if name in self._inline:
            read: Convert = self._known[hint].from_proto
            return read
        if proto_name in self.message.DESCRIPTOR.oneofs_by_name:
            return OneOf[Any, M](self.message, proto_name, hint, known=self._known).from_proto
        field = self._field(proto_name)
        read_field = field_reader(field, hint, self._known)
        default = self.domain.__dataclass_fields__[name].default  # type: ignore[attr-defined]
        if not field.has_presence or field.message_type is not None or default in (MISSING, None):
            return read_field
        return lambda message: read_field(message) if message.HasField(proto_name) else default

    @cached_property
    def _writers(self) -> tuple[Write, ...]:
        return tuple(
            self._writer(name, hint) for name, hint in self._hints.items() if name not in self._implied
        )

    def _writer(self, name: str, hint: Any) -> Write:
        proto_name, get = self._names.get(name, name), attrgetter(name)
        if name in self._inline:
            inner = self._known[hint]
            return lambda value, out: out.update(inner.arguments(get(value)))
        if proto_name in self.message.DESCRIPTOR.oneofs_by_name:
            one_of = OneOf[Any, M](self.message, proto_name, hint, known=self._known)
            return lambda value, out: out.update((one_of.argument(get(value)),))
        convert = field_writer(self._field(proto_name), hint, self._known)

        def write(value: Any, out: dict[str, Any]) -> None:
            out[proto_name] = get(value)

        def write_converted(value: Any, out: dict[str, Any]) -> None:
            part = get(value)
            if part is not None:
                out[proto_name] = convert(part)  # type: ignore[misc]

        return write if convert is None else write_converted

    def _field(self, proto_name: str) -> FieldDescriptor:
        try:
            return cast(FieldDescriptor, self.message.DESCRIPTOR.fields_by_name[proto_name])
        except KeyError:
            raise CodecMismatch(
                f"{self.message.DESCRIPTOR.full_name} has no field {proto_name!r} for {self.domain.__name__}"
            ) from None

    def _blame(self, value: D) -> InvalidSpec:
        """Find the field that could not be written: the slow path, walked only for bad input."""
        sent = [name for name in self._hints if name not in self._implied]
        for name, write in zip(sent, self._writers, strict=True):
            path = self._names.get(name, name)
            out: dict[str, Any] = {}
            try:
                write(value, out)
                self.message(**out)
            except InvalidSpec as error:
                return error if name in self._inline else within(path, error)
            except UNSENDABLE as error:
                return InvalidSpec((Violation(path, unsendable(error)),))
        return InvalidSpec((Violation(self.domain.__name__, "cannot be sent"),))


class OneOf(Generic[D, M]):
    """A union of dataclasses that travels as the oneof ``name`` of ``message``."""

    def __init__(
        self, message: type[M], name: str, union: Any, *, known: Mapping[Any, Codec[Any, Any]]
    ) -> None:
        self._message, self._name = message, name
        codecs = {known[member].message.DESCRIPTOR: (member, known[member]) for member in get_args(union)}
        self._by_field: dict[str, Codec[Any, Any]] = {}
        self._by_type: dict[type, tuple[str, Codec[Any, Any]]] = {}
        for field in message.DESCRIPTOR.oneofs_by_name[name].fields:
            member, codec = codecs.pop(field.message_type, (None, None))
            if member is None or codec is None:
                raise CodecMismatch(f"{field.full_name} stands for no member of {union}")
            self._by_field[field.name] = codec
            self._by_type[member] = (field.name, codec)
        if codecs:
            raise CodecMismatch(f"oneof {name} lacks {[member.__name__ for member, _ in codecs.values()]}")

    def from_proto(self, message: M) -> D:
        """The alternative that is set.

        Raises:
            InvalidSpec: None is.
        """
        field = message.WhichOneof(self._name)
        if field is None:
            raise InvalidSpec((Violation(self._name, "is required: set one of its alternatives"),))
        try:
            return cast(D, self._by_field[field].from_proto(getattr(message, field)))
        except InvalidSpec as error:
            raise within(field, error) from error

    def to_proto(self, value: D) -> M:
        """The message that holds nothing but ``value``.

        Raises:
            InvalidSpec: A value does not fit its field.
        """
        field, part = self.argument(value)
        return self._message(**{field: part})

    def argument(self, value: D) -> tuple[str, Message]:
        """The field to set, and what to.

        Raises:
            InvalidSpec: A value does not fit its field.
        """
        field, codec = self._by_type[type(value)]
        return field, codec.to_proto(value)
