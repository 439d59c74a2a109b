"""How large a request may be and how long its lists, seen before protobuf makes objects of it.

An empty job takes two bytes on the wire and hundreds in memory, and parsing holds up everybody else.
"""

from __future__ import annotations

from functools import cache
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.hostlist import NAMES_MAX

REQUEST_BYTES_MAX = 4 << 20
"""Enough for the largest job (2.6 MiB) and for 10,000 small ones; gRPC's own default too."""

LIST_MAX = NAMES_MAX
ELEMENTS_MAX = 4 * LIST_MAX
"""Elements in all lists of one request: 4 MiB of what jobs really hold have fewer."""


def require_short_lists(kind: type[Message], raw: bytes) -> None:
    """Refuse a ``kind`` with a list, or with lists in all, longer than any that can be meant.

    Raises:
        InvalidSpec: Naming the list.
        google.protobuf.message.DecodeError: ``raw`` is no message.
    """
    if len(raw) <= LIST_MAX:
        return  # an element takes a byte at the least
    found = _count(cast(Descriptor, kind.DESCRIPTOR), raw, "", ELEMENTS_MAX)
    if isinstance(found, Violation):
        raise InvalidSpec((found,))


def _count(kind: Descriptor, raw: bytes, above: str, left: int) -> int | Violation:
    """How many elements the lists of a message have, with those within; ``left`` may still come.

    What is too long is returned: an exception would keep all that was parsed for as long as it lives.
    """
    counted = 0
    for field, elements in _outline(kind).FromString(raw).ListFields():
        counted += len(elements)
        if len(elements) > LIST_MAX:
            what = f"has {len(elements)} elements, the limit is {LIST_MAX}; send fewer"
            return Violation(f"{above}{field.name}", what)
        if counted > left:
            return Violation(
                "request", f"has more than {ELEMENTS_MAX} elements in all its lists; send it in parts"
            )
        inner = kind.fields_by_number[field.number].message_type
        if inner is None or not _has_lists(inner):
            continue
        for element in elements:
            within = _count(inner, element, f"{above}{field.name}.", left - counted)
            if isinstance(within, Violation):
                return within
            counted += within
    return counted


@cache
def _outline(kind: Descriptor) -> type[Message]:
    """The same message with nothing but what is, or has, a list, its elements left unparsed."""
    name = kind.full_name.replace(".", "_")
    file = FileDescriptorProto(name=f"{name}.proto", package="outline", syntax="proto3")
    outline = file.message_type.add(name=name)
    for field in kind.fields:
        if field.is_repeated or (field.message_type is not None and _has_lists(field.message_type)):
            outline.field.add(
                name=field.name,
                number=field.number,
                # What is not a list counts as one too: a message that is sent twice is merged.
                label=FieldDescriptorProto.LABEL_REPEATED,
                type=_type_in_outline(field),
            )
    pool = DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return GetMessageClass(pool.FindMessageTypeByName(f"outline.{name}"))


def _type_in_outline(field: FieldDescriptor) -> FieldDescriptorProto.Type.ValueType:
    if not field.is_packed:
        return FieldDescriptorProto.TYPE_BYTES
    if field.enum_type is not None:
        return FieldDescriptorProto.TYPE_INT32
    return cast("FieldDescriptorProto.Type.ValueType", field.type)


@cache
def _has_lists(kind: Descriptor) -> bool:
    return any(
        field.is_repeated or (field.message_type is not None and _has_lists(field.message_type))
        for field in kind.fields
    )
