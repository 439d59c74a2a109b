"""What all tables of our TOML files have in common."""

from __future__ import annotations

from pydantic import ConfigDict, ValidationError

STRICT = ConfigDict(frozen=True, extra="forbid", strict=True)
"""Of a table: a key that is unknown or of the wrong type is an error."""


def first_problem(error: ValidationError, *, page: str) -> str:
    """The first thing that is wrong in a file, by its key; ``page`` documents them."""
    problem = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key: see {page}"
    return f"{key}: {problem['msg']}: see {page}"
