"""Every trial by fire keeps its promises, in its short version. ``make torture`` runs them in full.

Durations are for the full runs to judge: who runs tests may do anything else beside them.
"""

from __future__ import annotations

from importlib import import_module

import pytest
from torture.trials import TRIALS

DURATIONS = frozenset({"s", "ms"})
# Agents of the version before are unpacked from the repository's history, which a checkout need not have.
IN_SHORT = [name for name in TRIALS if name != "upgrade"]


@pytest.mark.parametrize("name", IN_SHORT)
def test_every_promise_is_kept_in(name: str) -> None:
    trial = import_module(f"torture.{name}")
    measured = trial.measure(trial.QUICK)
    judged = (figure for figure in measured.figures if figure.unit not in DURATIONS)
    promises = [figure for figure in judged if figure.budget is not None]
    assert promises
    assert [str(figure) for figure in promises if not figure.budget.holds(figure.value)] == []
