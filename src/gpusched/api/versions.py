"""Which agents a head serves: those of its own minor version and of its two neighbours."""

from __future__ import annotations

import re

_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})(?:[.\-+a-z].*)?")


def why_not_served(agent: str, head: str) -> str | None:
    """Why a head of version ``head`` does not serve an agent of version ``agent``; None: it does.

    One minor version apart either way, so that heads and agents can be upgraded one after the other in any
    order. What is no version (a checkout that was never installed) is served.
    """
    ours, theirs = _minor(head), _minor(agent)
    if ours is None or theirs is None or (ours[0] == theirs[0] and abs(ours[1] - theirs[1]) <= 1):
        return None
    return (
        f"an agent of version {agent} is too far from this head's {head}: "
        f"install {ours[0]}.{ours[1]} on the node, or one minor version beside it"
    )


def _minor(version: str) -> tuple[int, int] | None:
    match = _VERSION.fullmatch(version)
    return None if match is None else (int(match[1]), int(match[2]))
