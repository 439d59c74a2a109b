"""Checks one number or one text, whatever field it stands in; and how a message shows it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches

from gpusched.domain.errors import Violation
from gpusched.domain.spec_limits import NAME_LENGTH_MAX, STRING_BYTES_MAX

Check = Iterator[Violation]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def within(field: str, number: int, least: int, most: int, unit: str = "") -> Check:
    """A number within its limits, in ``unit``."""
    if not least <= number <= most:
        words = f" {unit}" if unit else ""
        yield Violation(field, f"{digits(number)} is outside {least} to {most}{words}; give a number within")


def one_argument(field: str, text: str, taken: int = 0) -> Check:
    """What the kernel takes as one argument or variable."""
    yield from plain_text(field, text)
    size = size_of(text) + taken
    if size >= STRING_BYTES_MAX:
        yield Violation(
            field, f"has {size} bytes, and Linux takes less than {STRING_BYTES_MAX} in one; use a file"
        )


def plain_text(field: str, text: str) -> Check:
    """Valid UTF-8 once encoded, and no NUL: what files, arguments and the wire can carry."""
    if "\x00" in text:
        yield Violation(field, "holds a NUL character, which no argument or file name can; remove it")
    if not _is_encodable(text):
        yield Violation(field, f"{shown(text)} is not valid UTF-8; write the file as UTF-8")


def one_line(field: str, text: str) -> Check:
    """One line that a terminal can show without being steered by it."""
    if _CONTROL.search(text):
        yield Violation(field, f"{shown(text)} holds a control character; remove it")
    if not _is_encodable(text):
        yield Violation(field, f"{shown(text)} is not valid UTF-8; write the file as UTF-8")


def total(field: str, texts: Iterable[str], limit: int, remedy: str) -> Check:
    """Texts that together have at most ``limit`` bytes, a NUL after each counted."""
    size = sum(size_of(text) + 1 for text in texts)
    if size > limit:
        yield Violation(field, f"has {size} bytes, the limit is {limit}; {remedy}")


def size_of(text: str) -> int:
    """Bytes of a text in UTF-8, whether it can be encoded or not."""
    return len(text.encode("utf-8", "surrogatepass"))


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def nearest(word: str, known: Iterable[str]) -> str:
    """What was probably meant, or else all that there is."""
    names = sorted(known)
    near = get_close_matches(word[:NAME_LENGTH_MAX], names, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}"


def shown(text: str) -> str:
    """Quoted, short, and printable whatever it holds."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")


def digits(number: int) -> str:
    """A number, unless it is too long to read (or for Python to print)."""
    return str(number) if abs(number) < 10**30 else "a number of more than 30 digits"
