"""What is wrong with how long a job may run, and with what follows when it ends, stalls or idles."""

from __future__ import annotations

from gpusched.domain.check_value import Check, nearest, shown, within
from gpusched.domain.errors import Violation
from gpusched.domain.job_spec import JobSpec, StallAction
from gpusched.domain.spec_limits import (
    KILL_WAIT_S_MAX,
    NICE_MAX,
    RESTARTS_MAX_MAX,
    SIGNAL_LEAD_S_MAX,
    SIGNALS,
    SLOW_OVER_PERCENT_MAX,
    SLOW_STEPS_MAX,
    TIME_LIMIT_S_MAX,
)


def check_time(spec: JobSpec) -> Check:
    """Time limit, grace, warning signal and niceness."""
    if spec.time_limit_s is not None:
        yield from within("time_limit", spec.time_limit_s, 1, TIME_LIMIT_S_MAX, "seconds")
    yield from within("kill_wait", spec.kill_wait_s, 0, KILL_WAIT_S_MAX, "seconds")
    yield from within("signal", spec.signal.lead_s, 0, SIGNAL_LEAD_S_MAX, "seconds ahead")
    if spec.signal.name not in SIGNALS:
        yield Violation(
            "signal",
            f"{shown(spec.signal.name)} is no signal that can warn a rank; "
            f"{nearest(spec.signal.name.upper(), SIGNALS)}",
        )
    yield from within("nice", spec.nice, 0, NICE_MAX)


def check_restarts(spec: JobSpec) -> Check:
    """Restarts, of a job that may be restarted."""
    if spec.restarts_max is not None:
        yield from within("restarts_max", spec.restarts_max, 0, RESTARTS_MAX_MAX)
    for field, value in (("restart_on", spec.restart_on), ("restarts_max", spec.restarts_max)):
        if value is not None and not spec.requeue:
            yield Violation(field, "means nothing for a job that may not run again; add requeue")


def check_stall(spec: JobSpec) -> Check:
    """When a gang has stalled, and what follows."""
    if spec.stall is None:
        return
    if spec.stall.after_s is not None:
        yield from within("stall_after", spec.stall.after_s, 1, TIME_LIMIT_S_MAX, "seconds")
    if spec.stall.action is StallAction.REQUEUE and not spec.requeue:
        yield Violation("on_stall", "requeue needs a job that may run again; add requeue, or say notify")


def check_slow(spec: JobSpec) -> Check:
    """What counts as slow."""
    if spec.slow is None:
        return
    if spec.slow.over_percent is not None:
        yield from within("slow_over", spec.slow.over_percent, 1, SLOW_OVER_PERCENT_MAX, "percent")
    yield from within("slow_steps", spec.slow.steps, 1, SLOW_STEPS_MAX)


def check_utilization(spec: JobSpec) -> Check:
    """How busy the GPUs must be, of a job that has some."""
    if spec.utilization is None:
        return
    yield from within("min_gpu_utilization", spec.utilization.min_percent, 1, 100, "percent")
    yield from within("utilization_window", spec.utilization.window_s, 1, TIME_LIMIT_S_MAX, "seconds")
    if spec.gpus_per_node == 0:
        yield Violation("min_gpu_utilization", "means nothing for a job without GPUs; remove it")
