"""Where a message takes text, from its descriptor, and how text gets there and back out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

Place = tuple[FieldDescriptor, ...]
"""The fields that lead to a string, outermost first."""


def places(descriptor: Descriptor, above: Place = ()) -> Iterator[Place]:
    """Every string of a message and of those in it."""
    for field in descriptor.fields:
        if field.type == FieldDescriptor.TYPE_STRING:
            yield (*above, field)
        elif field.message_type is not None and field.message_type not in [
            each.message_type for each in above
        ]:
            yield from places(field.message_type, (*above, field))


def shown(place: Place) -> str:
    """Its name: ``spec.env.name``."""
    return ".".join(field.name for field in place)


def put(message: Any, place: Place, text: str) -> None:
    """Write ``text`` there; of a list of messages into the first, of a list of texts at its end."""
    *above, last = place
    for field in above:
        inner = getattr(message, field.name)
        if field.is_repeated:
            inner = inner[0] if inner else _filled(inner.add())
        message = inner
    if last.is_repeated:
        getattr(message, last.name).append(text)
    else:
        setattr(message, last.name, text)


def texts_at(message: Any, place: Place) -> list[str]:
    """What stands there, of every element of every list on the way."""
    field, *rest = place
    found = getattr(message, field.name)
    inner = list(found) if field.is_repeated else [found]
    return [text for each in inner for text in texts_at(each, tuple(rest))] if rest else inner


def _filled(message: Any) -> Any:
    """Something in every field, so that what is put beside is not refused for what is missing."""
    for field in message.DESCRIPTOR.fields:
        if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
            setattr(message, field.name, "x")
        elif field.type == FieldDescriptor.TYPE_INT64 and not field.is_repeated:
            setattr(message, field.name, 1)
    return message
