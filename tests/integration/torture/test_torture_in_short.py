"""Every trial by fire keeps its promises, in its short version. ``make torture`` runs them in full."""

from __future__ import annotations

from importlib import import_module

import pytest
from torture.trials import TRIALS


@pytest.mark.parametrize("name", TRIALS)
def test_every_promise_is_kept_in(name: str) -> None:
    trial = import_module(f"torture.{name}")
    measured = trial.measure(trial.QUICK)
    promises = [figure for figure in measured.figures if figure.budget is not None]
    assert promises
    assert [str(figure) for figure in promises if not figure.budget.holds(figure.value)] == []
