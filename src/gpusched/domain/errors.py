"""Every error gpusched raises on purpose. The caller's next step decides the family.

    GpuschedError
    ├── Rejected                 the request is at fault: change it
    │   ├── InvalidSpec          a field is wrong; ``violations`` says which and why
    │   ├── InfeasibleRequest    can never fit this cluster, even empty
    │   ├── OverLimit            a configured bound was passed
    │   ├── NotFound             no such job, node, rank
    │   ├── NotPermitted         the subject may not do this
    │   ├── Unauthenticated      no credentials, or none that hold
    │   ├── RequestIdReused      the same request id with a different body
    │   └── WrongState           the job or node is not in a state that allows this
    ├── Unavailable              nothing is wrong with the request: try again
    │   ├── InsufficientResources   fits the cluster, not now
    │   ├── StalePlan            the cluster changed since the plan was made
    │   ├── StoreUnavailable     the database does not answer
    │   ├── HeadUnavailable      the head does not answer
    │   ├── NotLeading           another head leads; ``leader`` says where
    │   ├── NodeUnavailable      the node's agent does not answer
    │   └── TooManyRequests      the subject asks too often; ``retry_after_s`` says when to ask again
    └── Broken                   our fault: a bug or a damaged file
        ├── InvalidTransition    a state change that TRANSITIONS does not list
        ├── LogCorrupt           the event log contradicts itself
        └── ConfigInvalid        a configuration file that cannot be used

A message names the thing, the limit and the remedy.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Violation:
    """One wrong field: ``field`` is its path (``env.PATH``), ``message`` says why and the remedy."""

    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class GpuschedError(Exception):
    """The root: catch it to catch everything gpusched raises on purpose."""


class Rejected(GpuschedError):
    """The request is at fault; sending it again unchanged will fail again."""


class InvalidSpec(Rejected):
    """One or more fields are wrong.

    Args:
        violations: What is wrong, one entry per field, never empty.
    """

    def __init__(self, violations: tuple[Violation, ...]) -> None:
        super().__init__("; ".join(map(str, violations)))
        self.violations = violations


class InfeasibleRequest(Rejected):
    """Can never run on this cluster, even if it were empty: not ever."""


class OverLimit(Rejected):
    """A configured bound was passed."""


class NotFound(Rejected):
    """No such job, node or rank."""


class NotPermitted(Rejected):
    """The subject is known and may not do this."""


class Unauthenticated(Rejected):
    """No credentials were given, or they do not hold."""


class RequestIdReused(Rejected):
    """The request id was used before for a different request."""


class WrongState(Rejected):
    """The job or node is not in a state in which this can be done."""


class Unavailable(GpuschedError):
    """Nothing is wrong with the request; try again later."""


class InsufficientResources(Unavailable):
    """Fits the cluster, but not now: not yet."""


class StalePlan(Unavailable):
    """The cluster changed between the making of a plan and its commit."""


class StoreUnavailable(Unavailable):
    """The database does not answer or refuses to write."""


class HeadUnavailable(Unavailable):
    """No head answers at the address."""


class TooManyRequests(Unavailable):
    """The subject asks too often; nothing was done.

    Args:
        message: What to tell.
        retry_after_s: When the next request is taken.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class NotLeading(Unavailable):
    """This head stands by, or was deposed; it has written and will write nothing.

    Args:
        message: What to tell.
        leader: Address of the head that leads, as it gives it; None: not known.
    """

    def __init__(self, message: str, *, leader: str | None = None) -> None:
        super().__init__(message)
        self.leader = leader


class NodeUnavailable(Unavailable):
    """The agent of a node is not connected."""


class Broken(GpuschedError):
    """A fault of gpusched or of a file it owns."""


class InvalidTransition(Broken):
    """A state change that the transition table does not list."""


class LogCorrupt(Broken):
    """The event log contradicts itself."""


class ConfigInvalid(Broken):
    """A configuration file that cannot be used; names file, key and remedy."""
