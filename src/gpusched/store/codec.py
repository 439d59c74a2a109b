"""Domain values as JSON text and back, by msgspec.

Events and commands are unions; their class name stands beside the text, in a column of its
own. Fields unknown to this version are ignored and absent ones take their default, so a
field with a default may be added without a migration. A NaN or infinite float has no JSON:
it is written as null; the door (``api.measured``) takes them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, get_args

import msgspec

from gpusched.domain.allocation import Allocation
from gpusched.domain.commands import Command
from gpusched.domain.errors import LogCorrupt
from gpusched.domain.events import Event
from gpusched.domain.health import Outage
from gpusched.domain.ids import DeviceUuid, JobId
from gpusched.domain.job import Job
from gpusched.domain.node import Node
from gpusched.domain.telemetry import NodeUse

T = TypeVar("T")

_ENCODER = msgspec.json.Encoder()


def encode(value: object) -> str:
    """Write any domain value as JSON text."""
    return _ENCODER.encode(value).decode()


class Codec(Generic[T]):
    """Reads one type back."""

    def __init__(self, form: Any, name: str) -> None:
        self._decoder: msgspec.json.Decoder[T] = msgspec.json.Decoder(form)
        self._name = name

    def decode(self, text: str) -> T:
        """Read a value that ``encode`` wrote.

        Raises:
            LogCorrupt: It is not JSON of this type: the database was changed by other hands,
                or by a newer version.
        """
        try:
            return self._decoder.decode(text)
        except msgspec.MsgspecError as error:
            raise LogCorrupt(
                f"the store holds a {self._name} that cannot be read ({error}); restore a backup, "
                "or run the version of gpusched that wrote it"
            ) from error


class TaggedCodec(Generic[T]):
    """Reads the members of a union back, by class name."""

    def __init__(self, union: Any) -> None:
        members: tuple[type, ...] = get_args(union)
        self._codecs: Mapping[str, Codec[T]] = {
            member.__name__: Codec(member, member.__name__) for member in members
        }

    @property
    def kinds(self) -> frozenset[str]:
        """Every class name that can be read."""
        return frozenset(self._codecs)

    def decode(self, kind: str, text: str) -> T:
        """Read a value of the class named ``kind``.

        Raises:
            LogCorrupt: No such class, or the text is not one of it.
        """
        codec = self._codecs.get(kind)
        if codec is None:
            raise LogCorrupt(
                f"the store holds a {kind!r}, which this version does not know; "
                "run the version of gpusched that wrote it"
            )
        return codec.decode(text)


def kind_of(value: object) -> str:
    """The tag of an event or a command."""
    return type(value).__name__


EVENTS: TaggedCodec[Event] = TaggedCodec(Event)
COMMANDS: TaggedCodec[Command] = TaggedCodec(Command)
JOB: Codec[Job] = Codec(Job, "job")
NODE: Codec[Node] = Codec(Node, "node")
ALLOCATION: Codec[Allocation] = Codec(Allocation, "allocation")
NODE_USE: Codec[NodeUse] = Codec(NodeUse, "node use")
JOB_IDS: Codec[tuple[JobId, ...]] = Codec(tuple[JobId, ...], "list of job ids")
DEVICES: Codec[tuple[tuple[DeviceUuid, str], ...]] = Codec(
    tuple[tuple[DeviceUuid, str], ...], "list of devices"
)
OUTAGES: Codec[tuple[Outage, ...]] = Codec(tuple[Outage, ...], "list of outages")
