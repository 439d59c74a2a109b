"""Slurm's hostlist syntax: ``node[001-004,007],gpu1`` stands for six node names.

Several bracket groups in one name multiply, the last one varying fastest, as in Slurm
(``man scontrol``, "show hostnames"). Order carries meaning here, since a job's node list is
in rank order, so neither direction sorts:

    expand_hostlist(fold_hostlist(names)) == names with later repetitions dropped
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from math import prod

from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.ids import NodeName

NAMES_MAX = 65_536
TEXT_LENGTH_MAX = 1 << 20

NODE_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
"""A host name as DNS allows it (RFC 1123), and ``_``, which Slurm allows too."""

_ITEM = re.compile(r"(?:[^\[\],]|\[[^\[\],]+(?:,[^\[\],]+)*\])+")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Range:
    """Numbers ``first`` to ``last``, both included, padded with zeros to ``width``."""

    first: int
    last: int
    width: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def texts(self) -> list[str]:
        return [str(number).zfill(self.width) for number in range(self.first, self.last + 1)]


_Group = str | tuple[_Range, ...]
"""A piece of a name: plain text, or what stands in one pair of brackets."""


def expand_hostlist(text: str, *, field: str = "nodelist") -> tuple[NodeName, ...]:
    """List the names that ``text`` stands for, in the order written, each once.

    Args:
        text: For example ``rack[1-2]n[01-16,20],login``. Blank stands for no name.
        field: What to call the text in an error.

    Raises:
        InvalidSpec: A bracket is open, a range is empty or runs backwards, a name is no host
            name, or there are more than ``NAMES_MAX`` of them (found before expanding).
    """
    if len(text) > TEXT_LENGTH_MAX:
        raise _refusal(field, f"is longer than {TEXT_LENGTH_MAX} characters; give fewer names")
    items = [_parse_item(item, field) for item in _split(text.strip(), field)]
    count = sum(prod(_size(group) for group in groups) for groups in items)
    if count > NAMES_MAX:
        raise _refusal(field, f"stands for {count} names, the limit is {NAMES_MAX}; narrow its ranges")
    names = tuple(
        dict.fromkeys(
            NodeName("".join(pieces)) for groups in items for pieces in product(*map(_pieces, groups))
        )
    )
    for name in names:
        if NODE_NAME.fullmatch(name) is None:
            raise _refusal(
                field, f"{_shown(name)} is no host name; use letters, digits, '.', '-' and '_', 253 at most"
            )
    return names


def fold_hostlist(names: Iterable[NodeName]) -> str:
    """Write names in as few items as their order allows: ``node[001-004,007],gpu1``.

    Neighbours that differ only in their trailing number share brackets. Sort the names first
    for the shortest text; leave them in rank order where readers rely on it.
    """
    items: list[tuple[str, list[tuple[str, str]]]] = []
    for name in dict.fromkeys(names):
        match = _NUMBERED.fullmatch(name)
        if match is None:
            items.append((name, []))
            continue
        prefix, number = match.groups()
        if not items or items[-1][0] != prefix or not items[-1][1]:
            items.append((prefix, [(number, number)]))
            continue
        ranges = items[-1][1]
        first, last = ranges[-1]
        if number == str(int(last) + 1).zfill(len(first)):
            ranges[-1] = (first, number)
        else:
            ranges.append((number, number))
    return ",".join(prefix + _bracketed(ranges) for prefix, ranges in items)


def _bracketed(ranges: list[tuple[str, str]]) -> str:
    texts = [first if first == last else f"{first}-{last}" for first, last in ranges]
    is_plain = not texts or (len(texts) == 1 and "-" not in texts[0])
    return "".join(texts) if is_plain else f"[{','.join(texts)}]"


def _split(text: str, field: str) -> list[str]:
    """Cut at the commas that stand outside brackets."""
    items: list[str] = []
    position = 0
    while position < len(text):
        match = _ITEM.match(text, position)
        if match is None:
            raise _refusal(
                field, f"cannot be read at {_shown(text[position:])}; write it like node[01-04,7],gpu1"
            )
        items.append(match.group().strip())
        position = match.end()
        if position < len(text):
            if text[position] != "," or position + 1 == len(text):
                raise _refusal(
                    field, f"cannot be read at {_shown(text[position:])}; write it like node[01-04,7],gpu1"
                )
            position += 1
    return items


def _parse_item(item: str, field: str) -> tuple[_Group, ...]:
    pieces = _BRACKETS.split(item)  # plain text at even places, the insides of brackets at odd ones
    return tuple(_parse_ranges(piece, field) if place % 2 else piece for place, piece in enumerate(pieces))


def _parse_ranges(inside: str, field: str) -> tuple[_Range, ...]:
    ranges = []
    for part in inside.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise _refusal(field, f"has {_shown(part)} in brackets; give numbers like 7 or 001-004")
        first, last = match.group(1), match.group(2) or match.group(1)
        if int(last) < int(first):
            raise _refusal(field, f"has the range {part.strip()}, which runs backwards; write {last}-{first}")
        ranges.append(_Range(int(first), int(last), len(first)))
    return tuple(ranges)


def _size(group: _Group) -> int:
    return 1 if isinstance(group, str) else sum(map(len, group))


def _pieces(group: _Group) -> list[str]:
    return [group] if isinstance(group, str) else [text for numbers in group for text in numbers.texts()]


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 40 else text[:40] + "...")


def _refusal(field: str, message: str) -> InvalidSpec:
    return InvalidSpec((Violation(field, message),))
