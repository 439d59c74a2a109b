"""Two outcomes side by side: as it was, and as it would have been."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gpusched.daemon.simulated import Outcome, Summary

_COUNTED = ("cycles", "first_refusal", "refused_jobs", "account_shares_percent")  # not figures to compare


def compare(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """``base`` and ``what_if`` in full; of each figure the change: its amount, and percent of the base."""
    base, other = outcomes.values()
    return {
        "base": base.as_json(),
        "what_if": other.as_json(),
        "change": {
            name: {"amount": _amount(before, after), "percent": _percent(before, after)}
            for name, before, after in _pairs(base.summary, other.summary)
        },
    }


def show_compared(outcomes: Mapping[str, Outcome]) -> None:
    """Print both, and the change, for people."""
    from gpusched.cli.screen import Table, note, print_table

    base, other = outcomes.values()
    table = Table(("FIGURE", "BASE", "WHAT IF", "CHANGE"), frozenset({"BASE", "WHAT IF", "CHANGE"}))
    for name, before, after in _pairs(base.summary, other.summary):
        percent = _percent(before, after)
        change = "-" if percent is None else f"{percent:+.1f} %"
        if "percent" in name and (points := _amount(before, after)) is not None:
            change = f"{points:+.1f} points"
        table.add(name, _number(before), _number(after), change)
    print_table(table)
    for name, outcome in outcomes.items():
        if outcome.summary.refused:
            note(f"{name}: {outcome.summary.refused} jobs were refused: {outcome.summary.first_refusal}")


def _pairs(base: Summary, other: Summary) -> list[tuple[str, float | None, float | None]]:
    before, after = base.as_json(), other.as_json()
    pairs = [(name, before[name], after[name]) for name in before if name not in _COUNTED]
    accounts = {**base.account_shares_percent, **other.account_shares_percent}
    for account in sorted(accounts):
        share, then = (each.account_shares_percent.get(account) for each in (base, other))
        pairs.append((f"share of {account}, percent", share, then))
    return pairs


def _amount(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else round(after - before, 3)


def _percent(before: float | None, after: float | None) -> float | None:
    return None if not before or after is None else round(100 * (after - before) / before, 3)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,}"
