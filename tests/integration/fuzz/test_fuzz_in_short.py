"""Every promise is kept under requests that nobody would send, in short. ``make fuzz`` sends them all."""

from __future__ import annotations

from fuzz import rpcs


def test_every_promise_is_kept_under_requests_that_nobody_would_send() -> None:
    measured = rpcs.measure(rpcs.QUICK)
    promises = [figure for figure in measured.figures if figure.budget is not None]
    assert promises
    assert [str(figure) for figure in promises if not figure.budget.holds(figure.value)] == [], (
        measured.details
    )
