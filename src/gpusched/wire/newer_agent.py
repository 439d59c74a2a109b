"""What an agent of the next version says to this head: what has no words here does not end its stream."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from gpusched.domain.errors import InvalidSpec
from gpusched.domain.link import FromAgent
from gpusched.v1 import agent_service_pb2 as pb
from gpusched.wire.convert import FROM_AGENT

log = logging.getLogger(__name__)


async def readable(requests: AsyncIterator[pb.ConnectRequest]) -> AsyncIterator[FromAgent]:
    """The messages of an agent that this version has words for; the others are told of, once a stream.

    A fact among them is not acknowledged: the agent repeats it to the head that comes next.

    Raises:
        InvalidSpec: A message is wrong, and not for being of a newer version.
    """
    is_told = False
    async for request in requests:
        try:
            message = FROM_AGENT.from_proto(request)
        except InvalidSpec as error:
            if not _is_newer(request):
                raise
            if not is_told:
                log.warning("an agent says what this head does not know: upgrade the head (%s)", error)
            is_told = True
            continue
        yield message


def _is_newer(request: pb.ConnectRequest) -> bool:
    """Whether what lacks is there in a field that this version does not have."""
    empty: list[Message] = []
    if request.WhichOneof("message") is None:
        empty.append(request)
    elif request.HasField("report") and request.report.WhichOneof("fact") is None:
        empty.append(request.report)
    return any(len(UnknownFieldSet(message)) > 0 for message in empty)
