"""What agents measured, made fit to keep: a number that is none becomes absent, a text its length.

A NaN has no JSON, and one that was written would make every bill unreadable that looks at it. The
measurement is worth less than the fact that carries it, so the fact is taken without it.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from gpusched.domain.events import AgentReport, HealthReport, RepairEnded, TaskFailed, TasksEnded
from gpusched.domain.health import Condition, HealthObserved
from gpusched.domain.pulse import QuietRank, RankPace
from gpusched.domain.telemetry import DeviceSample, DeviceUse, NodeSample, NodeUse

LINES_MAX = 100
LINE_LENGTH_MAX = 4_096
DETAIL_LENGTH_MAX = 16_384
CONDITIONS_MAX = 256
DEVICES_MAX = 64
WORDS_LENGTH_MAX = 500
NAME_LENGTH_MAX = 64  # of a kernel function


def kept_report(fact: AgentReport | HealthReport) -> AgentReport | HealthReport:
    """The fact as it may go into the log."""
    match fact:
        case TaskFailed():
            lines = tuple(line[:LINE_LENGTH_MAX] for line in fact.last_lines[-LINES_MAX:])
            return replace(fact, last_lines=lines)
        case TasksEnded():
            detail = None if fact.detail is None else fact.detail[:DETAIL_LENGTH_MAX]
            return replace(fact, detail=detail, use=_kept_use(fact.use))
        case HealthObserved():
            return replace(
                fact,
                conditions=tuple(map(_kept_condition, fact.conditions[:CONDITIONS_MAX])),
                sightings=tuple(
                    replace(sighting, condition=_kept_condition(sighting.condition))
                    for sighting in fact.sightings[-CONDITIONS_MAX:]
                ),
            )
        case RepairEnded():
            return replace(fact, failures=tuple(map(kept_words, fact.failures[:CONDITIONS_MAX])))
        case _:
            return fact


def _kept_condition(condition: Condition) -> Condition:
    return replace(
        condition,
        detail=kept_words(condition.detail),
        devices=tuple(sorted(set(condition.devices)))[:DEVICES_MAX],
    )


def kept_words(words: str) -> str:
    """One line of printable text, whatever a driver or a check wrote."""
    return "".join(char if char.isprintable() else " " for char in words[:WORDS_LENGTH_MAX])


def kept_quiet(rank: QuietRank) -> QuietRank:
    """The quiet rank as it may be told to others: a time that is none is no time."""
    waits_in = None if rank.waits_in is None else rank.waits_in[:NAME_LENGTH_MAX]
    return replace(rank, quiet_s=_amount(rank.quiet_s) or 0.0, state=rank.state[:1], waits_in=waits_in)


def is_usable(pace: RankPace) -> bool:
    """Whether its times are times."""
    return isfinite(pace.at_s) and (pace.own_s is None or isfinite(pace.own_s))


def kept_sample(sample: NodeSample) -> NodeSample:
    """The sample as others may read it."""
    return replace(
        sample,
        cpu_percent=_finite(sample.cpu_percent),
        load_1m=_finite(sample.load_1m),
        devices=tuple(map(_kept_device_sample, sample.devices)),
    )


def _kept_device_sample(sample: DeviceSample) -> DeviceSample:
    return replace(
        sample,
        busy_percent=_finite(sample.busy_percent),
        power_w=_finite(sample.power_w),
        energy_j=_finite(sample.energy_j),
        temperature_c=_finite(sample.temperature_c),
    )


def _kept_use(use: NodeUse) -> NodeUse:
    return replace(
        use,
        wall_s=_amount(use.wall_s) or 0.0,  # the one number that cannot be absent
        cpu_s=_amount(use.cpu_s),
        devices=tuple(map(_kept_device_use, use.devices)),
    )


def _kept_device_use(use: DeviceUse) -> DeviceUse:
    return replace(use, busy_s=_amount(use.busy_s), energy_j=_amount(use.energy_j))


def _finite(number: float | None) -> float | None:
    return number if number is not None and isfinite(number) else None


def _amount(number: float | None) -> float | None:
    return number if number is not None and isfinite(number) and number >= 0 else None
