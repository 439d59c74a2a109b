"""A job as somebody wrote it: raw fields, and where each one stands, so that every error can point at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from gpusched.domain.errors import InvalidSpec, Violation

Raw: TypeAlias = "str | list[Raw] | dict[str, Raw] | None"
"""What a field can be before it is checked. Scalars stay text: YAML's own typing reads 12:00:00 as 43200."""

Path = tuple[str | int, ...]
"""``("env", "PATH")``, ``("setup", 0)``."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Fields not yet checked. ``places`` says where a field was written, as a prefix for messages."""

    values: dict[str, Raw] = field(default_factory=dict)
    places: dict[Path, str] = field(default_factory=dict)
    origin: str = "job"  # stands for the whole, where a fault has no place of its own

    def updated(self, later: Draft) -> Draft:
        """The same with the fields of ``later`` on top; ``env`` is merged key by key, all else replaced."""
        values = {**self.values, **later.values}
        mine, theirs = self.values.get("env"), later.values.get("env")
        if isinstance(mine, dict) and isinstance(theirs, dict):
            values["env"] = {**mine, **theirs}
        kept = {path: place for path, place in self.places.items() if path[:1] not in _heads(later)}
        return Draft(values, {**kept, **later.places}, self.origin)

    def place_of(self, path: Path) -> str:
        """The nearest place known for ``path``: of the item, else of its field, else of the whole."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.origin


def _heads(draft: Draft) -> set[Path]:
    return {(name,) for name in draft.values if name != "env"}


def refuse(place: str, message: str) -> InvalidSpec:
    """One violation as an error, ready to raise."""
    return InvalidSpec((Violation(place, message),))
