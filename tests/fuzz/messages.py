"""Requests that nobody would send, from the descriptors: as bytes on the wire, so that anything can be said.

A message is drawn field by field, or a good one is spoilt. Both come from one seeded ``random.Random``:
a seed is a message.
"""

from __future__ import annotations

import struct
from random import Random

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gpusched.wire.bounds import REQUEST_BYTES_MAX

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
VARINT_TYPES = {
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_INT32,
    FieldDescriptor.TYPE_UINT64,
    FieldDescriptor.TYPE_UINT32,
    FieldDescriptor.TYPE_BOOL,
    FieldDescriptor.TYPE_ENUM,
}
NUMBERS = (0, 1, 2, 7, 17, 63, 1_000, 2**31 - 1, 2**31, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
DOUBLES = (0.0, -0.0, 1.5, -1.0, 1e308, 5e-324, float("nan"), float("inf"), float("-inf"))
TEXTS = (
    "",
    "n1",
    "a" * 300,
    "../../../../etc/passwd",
    "%2e%2e/%00",
    "/proc/self/environ",
    "\0",
    "a\nb",
    "'; DROP TABLE jobs; --",
    "' OR 1=1 --",
    '" UNION SELECT * FROM requests --',
    "$(touch /tmp/gpusched-canary)",
    "`id`",
    "; reboot",
    "{script}",
    "{0.__class__.__mro__}",
    "%s%s%n",
    "${jndi:ldap://x}",
    "\x1b]0;owned\x07\x1b[2J",
    "\u202egnp.exe",
    "\ufeff\u200b",
    "🦙" * 50,
    "#SBATCH --wrap=id\n#SBATCH",
    "LD_PRELOAD",
    "BASH_ENV",
    "-rf",
    "n[0-999999999]",
    "n[1-2][1-2][1-2][1-2]",
    "unix:///x",
    "0x7fffffffffffffff",
)
NOT_UTF8 = (b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"a\x80")
REPEATS = (1, 1, 1, 2, 3, 17)
MANY = 20_000
DEPTH_MAX = 6


def drawn(descriptor: Descriptor, rng: Random, depth: int = 0) -> bytes:
    """A message of this type, each field drawn; now and then with what no message of it has."""
    parts = []
    for field in descriptor.fields:
        if rng.random() < 0.45:
            continue
        value = _value(field, rng, depth)
        if field.is_repeated and field.message_type is None and rng.random() < 0.004:
            parts.append(value * min(MANY, REQUEST_BYTES_MAX // len(value)))
            continue
        # Fewer the deeper: lists of lists would be gigabytes, of which no head reads more than 4 MiB.
        times = min(rng.choice(REPEATS), max(1, REPEATS[-1] >> depth)) if field.is_repeated else 1
        parts += [value, *(_value(field, rng, depth) for _ in range(times - 1))]
    if rng.random() < 0.1:
        parts.append(_unknown(rng))
    if rng.random() < 0.1:
        rng.shuffle(parts)
    data = b"".join(parts)
    return _damaged(data, rng) if depth == 0 and rng.random() < 0.05 else data


def spoilt(good: Message, rng: Random) -> bytes:
    """A good message with one field drawn anew: the later value of a field wins, and messages merge."""
    descriptor = good.DESCRIPTOR
    field = rng.choice(descriptor.fields)
    data = good.SerializeToString()
    if field.message_type is not None and not field.is_repeated and rng.random() < 0.8:
        inner = rng.choice(field.message_type.fields)
        return data + field_of(field.number, BYTES, sized(_value(inner, rng, 1)))
    return data + _value(field, rng, 0)


def _value(field: FieldDescriptor, rng: Random, depth: int) -> bytes:
    if rng.random() < 0.01:  # of another type than declared
        return field_of(field.number, VARINT, varint(rng.choice(NUMBERS)))
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        inner = b"" if depth >= DEPTH_MAX else drawn(field.message_type, rng, depth + 1)
        return field_of(field.number, BYTES, sized(inner))
    if field.type in VARINT_TYPES:
        return field_of(field.number, VARINT, varint(_number(field, rng)))
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return field_of(field.number, FIXED64, struct.pack("<d", rng.choice(DOUBLES)))
    if field.type == FieldDescriptor.TYPE_FLOAT:
        return field_of(field.number, FIXED32, struct.pack("<f", rng.choice((0.0, 1.5, float("nan")))))
    return field_of(field.number, BYTES, sized(_text(rng)))


def _number(field: FieldDescriptor, rng: Random) -> int:
    if field.enum_type is not None and rng.random() < 0.8:
        return rng.choice(field.enum_type.values).number
    return rng.randrange(20) if rng.random() < 0.5 else rng.choice(NUMBERS)


def _text(rng: Random) -> bytes:
    chance = rng.random()
    if chance < 0.05:
        return rng.choice(NOT_UTF8)
    if chance < 0.06:
        return b"x" * rng.choice((4_097, 70_000, 1_000_000))
    if chance < 0.2:
        return rng.randbytes(rng.randrange(12))
    return rng.choice(TEXTS).encode()


def _unknown(rng: Random) -> bytes:
    number = rng.choice((1_000, 18_999, 536_870_911))
    return field_of(number, BYTES, sized(rng.randbytes(rng.randrange(40))))


def _damaged(data: bytes, rng: Random) -> bytes:
    if not data or rng.random() < 0.2:
        return rng.randbytes(rng.randrange(200))
    place = rng.randrange(len(data))
    return data[:place] if rng.random() < 0.5 else data[:place] + rng.randbytes(1) + data[place + 1 :]


def field_of(number: int, kind: int, payload: bytes) -> bytes:
    """One field on the wire, of a wire type."""
    return varint(number << 3 | kind) + payload


def sized(data: bytes) -> bytes:
    """With its length before it."""
    return varint(len(data)) + data


def varint(number: int) -> bytes:
    """A number as the wire has it: seven bits a byte."""
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
