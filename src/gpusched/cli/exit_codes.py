"""What a finished ``gpusched`` tells the shell. ``gpusched run`` ends with the job's own code instead."""

from __future__ import annotations

from enum import IntEnum

from gpusched.domain import errors


class ExitCode(IntEnum):
    """Documented in ``docs/reference/cli.md``; a number is never given a second meaning."""

    OK = 0
    FAILED = 1  # the job failed, or something that has no number of its own
    INVALID = 2  # wrong usage, or a field of the job is wrong
    NOT_FOUND = 3
    NOT_PERMITTED = 4  # or not authenticated
    INFEASIBLE = 5  # can never fit, or is over a limit
    UNAVAILABLE = 6  # head, node or store does not answer, or resources are not free: try again
    WRONG_STATE = 7  # or a request id that was used for something else
    BROKEN = 8  # a bug, a damaged file, a configuration that cannot be used
    INTERRUPTED = 130  # Ctrl-C; 128 + SIGINT, as shells count


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "Done.",
    ExitCode.FAILED: "The job failed, or an error without a number of its own.",
    ExitCode.INVALID: "Wrong usage, or a field of the job is wrong.",
    ExitCode.NOT_FOUND: "No such job, node or rank.",
    ExitCode.NOT_PERMITTED: "Not allowed, or no credentials that hold.",
    ExitCode.INFEASIBLE: "The job can never fit this cluster, or a configured limit was passed.",
    ExitCode.UNAVAILABLE: "The head, a node or the store does not answer; try again.",
    ExitCode.WRONG_STATE: "The job or node is not in a state that allows this, or a request id was reused.",
    ExitCode.BROKEN: "A fault of gpusched: a bug, a damaged file or an unusable configuration.",
    ExitCode.INTERRUPTED: "Interrupted with Ctrl-C.",
}

_BY_ERROR: tuple[tuple[type[errors.GpuschedError], ExitCode], ...] = (
    (errors.InvalidSpec, ExitCode.INVALID),
    (errors.NotFound, ExitCode.NOT_FOUND),
    (errors.NotPermitted, ExitCode.NOT_PERMITTED),
    (errors.Unauthenticated, ExitCode.NOT_PERMITTED),
    (errors.InfeasibleRequest, ExitCode.INFEASIBLE),
    (errors.OverLimit, ExitCode.INFEASIBLE),
    (errors.RequestIdReused, ExitCode.WRONG_STATE),
    (errors.WrongState, ExitCode.WRONG_STATE),
    (errors.Unavailable, ExitCode.UNAVAILABLE),
    (errors.Broken, ExitCode.BROKEN),
)


def exit_code_of(error: errors.GpuschedError) -> ExitCode:
    """The code for an error, by its family: the first class of the table that fits."""
    return next((code for kind, code in _BY_ERROR if isinstance(error, kind)), ExitCode.FAILED)
