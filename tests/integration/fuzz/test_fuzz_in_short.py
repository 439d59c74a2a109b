"""Every promise is kept under bad input, in short. ``make fuzz`` does all of it."""

from __future__ import annotations

from importlib import import_module

import pytest
from fuzz.trials import TRIALS

MEASURED = {"ms", "MiB"}  # what depends on the machine and what else it does: figures, not tests


@pytest.mark.parametrize("name", TRIALS)
def test_every_promise_is_kept_under(name: str) -> None:
    trial = import_module(f"fuzz.{name}")
    measured = trial.measure(trial.QUICK)
    promises = [
        figure for figure in measured.figures if figure.budget is not None and figure.unit not in MEASURED
    ]
    assert promises
    assert [str(figure) for figure in promises if not figure.budget.holds(figure.value)] == [], (
        measured.details
    )
