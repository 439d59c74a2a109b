"""The trials by fire, each a module here with ``measure``, ``Sizes``, and ``QUICK`` ones for tests."""

from __future__ import annotations

TRIALS = (
    "heads",
    "agents",
    "outages",
    "clocks",
    "partitions",
    "failover",
    "escapees",
    "hang",
    "stragglers",
    "restart",
    "health",
    "upgrade",
)
