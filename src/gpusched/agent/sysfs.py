"""Read the small text files in which the kernel tells about the machine."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """The file's text without the newline; None if it cannot be read."""
    try:
        return path.read_text().strip()
    except OSError:
        return None


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """Read the kernel's list format: ``0-3,8`` is 0, 1, 2, 3, 8 (cpuset(7), "List format")."""
    ids: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        ids.extend(range(int(first), int(last or first) + 1))
    return tuple(ids)
