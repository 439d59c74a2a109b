"""The table of Xids: ``xid_actions.csv`` beside this module, and a site's overrides of the same form."""

from __future__ import annotations

import csv
from importlib.resources import files
from pathlib import Path

from gpusched.domain.errors import ConfigInvalid
from gpusched.domain.health import HealthAction, XidRule

XID_MAX = 9_999
COLUMNS_NEEDED = frozenset({"xid", "action"})
COLUMNS = COLUMNS_NEEDED | {"alone", "nvidia", "note"}
ALONE = frozenset(HealthAction) - {HealthAction.CORRELATE, HealthAction.AS_WORDED}


def default_xids() -> dict[int, XidRule]:
    """The table that gpusched comes with."""
    return parse_xids(files(__package__).joinpath("xid_actions.csv").read_text("utf-8"), "xid_actions.csv")


def read_xids(overrides: Path | None) -> dict[int, XidRule]:
    """The table, with the rows of a site's file in place of its own.

    Raises:
        ConfigInvalid: The file can't be read, or a row is wrong; names the line.
    """
    if overrides is None:
        return default_xids()
    try:
        text = overrides.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"health.xid_overrides: {overrides}: {error}") from error
    return default_xids() | parse_xids(text, str(overrides))


def parse_xids(text: str, name: str) -> dict[int, XidRule]:
    """Read rows ``xid,action[,alone,nvidia,note]`` below a heading; lines that begin with ``#`` are comments.

    Raises:
        ConfigInvalid: Naming file and line.
    """
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if _is_row(line)]
    reader = csv.DictReader(line for _, line in lines)
    heading = set(reader.fieldnames or ())
    if not heading >= COLUMNS_NEEDED or not heading <= COLUMNS:
        raise ConfigInvalid(f"{name}: the first row must name the columns: xid,action[,alone,nvidia,note]")
    rules: dict[int, XidRule] = {}
    for (number, _), row in zip(lines[1:], reader, strict=True):
        where = f"{name}:{number}"
        code = _code(row["xid"], where)
        if code in rules:
            raise ConfigInvalid(f"{where}: Xid {code} has a row already: keep one of them")
        rules[code] = _rule(row, where)
    return rules


def _is_row(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("#")


def _code(text: str | None, where: str) -> int:
    if text is None or not text.strip().isdigit() or not 0 < int(text) <= XID_MAX:
        raise ConfigInvalid(f"{where}: {text!r} is no Xid: give a number from 1 to {XID_MAX}")
    return int(text)


def _rule(row: dict[str, str], where: str) -> XidRule:
    action = _action(row["action"], frozenset(HealthAction), where)
    alone = (row.get("alone") or "").strip()
    if alone and action is not HealthAction.CORRELATE:
        raise ConfigInvalid(f"{where}: 'alone' is for Xids to correlate, not for {action}: leave it empty")
    return XidRule(
        action=action,
        alone=_action(alone, ALONE, where) if alone else None,
        note=(row.get("note") or "").strip(),
    )


def _action(text: str | None, allowed: frozenset[HealthAction], where: str) -> HealthAction:
    word = (text or "").strip()
    if word not in allowed:
        raise ConfigInvalid(f"{where}: {word!r} is no action: give one of {', '.join(sorted(allowed))}")
    return HealthAction(word)
