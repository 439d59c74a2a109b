"""The one door to NVML calls: its errors become ours, what a card cannot tell becomes None."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import pynvml

from gpusched.domain.errors import Unavailable

P = ParamSpec("P")
T = TypeVar("T")

Handle = Any
"""NVML's opaque ``nvmlDevice_t``, of a whole card or of a MIG slice (pynvml has no types)."""

ABSENT = frozenset(
    {
        pynvml.NVML_ERROR_NOT_SUPPORTED,
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,  # the driver is older than pynvml
        pynvml.NVML_ERROR_NO_PERMISSION,
        pynvml.NVML_ERROR_NO_DATA,
        pynvml.NVML_ERROR_NOT_FOUND,
        pynvml.NVML_ERROR_INVALID_ARGUMENT,  # e.g. a link number that the card does not have
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH,
        pynvml.NVML_ERROR_DEPRECATED,
        pynvml.NVML_ERROR_NOT_READY,
        pynvml.NVML_ERROR_INSUFFICIENT_SIZE,  # the process list grew between pynvml's two calls
    }
)
"""Codes that say "this value cannot be had". All others say that something is wrong with the card."""


class DeviceUnreadable(Unavailable):
    """A GPU, or the driver behind it, stopped answering; other GPUs may still be fine."""


class NvmlBroken(Unavailable):
    """The NVIDIA driver is installed and does not work."""


def read(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call NVML for a value that must be there.

    Raises:
        DeviceUnreadable: NVML returned any error.
    """
    try:
        return call(*args, **kwargs)
    except pynvml.NVMLError as error:
        raise DeviceUnreadable(f"{call.__name__}: {error}") from error


def read_or_none(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Call NVML for a value that a card may lack; None then.

    Raises:
        DeviceUnreadable: NVML returned an error that is not in ``ABSENT``.
    """
    try:
        return call(*args, **kwargs)
    except pynvml.NVMLError as error:
        if error.value in ABSENT:
            return None
        raise DeviceUnreadable(f"{call.__name__}: {error}") from error
