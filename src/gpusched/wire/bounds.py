"""How long the lists of a request may be: after protobuf has parsed them, before values are made of them."""

from __future__ import annotations

from google.protobuf.message import Message

from gpusched.domain.errors import InvalidSpec, Violation
from gpusched.domain.hostlist import NAMES_MAX

LIST_MAX = NAMES_MAX


def require_short_lists(request: Message, above: str = "") -> None:
    """Refuse a request with a list longer than any that can be meant; lists within lists are not looked at.

    Raises:
        InvalidSpec: Naming the list.
    """
    for field, value in request.ListFields():
        if field.is_repeated:
            if len(value) > LIST_MAX:
                what = f"has {len(value)} elements, the limit is {LIST_MAX}; send fewer"
                raise InvalidSpec((Violation(f"{above}{field.name}", what),))
        elif field.message_type is not None:
            require_short_lists(value, f"{above}{field.name}.")
