"""What a judged case is: met, bettered or failed, and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """How our answer to one case compares with the expected one."""

    met: bool  # every decision as expected, every placement valid, no more domains on any level
    bettered: bool = False  # met, and fewer domains on some level
    equal: bool = False  # the very same domains
    why: str = ""


def combine(verdicts: list[Verdict]) -> Verdict:
    """One verdict over all parts of a case."""
    return Verdict(
        met=all(verdict.met for verdict in verdicts),
        bettered=all(verdict.met for verdict in verdicts) and any(verdict.bettered for verdict in verdicts),
        equal=all(verdict.equal for verdict in verdicts),
        why="; ".join(verdict.why for verdict in verdicts if verdict.why),
    )
