"""The trials by bad input, each a module here with ``measure``, ``FULL`` and ``QUICK``."""

from __future__ import annotations

TRIALS = ("rpcs", "files", "injection", "exhaustion", "swaps")
