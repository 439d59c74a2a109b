"""Where a job is (state) and why (reason). One literal table says which moves exist."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from gpusched.domain.errors import InvalidTransition


class JobState(StrEnum):
    """Where a job is, in Slurm's words. *Why* is a reason, never a state.

    CONFIGURING and COMPLETING are flags in Slurm. Its TIMEOUT, NODE_FAIL and
    OUT_OF_MEMORY are ``EndReason`` values here.
    """

    PENDING = "PENDING"  # queued; PendingReason says what it waits for
    CONFIGURING = "CONFIGURING"  # allocated; ranks are being launched
    RUNNING = "RUNNING"  # every node has reported its ranks started
    COMPLETING = "COMPLETING"  # ending or ended; devices not yet proven free
    COMPLETED = "COMPLETED"  # every rank ended with exit code 0
    FAILED = "FAILED"  # ended otherwise
    CANCELLED = "CANCELLED"  # ended because somebody asked

    @property
    def is_terminal(self) -> bool:
        """No move leads out of this state."""
        return not TRANSITIONS[self]


class PendingReason(StrEnum):
    """What a pending job waits for."""

    PRIORITY = "Priority"  # others are ahead of it
    RESOURCES = "Resources"  # next in line; not enough is free
    QUOTA = "AssocGrpGRES"  # its account holds as many GPUs as it may
    HELD = "JobHeldUser"  # its owner or an operator holds it
    RESTART_DELAY = "RestartDelay"  # it failed again and waits a while before the next attempt
    SUSPENDED = "Suspended"  # the database went back in time: nothing is started
    NODES_UNAVAILABLE = "ReqNodeNotAvail"  # fits only on nodes that are down or cordoned


class EndReason(StrEnum):
    """Why an attempt ended."""

    COMPLETED = "Completed"
    RANK_FAILED = "NonZeroExitCode"
    TIME_LIMIT = "TimeLimit"
    OUT_OF_MEMORY = "OutOfMemory"
    LAUNCH_FAILED = "LaunchFailed"  # no rank could be started
    SHIM_LOST = "SupervisorLost"  # the shim died; its ranks were killed
    NODE_FAIL = "NodeFail"  # the node rebooted or was declared dead
    CANCELLED = "Cancelled"
    REQUEUED = "Requeued"  # somebody asked for another attempt
    DRAINED = "NodeDrained"  # the node's drain deadline passed
    NODE_UNHEALTHY = "NodeUnhealthy"  # a node or a device of it had to be taken out at once
    PROLOG_FAILED = "PrologFailed"  # a node was not fit to start it
    UNDERUSED = "LowGpuUtilization"  # it held GPUs that it hardly used, and its policy ends it then
    STALLED = "Stalled"  # no rank moved any more, and the job asked to be requeued then


S = JobState
TRANSITIONS: dict[JobState, frozenset[JobState]] = {
    # The cycle found a place; or somebody cancelled it in the queue.
    S.PENDING: frozenset({S.CONFIGURING, S.CANCELLED}),
    # All nodes reported started; or it ended before they did.
    S.CONFIGURING: frozenset({S.RUNNING, S.COMPLETING}),
    # A rank failed, the limit passed, somebody asked, or every rank is done.
    S.RUNNING: frozenset({S.COMPLETING}),
    # Every node proved its devices free. Back to PENDING is a requeue.
    S.COMPLETING: frozenset({S.COMPLETED, S.FAILED, S.CANCELLED, S.PENDING}),
    S.COMPLETED: frozenset(),
    S.FAILED: frozenset(),
    S.CANCELLED: frozenset(),
}


def next_state(current: JobState, wanted: JobState) -> JobState:
    """Move along one arrow of ``TRANSITIONS``.

    Raises:
        InvalidTransition: The table has no such arrow.
    """
    if wanted not in TRANSITIONS[current]:
        raise InvalidTransition(f"job state {current} cannot become {wanted}")
    return wanted


def terminal_state(reason: EndReason) -> JobState:
    """The state in which a job rests when its last attempt ended for ``reason``."""
    match reason:
        case EndReason.COMPLETED:
            return JobState.COMPLETED
        case EndReason.CANCELLED:
            return JobState.CANCELLED
        case (
            EndReason.RANK_FAILED
            | EndReason.TIME_LIMIT
            | EndReason.OUT_OF_MEMORY
            | EndReason.LAUNCH_FAILED
            | EndReason.SHIM_LOST
            | EndReason.NODE_FAIL
            | EndReason.REQUEUED
            | EndReason.DRAINED
            | EndReason.NODE_UNHEALTHY
            | EndReason.PROLOG_FAILED
            | EndReason.STALLED
            | EndReason.UNDERUSED
        ):
            return JobState.FAILED
        case _:
            assert_never(reason)


INFRASTRUCTURE_REASONS = frozenset(
    {
        EndReason.NODE_FAIL,
        EndReason.SHIM_LOST,
        EndReason.DRAINED,
        EndReason.STALLED,
        EndReason.NODE_UNHEALTHY,
        EndReason.PROLOG_FAILED,
    }
)
"""Ends that are not the job's doing: a job marked ``requeue`` gets another attempt after them.

A stall may be the code's own deadlock as well as a dead link. Nobody can tell from outside, it comes to the
same for the job (its time is lost, another node may help), and the budget of restarts bounds the harm.
"""
