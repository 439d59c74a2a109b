"""Files a user hands us, as text: bounded, UTF-8, without control characters."""

from __future__ import annotations

import re
from pathlib import Path

from gpusched.cli.draft import refuse

FILE_BYTES_MAX = 1 << 20
_UNWANTED = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ufffe\uffff]")


def read_file(path: Path, place: str) -> bytes:
    """A file's bytes, at most one more than is allowed (so that a huge one is never read whole).

    Raises:
        InvalidSpec: It cannot be read; ``place`` says who named it.
    """
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error)
        raise refuse(place, f"cannot read {path}: {why}") from None


def decode_text(data: bytes, name: str) -> str:
    """Bytes of a file as text.

    Raises:
        InvalidSpec: Larger than 1 MiB, not UTF-8, or holds NUL or other control characters.
    """
    if len(data) > FILE_BYTES_MAX:
        raise refuse(
            name, f"is larger than {FILE_BYTES_MAX} bytes (1 MiB); pass large data in a file of its own"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise refuse(
            f"{name}:{line}", f"byte 0x{data[error.start]:02x} is not UTF-8; save it as UTF-8"
        ) from None
    unwanted = _UNWANTED.search(text)
    if unwanted is not None:
        line = text.count("\n", 0, unwanted.start()) + 1
        column = unwanted.start() - text.rfind("\n", 0, unwanted.start())
        raise refuse(
            f"{name}:{line}:{column}", f"holds the control character U+{ord(unwanted[0]):04X}; remove it"
        )
    return text


def checked_script(data: bytes, name: str) -> str:
    """A script's text.

    Raises:
        InvalidSpec: Not UTF-8, larger than 1 MiB, or without a ``#!`` line.
    """
    text = decode_text(data, name)
    if not text.startswith("#!"):
        raise refuse(f"{name}:1", "does not start with #!; a script says what runs it, such as #!/bin/bash")
    return text
