"""Orders: imperatives from the engine to a node. At least once; the node takes each once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

from gpusched.domain.ids import DeviceUuid, Epoch, JobId, NodeName
from gpusched.domain.launch_plan import NodeLaunch


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchTasks:
    """Start one node's part of an attempt. A second one for the same attempt starts nothing new."""

    job_id: JobId
    epoch: Epoch
    node: NodeName
    launch: NodeLaunch


@dataclass(frozen=True, slots=True, kw_only=True)
class StopTasks:
    """End one node's part: SIGTERM, ``kill_wait_s``, then SIGKILL. Unknown attempts are fine.

    It answers with ``TasksEnded`` even where nothing runs (any more): a node that never
    got the launch must refuse it if it comes later.
    """

    job_id: JobId
    epoch: Epoch
    node: NodeName
    kill_wait_s: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairNode:
    """Reset these devices, if any, then check what is named, or the whole node if none is.

    Answered with ``RepairEnded``. A device that an attempt holds is not reset; a number that was
    answered before is answered the same again.
    """

    node: NodeName
    number: int
    reset: tuple[DeviceUuid, ...]
    check: tuple[DeviceUuid, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpStacks:
    """Keep what every rank of the attempt on this node is doing now. A stop that follows waits for it."""

    job_id: JobId
    epoch: Epoch
    node: NodeName


Command = LaunchTasks | StopTasks | DumpStacks | RepairNode

KINDS = tuple(sorted(kind.__name__ for kind in get_args(Command)))
"""Every kind of order that this version has: what an agent says in its hello that it understands."""

FIRST_KINDS = ("DumpStacks", "LaunchTasks", "RepairNode", "StopTasks")
"""What an agent understands that does not say: it is of a version before such words. Never add to it."""


def kind_of(command: Command) -> str:
    """The name of an order, for logs and for what agents say they understand."""
    return type(command).__name__


@dataclass(frozen=True, slots=True)
class Queued:
    """A command in the outbox; ``seq`` names it until its node has acknowledged it."""

    seq: int
    command: Command
