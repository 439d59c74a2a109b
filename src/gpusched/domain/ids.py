"""Names of things. A job is a small integer, a node is its name, a device is its UUID."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

JobId = NewType("JobId", int)
"""Handed out once, from 1, never reused."""

NodeName = NewType("NodeName", str)
DeviceUuid = NewType("DeviceUuid", str)
"""NVML's ``GPU-...``/``MIG-...``, or ``DECLARED-<node>-<n>`` where no NVML stands behind it."""

Epoch = NewType("Epoch", int)
"""The number of a job's attempt, from 1: the fencing token on every message about it."""

RequestId = NewType("RequestId", str)
"""Chosen by the client, one per intended mutation; a retry carries the same one."""


@dataclass(frozen=True, slots=True, order=True)
class AttemptId:
    """The ``epoch``-th try of a job. Written ``17.1`` wherever a person or a path sees it."""

    job_id: JobId
    epoch: Epoch

    def __str__(self) -> str:
        return f"{self.job_id}.{self.epoch}"
